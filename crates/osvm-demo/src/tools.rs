//! The demo's tools. Their definitions, as clients see them, are in `tools.json`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rmcp::model::{JsonObject, Tool};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};
use thiserror::Error;

use crate::system::SystemInfo;

const MIB: usize = 1 << 20;

/// What a tool returned: words, and data where its definition has a schema for it.
pub(crate) struct Output {
    pub(crate) text: String,
    pub(crate) data: Option<Value>,
}

impl Output {
    fn text(text: String) -> Self {
        Self { text, data: None }
    }
}

/// Why there is no output.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("unknown tool: {0}")]
    UnknownTool(String),
    #[error("invalid arguments: {0}")]
    Arguments(serde_json::Error),
    #[error("{act} {}: {source}", path.display())]
    File { act: &'static str, path: PathBuf, source: std::io::Error },
    #[error("variable {0} is not set")]
    Unset(String),
    #[error("{0} MiB are not to be had")]
    Memory(usize),
    #[error("{0}")]
    Asked(String),
    #[error("cancelled")]
    Cancelled,
}

/// Memory held until the process ends.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Vec<Vec<u8>>>);

/// The tools' definitions.
pub(crate) fn list() -> Vec<Tool> {
    serde_json::from_str(include_str!("tools.json")).expect("a test reads the same file")
}

/// Runs the tool of that name.
pub(crate) async fn call(
    name: &str,
    arguments: JsonObject,
    kept: &Kept,
) -> Result<Output, Failure> {
    match name {
        "echo" => parse(arguments).map(echo),
        "add" => parse(arguments).map(|numbers| add(&numbers)),
        "system_info" => parse(arguments).map(system_info),
        "sleep" => Ok(sleep(parse(arguments)?).await),
        "allocate" => allocate(&parse(arguments)?, kept).await,
        "write_file" => write_file(parse(arguments)?),
        "read_file" => read_file(parse(arguments)?),
        "env" => env(parse(arguments)?),
        "fail" => Err(parse(arguments).map_or_else(|error| error, fail)),
        "exit" => exit(&parse(arguments)?),
        unknown => Err(Failure::UnknownTool(unknown.to_owned())),
    }
}

