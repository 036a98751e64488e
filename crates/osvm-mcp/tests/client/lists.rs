//! Lists of many pages, and of too many.

use osvm_mcp::{Limits, McpError};
use serde_json::{Value, json};

use crate::peer::{LONG, connected};

fn page(names: &[&str], next: &Value) -> Value {
    let tools: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    json!({ "tools": tools, "nextCursor": next })
}

#[tokio::test]
async fn pages_are_fetched_until_there_is_no_cursor() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let first = peer.serve("tools/list", page(&["a", "b"], &json!(""))).await;
        assert_eq!(first["params"], Value::Null);
        let second = peer.serve("tools/list", page(&["c"], &json!("2"))).await;
        assert_eq!(second["params"], json!({ "cursor": "" }), "an empty cursor is one");
        peer.serve("tools/list", page(&[], &Value::Null)).await;
    };
    let (tools, ()) = tokio::join!(client.list_tools(LONG), server);
    let tools = tools.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_list_without_end_is_cut_off() {
    for names in [&["a"][..], &[]] {
        let (mut peer, client) = connected(Limits { list_items: 20, ..Limits::default() }).await;
        let server = async {
            for cursor in 0.. {
                peer.serve("tools/list", page(names, &json!(cursor.to_string()))).await;
            }
        };
        let error = tokio::select! {
            tools = client.list_tools(LONG) => tools.unwrap_err(),
            () = server => unreachable!("it has no end"),
        };
        assert!(matches!(error, McpError::Limit { .. }), "{error}");
        let expected = "the server exceeded a limit: the answer to tools/list is too long";
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_page_of_too_many_items_is_refused() {
    let (mut peer, client) = connected(Limits::default()).await;
    let names = vec!["a"; 10_001];
    let server = peer.serve("tools/list", page(&names, &Value::Null));
    let (tools, _) = tokio::join!(client.list_tools(LONG), server);
    assert!(matches!(tools.unwrap_err(), McpError::Limit { .. }));
}

#[tokio::test]
async fn pages_that_are_too_much_together_are_refused() {
    let (mut peer, client) = connected(Limits { line_bytes: 2000, ..Limits::default() }).await;
    let name = "x".repeat(900);
    let server = async {
        for cursor in ["1", "2", "3"] {
            peer.serve("tools/list", page(&[&name], &json!(cursor))).await;
        }
    };
    let (tools, ()) = tokio::join!(client.list_tools(LONG), server);
    assert!(matches!(tools.unwrap_err(), McpError::Limit { .. }));
}

#[tokio::test]
async fn a_repeated_cursor_is_a_broken_protocol() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        peer.serve("tools/list", page(&["a"], &json!("again"))).await;
        peer.serve("tools/list", page(&["b"], &json!("again"))).await;
    };
    let (tools, ()) = tokio::join!(client.list_tools(LONG), server);
    let error = tools.unwrap_err().to_string();
    assert_eq!(
        error,
        "the server broke the protocol: the result of tools/list: it repeats a cursor"
    );
}

#[tokio::test]
async fn one_broken_definition_does_not_hide_the_others() {
    let (mut peer, client) = connected(Limits::default()).await;
    let prompts = json!({ "prompts": [
        { "name": "good", "title": "Good", "description": "text", "arguments": [] },
        { "name": 1 }, { "title": "nameless" }, "text", null,
    ] });
    let (prompts, _) = tokio::join!(client.list_prompts(LONG), peer.serve("prompts/list", prompts));
    let prompts = prompts.unwrap();
    assert_eq!(prompts.len(), 1);
    assert_eq!((&*prompts[0].name, prompts[0].title.as_deref()), ("good", Some("Good")));
    assert!(prompts[0].raw.get().contains("arguments"));
}

#[tokio::test]
async fn what_is_not_declared_is_not_asked_for() {
    let (peer, client) = connected(Limits::default()).await;
    assert!(client.list_resources(LONG).await.unwrap().is_empty());
    assert!(client.list_resource_templates(LONG).await.unwrap().is_empty());
    drop(peer);
}

#[tokio::test]
async fn a_server_without_that_method_has_an_empty_list() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let request = peer.expect("tools/list").await;
        peer.refuse(&request, -32601, "Method not found", Value::Null).await;
    };
    let (tools, ()) = tokio::join!(client.list_tools(LONG), server);
    assert!(tools.unwrap().is_empty());
}
