//! A server with all that the official MCP conformance suite asks of one, for `cargo xtask conformance`.
//!
//! What it answers stands in the JSON files beside this one, written from the suite's own descriptions. It speaks over
//! stdio; with `--http ADDRESS` over HTTP, by rmcp's own transport; as `relay URL` it is no server but the way to one.

#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "stderr is where an MCP server logs")]

mod changes;
mod http;
mod prompts;
mod relay;
mod resources;
mod rounds;
mod server;
mod tools;
mod waits;

use std::error::Error;
use std::process::ExitCode;

use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;
use rmcp::transport::io::stdio_pipes;

use server::Conformance;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match words[..] {
        [] => run(stdio()),
        ["--http", address] => run(http::serve(address)),
        ["relay", url] => relay::run(url),
        _ => Err("usage: conformance [--http ADDRESS | relay URL]".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(work: impl Future<Output = Result<(), Box<dyn Error>>>) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Answers until standard input ends.
async fn stdio() -> Result<(), Box<dyn Error>> {
    match Conformance::default().serve(stdio_pipes()).await {
        Ok(running) => {
            running.waiting().await?;
            Ok(())
        }
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use osvm_mcp::{Client, ClientInfo, Era, Limits};
    use serde_json::value::to_raw_value;
    use serde_json::{Map, Value, json};

    use super::*;

    /// Long enough for a loaded machine; no test waits for it unless it fails.
    const LONG: Duration = Duration::from_secs(60);

    async fn meet(era: Era) -> Client {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let running = Conformance::default().serve(tokio::io::split(far)).await.unwrap();
            running.waiting().await
        });
        let (reader, writer) = tokio::io::split(near);
        let info = ClientInfo { name: "test".to_owned(), version: "1".to_owned() };
        let client = match era {
            Era::Legacy => Client::connect(reader, writer, info, Limits::default()).await,
            Era::Modern => Client::connect_modern(reader, writer, info, Limits::default()).await,
        };
        client.unwrap()
    }

    /// What a tool requires, as texts.
    fn arguments(schema: &Value) -> Map<String, Value> {
        let required = schema["required"].as_array().into_iter().flatten();
        let mut arguments: Map<_, _> =
            required.filter_map(Value::as_str).map(|name| (name.to_owned(), json!("x"))).collect();
        if schema.get("allOf").is_some() {
            arguments.insert("email".to_owned(), json!("x"));
        }
        arguments
    }

    #[tokio::test]
    async fn each_listed_tool_is_known_in_both_eras() {
        for era in [Era::Legacy, Era::Modern] {
            let client = meet(era).await;
            for tool in tools::list().iter().filter(|tool| !waits::TOOLS.contains(&&*tool.name)) {
                let schema = Value::Object((*tool.input_schema).clone());
                let arguments = to_raw_value(&arguments(&schema)).unwrap();
                let answer = client.call_tool(&tool.name, &arguments, LONG).await;
                let unknown = answer.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(!unknown.contains("unknown tool"), "{}: {unknown}", tool.name);
            }
        }
    }

    #[tokio::test]
    async fn a_call_that_waits_ends_when_its_client_has_had_enough() {
        for era in [Era::Legacy, Era::Modern] {
            let client = meet(era).await;
            let none = to_raw_value(&json!({})).unwrap();
            let call = |name| client.call_tool(name, &none, LONG);
            // The call that is answered last is dropped, which cancels it.
            tokio::select! {
                biased;
                answer = call("test_wait") => panic!("it does not wait: {answer:?}"),
                answer = call("test_simple_text") => drop(answer.unwrap()),
            }
            let told = call("test_cancelled").await.unwrap().result;
            assert!(told.get().contains("was cancelled"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_fixed_answer_is_the_one_of_its_file() {
        let client = meet(Era::Legacy).await;
        let none = to_raw_value(&json!({})).unwrap();
        let answer = client.call_tool("test_simple_text", &none, LONG).await.unwrap();
        let answer: Value = serde_json::from_str(answer.result.get()).unwrap();
        assert_eq!(answer["content"][0]["text"], "This is a simple text response for testing.");
        assert!(client.call_tool("test_error_handling", &none, LONG).await.unwrap().is_error);
    }

    #[test]
    fn each_listed_resource_and_prompt_is_there() {
        for resource in resources::list() {
            resources::read(&resource.uri).unwrap();
        }
        resources::read("test://template/123/data").unwrap();
        assert!(resources::read("test://template//data").is_err());
        for prompt in prompts::list() {
            let required = prompt.arguments.into_iter().flatten();
            let arguments = required.map(|argument| (argument.name, json!("x"))).collect();
            prompts::get(&prompt.name, &arguments).unwrap();
        }
    }
}