fn parse<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, Failure> {
    serde_json::from_value(Value::Object(arguments)).map_err(Failure::Arguments)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Echo {
    text: String,
}

fn echo(Echo { text }: Echo) -> Output {
    Output::text(text)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    a: Number,
    b: Number,
}

/// Exact for integers, which have 64 bits at most, else a sum of floating-point numbers.
fn add(Add { a, b }: &Add) -> Output {
    let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
    Output::text(match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => (a + b).to_string(),
        _ => (float(a) + float(b)).to_string(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn system_info(Nothing {}: Nothing) -> Output {
    let info = SystemInfo::read(Path::new("/proc"), Path::new("/etc/passwd"));
    Output { text: info.to_string(), data: Some(info.to_value()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sleep {
    ms: u64,
}

async fn sleep(Sleep { ms }: Sleep) -> Output {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Output::text(format!("slept {ms} ms"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Allocate {
    mib: usize,
    #[serde(default)]
    keep: bool,
}

/// Goes MiB by MiB, so that the server answers others and can be cancelled meanwhile.
async fn allocate(Allocate { mib, keep }: &Allocate, kept: &Kept) -> Result<Output, Failure> {
    let refused = |_| Failure::Memory(*mib);
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(*mib).map_err(refused)?;
    for _ in 0..*mib {
        let mut block = Vec::new();
        block.try_reserve_exact(MIB).map_err(refused)?;
        block.resize(MIB, 0xa5);
        blocks.push(block);
        tokio::task::yield_now().await;
    }
    if *keep {
        kept.0.lock().expect("nothing panics while holding it").append(&mut blocks);
    }
    Ok(Output::text(format!("{} {mib} MiB", if *keep { "keeping" } else { "touched and freed" })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteFile {
    path: PathBuf,
    content: String,
}

fn write_file(WriteFile { path, content }: WriteFile) -> Result<Output, Failure> {
    match std::fs::write(&path, &content) {
        Ok(()) => Ok(Output::text(format!("wrote {} bytes to {}", content.len(), path.display()))),
        Err(source) => Err(Failure::File { act: "write", path, source }),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadFile {
    path: PathBuf,
}

fn read_file(ReadFile { path }: ReadFile) -> Result<Output, Failure> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Output::text(text)),
        Err(source) => Err(Failure::File { act: "read", path, source }),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Env {
    name: String,
}

#[expect(clippy::disallowed_methods, reason = "showing the server's environment is the tool's job")]
fn env(Env { name }: Env) -> Result<Output, Failure> {
    match std::env::var_os(&name) {
        Some(value) => Ok(Output::text(value.to_string_lossy().into_owned())),
        None => Err(Failure::Unset(name)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    message: String,
}

fn fail(Fail { message }: Fail) -> Failure {
    Failure::Asked(message)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exit {
    code: u8,
}

#[expect(clippy::disallowed_methods, reason = "ending the process is the tool's job")]
fn exit(Exit { code }: &Exit) -> ! {
    std::process::exit(i32::from(*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of a tool that needs no waiting, as text.
    async fn run(name: &str, arguments: Value) -> Result<String, Failure> {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        Ok(call(name, arguments, &Kept::default()).await?.text)
    }

    #[tokio::test]
    async fn each_listed_tool_exists_and_takes_the_arguments_it_lists() {
        for tool in list() {
            let surplus = run(&tool.name, serde_json::json!({ "surplus": 1 })).await.err().unwrap();
            let Failure::Arguments(error) = surplus else { panic!("{}: {surplus}", tool.name) };
            let expected = error.to_string();
            let listed = tool.input_schema.get("properties").and_then(Value::as_object);
            for name in listed.into_iter().flat_map(JsonObject::keys) {
                assert!(expected.contains(&format!("`{name}`")), "{}: {expected}", tool.name);
            }
            assert_eq!(tool.input_schema["additionalProperties"], false, "{}", tool.name);
        }
    }

    #[test]
    fn each_tool_and_each_of_its_arguments_is_described() {
        for tool in list() {
            assert!(tool.description.is_some_and(|text| text.ends_with('.')), "{}", tool.name);
            let arguments = tool.input_schema.get("properties").and_then(Value::as_object);
            for argument in arguments.into_iter().flat_map(JsonObject::values) {
                assert!(argument["description"].is_string(), "{}: {argument}", tool.name);
            }
        }
    }

    #[test]
    fn the_output_schema_lists_what_system_info_returns() {
        let tools = list();
        let tool = tools.iter().find(|tool| tool.name == "system_info").unwrap();
        let schema = tool.output_schema.as_ref().unwrap()["properties"].as_object().unwrap();
        let value = SystemInfo::read(Path::new("/nowhere"), Path::new("/nowhere")).to_value();
        let mut listed: Vec<_> = schema.keys().collect();
        let mut returned: Vec<_> = value.as_object().unwrap().keys().collect();
        listed.sort();
        returned.sort();
        assert_eq!(listed, returned);
    }

    #[tokio::test]
    async fn sums_are_exact_where_they_can_be() {
        for (a, b, sum) in [
            ("1", "2", "3"),
            ("0.5", "0.25", "0.75"),
            ("9007199254740993", "1", "9007199254740994"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("-1", "1e2", "99"),
        ] {
            let arguments = format!(r#"{{"a":{a},"b":{b}}}"#);
            assert_eq!(run("add", serde_json::from_str(&arguments).unwrap()).await.unwrap(), sum);
        }
    }

    #[tokio::test]
    async fn more_memory_than_there_is_is_refused() {
        let error = run("allocate", serde_json::json!({ "mib": u64::MAX })).await.unwrap_err();
        assert_eq!(error.to_string(), "18446744073709551615 MiB are not to be had");
    }
}
