//! Calling a tool that works, that fails, and that is not there.

use osvm_mcp::{CallOutcome, Client, Limits, McpError};
use serde_json::{Value, json};

use crate::peer::{LONG, Peer, connected, raw};

async fn call(client: &Client, name: &str) -> Result<CallOutcome, McpError> {
    client.call_tool(name, &raw(&json!({ "param": "value" })), LONG).await
}

/// How servers answer a call that they don't like.
async fn dislike(peer: &mut Peer, how: &str) {
    let request = peer.expect("tools/call").await;
    match how {
        "result" => {
            let content = json!([{ "type": "text", "text": "Unknown tool" }]);
            peer.answer(&request, json!({ "content": content, "isError": true })).await;
        }
        code => peer.refuse(&request, code.parse().unwrap(), "Unknown tool", Value::Null).await,
    }
}

async fn list(peer: &mut Peer, names: &[&str]) {
    let tools: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    peer.serve("tools/list", json!({ "tools": tools })).await;
}

#[tokio::test]
async fn a_call_that_works_asks_for_nothing_else() {
    let (mut peer, client) = connected(Limits::default()).await;
    let (outcome, request) = tokio::join!(
        call(&client, "echo"),
        peer.serve("tools/call", json!({ "content": [], "isError": false })),
    );
    assert_eq!(request["params"], json!({ "name": "echo", "arguments": { "param": "value" } }));
    let outcome = outcome.unwrap();
    assert_eq!(
        (outcome.is_error, outcome.result.get()),
        (false, r#"{"content":[],"isError":false}"#)
    );
}

#[tokio::test]
async fn a_tool_that_is_not_listed_is_missing_however_the_server_says_so() {
    for how in ["-32602", "-32601", "-32603", "0", "result"] {
        let (mut peer, client) = connected(Limits::default()).await;
        let server = async {
            dislike(&mut peer, how).await;
            list(&mut peer, &["add", "read_file", "écho"]).await;
        };
        let (outcome, ()) = tokio::join!(call(&client, "readfile"), server);
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), "no such tool: readfile");
        let McpError::NoSuchTool { nearest, .. } = error else { panic!("{error}") };
        assert_eq!(nearest.as_deref(), Some("read_file"), "{how}");
    }
}

#[tokio::test]
async fn a_name_like_no_other_has_no_hint() {
    let (mut peer, client) = connected(Limits::default()).await;
    let long = "x".repeat(100_000);
    let server = async {
        dislike(&mut peer, "-32602").await;
        list(&mut peer, &["add", "echo", &long]).await;
    };
    let (outcome, ()) = tokio::join!(call(&client, "delete_everything"), server);
    assert!(matches!(outcome, Err(McpError::NoSuchTool { nearest: None, .. })));
}

#[tokio::test]
async fn a_listed_tool_that_fails_has_failed() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        for how in ["result", "-32602"] {
            dislike(&mut peer, how).await;
            list(&mut peer, &["echo"]).await;
        }
    };
    let calls = async { (call(&client, "echo").await, call(&client, "echo").await) };
    let ((result, error), ()) = tokio::join!(calls, server);
    assert!(result.unwrap().is_error);
    assert!(matches!(error.unwrap_err(), McpError::Rpc(error) if error.code == -32602));
}

#[tokio::test]
async fn without_a_list_the_first_failure_stands() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        dislike(&mut peer, "-32602").await;
        let request = peer.expect("tools/list").await;
        peer.refuse(&request, -32603, "internal error", Value::Null).await;
    };
    let (outcome, ()) = tokio::join!(call(&client, "echo"), server);
    assert_eq!(outcome.unwrap_err().to_string(), "the server refused: Unknown tool (code -32602)");
}

#[tokio::test]
async fn a_servers_error_stays_what_it_is_where_no_list_is_asked_for() {
    let (mut peer, client) = connected(Limits::default()).await;
    let error = r#"{"code":-32602,"message":"Unknown tool","data":{"x" : 1.0},"more":[]}"#;
    let server = async {
        let request = peer.expect("tools/call").await;
        let id = &request["id"];
        peer.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)).await;
    };
    let arguments = raw(&json!({}));
    let (outcome, ()) = tokio::join!(client.call_as_it_is("echo", &arguments, LONG), server);
    let McpError::Rpc(refused) = outcome.unwrap_err() else { panic!("it is the server's") };
    assert_eq!((refused.code, refused.spelled.get()), (-32602, error));
}

#[tokio::test]
async fn results_that_are_none_are_told_apart() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let asks = json!({ "resultType": "input_required", "requestState": "s" });
        for result in [asks, json!({ "resultType": "task" }), json!([])] {
            peer.serve("tools/call", result).await;
        }
    };
    let calls = async {
        [call(&client, "a").await, call(&client, "a").await, call(&client, "a").await]
            .map(|outcome| outcome.unwrap_err().to_string())
    };
    let ([asks, unknown, array], ()) = tokio::join!(calls, server);
    assert_eq!(asks, "a asks for input, which was not offered");
    assert_eq!(unknown, "the server broke the protocol: a result of the unknown type task");
    assert!(
        array.starts_with("the server broke the protocol: the result of tools/call"),
        "{array}"
    );
}
