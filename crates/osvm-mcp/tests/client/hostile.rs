//! The client against servers that break every rule. Each peer here is played by hand.

use std::time::Duration;

use osvm_mcp::{Client, Limits, McpError};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::peer::{LONG, ask, connected, info, pair, raw};

#[tokio::test]
async fn text_around_messages_is_skipped_and_counted() {
    let (mut peer, (reader, writer)) = pair();
    let server = async {
        peer.output
            .write_all(b"Listening on stdio...\r\n\r\n{\"level\":\"info\"}\n")
            .await
            .unwrap();
        peer.output.write_all(b"[2026-01-01] started\n\xff\xfe\n\0\0\n{\"a\":\n").await.unwrap();
        peer.handshake().await;
        peer.send("warning: {").await;
        peer.output.write_all(b"\0\xef\xbb\xbf ").await.unwrap();
        peer.serve("x", json!(1)).await;
    };
    let client = async {
        let client = Client::connect(reader, writer, info(), Limits::default()).await.unwrap();
        assert_eq!(ask(&client, "x").await.unwrap(), json!(1));
        client.received()
    };
    let (received, ()) = tokio::join!(client, server);
    assert_eq!((received.messages, received.garbage, received.strays), (2, 6, 0));
    assert_eq!(received.last_garbage, ["\u{fffd}\u{fffd}", "{\"a\":", "warning: {"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_at_the_deadline() {
    let (mut peer, (reader, writer)) = pair();
    let error = Client::connect(reader, writer, info(), Limits::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "no answer to initialize within 60 s; received so far: nothing");
    peer.expect("initialize").await;
    assert_eq!(peer.read().await, Value::Null, "initialize must not be cancelled");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_error_shows_what_came_instead_of_an_answer() {
    let (mut peer, (reader, writer)) = pair();
    peer.send("Usage: server [OPTIONS]\u{1b}[31m").await;
    let error = Client::connect(reader, writer, info(), Limits::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no answer to initialize within 60 s; received so far: 1 line of other text, \
         the last: `Usage: server [OPTIONS]\u{fffd}[31m`"
    );
}

#[tokio::test(start_paused = true)]
async fn the_deadline_error_shows_a_prompt_that_waits_for_somebody() {
    let (mut peer, (reader, writer)) = pair();
    peer.output.write_all(b"Password: ").await.unwrap();
    let error = Client::connect(reader, writer, info(), Limits::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("so far: an unfinished line: `Password:`"), "{error}");
}

#[tokio::test]
async fn a_program_that_echoes_is_no_server() {
    let (mut peer, (reader, writer)) = pair();
    let echo = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut peer.input, &mut peer.output).await;
    });
    let error = Client::connect(reader, writer, info(), Limits::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "the server broke the protocol: it sends back what it is sent");
    echo.await.unwrap();
}

#[tokio::test]
async fn a_program_that_prints_without_end_is_no_server() {
    let (mut peer, (reader, writer)) = pair();
    let yes = tokio::spawn(async move { while peer.output.write_all(b"y\n").await.is_ok() {} });
    let error = Client::connect(reader, writer, info(), Limits::default()).await.unwrap_err();
    assert!(matches!(error, McpError::Limit { .. }), "{error}");
    assert!(error.to_string().contains("more than 10000 lines before its first message"));
    yes.await.unwrap();
}

#[tokio::test]
async fn a_second_answer_and_answers_to_nobody_are_dropped_and_counted() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let request = peer.expect("a").await;
        for id in ["4711", "\"2\"", "2.0", "-1", "99999999999999999999", "true"] {
            peer.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"wrong"}}"#)).await;
        }
        peer.answer(&request, json!("right")).await;
        peer.answer(&request, json!("again")).await;
        peer.serve("b", json!("next")).await;
    };
    let asking = async { (ask(&client, "a").await.unwrap(), ask(&client, "b").await.unwrap()) };
    let (answers, ()) = tokio::join!(asking, server);
    assert_eq!(answers, (json!("right"), json!("next")));
    assert_eq!((client.received().strays, client.received().garbage), (6, 1));
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order_and_any_chunks() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let [first, second] = [peer.expect("a").await, peer.expect("b").await];
        let line = |request: &Value, result: &str| {
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":\"{result}\"}}\r\n", request["id"])
        };
        for byte in (line(&second, "for b") + &line(&first, "for a")).bytes() {
            peer.output.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (a, b, ()) = tokio::join!(ask(&client, "a"), ask(&client, "b"), server);
    assert_eq!((a.unwrap(), b.unwrap()), (json!("for a"), json!("for b")));
}

#[tokio::test]
async fn results_pass_through_as_they_are_spelled() {
    let (mut peer, client) = connected(Limits::default()).await;
    let spelled =
        "{ \"z\":1.0e+02,\"a\":1E2 , \"big\":123456789012345678901234567890,\"\\u0061\":null}";
    let server = async {
        let id = peer.expect("a").await["id"].clone();
        peer.send(&format!(r#"{{"result":{spelled},"extra":[1],"id":{id},"jsonrpc":"2.0"}}"#))
            .await;
    };
    let (result, ()) = tokio::join!(client.request("a", None, LONG), server);
    assert_eq!(result.unwrap().get(), spelled);
}

#[tokio::test]
async fn twenty_megabytes_go_there_and_back() {
    let (mut peer, client) = connected(Limits::default()).await;
    let text = "x".repeat(20 << 20);
    let arguments = format!("{{\r\n\"text\":\n\"{text}\"}}");
    let arguments = serde_json::value::RawValue::from_string(arguments).unwrap();
    let server = async {
        let request = peer.expect("tools/call").await;
        assert_eq!(request["params"]["arguments"]["text"], text);
        peer.answer(&request, json!({ "content": [{ "type": "text", "text": text }] })).await;
    };
    let (outcome, ()) = tokio::join!(client.call_tool("echo", &arguments, LONG), server);
    assert!(outcome.unwrap().result.get().len() > text.len());
}

#[tokio::test]
async fn a_result_nested_a_million_deep_harms_nobody() {
    let (mut peer, client) = connected(Limits::default()).await;
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let server = async {
        let id = peer.expect("a").await["id"].clone();
        peer.send(&deep).await;
        peer.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{deep}}}"#)).await;
        let request = peer.expect("tools/list").await;
        let tools = format!(r#"{{"tools":[{{"name":"t","inputSchema":{deep}}}, {deep}]}}"#);
        let line = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{tools}}}"#, request["id"]);
        peer.send(&line).await;
    };
    let asking = async { (client.request("a", None, LONG).await, client.list_tools(LONG).await) };
    let ((result, tools), ()) = tokio::join!(asking, server);
    assert_eq!(result.unwrap().get(), deep);
    assert_eq!(tools.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_dies_in_a_line_fails_every_open_request_at_once() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let request = peer.expect("a").await;
        peer.expect("b").await;
        let half = format!(r#"{{"jsonrpc":"2.0","id":{},"resu"#, request["id"]);
        peer.output.write_all(half.as_bytes()).await.unwrap();
        drop(peer);
    };
    let (a, b, ()) = tokio::join!(ask(&client, "a"), ask(&client, "b"), server);
    for error in [a.unwrap_err(), b.unwrap_err(), ask(&client, "c").await.unwrap_err()] {
        assert!(matches!(error, McpError::ServerClosed { .. }), "{error}");
        let begin = "the server ended the connection: its output ended in the middle of a line";
        assert!(error.to_string().starts_with(begin), "{error}");
    }
    assert!(matches!(client.closed().await, McpError::ServerClosed { .. }));
}

#[tokio::test]
async fn a_last_answer_counts_without_its_line_end() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let id = peer.expect("a").await["id"].clone();
        let last = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"bye"}}"#);
        peer.output.write_all(last.as_bytes()).await.unwrap();
        drop(peer);
    };
    let (a, ()) = tokio::join!(ask(&client, "a"), server);
    assert_eq!(a.unwrap(), json!("bye"));
    let ended = client.closed().await.to_string();
    assert_eq!(ended, "the server ended the connection: its output ended");
}

#[tokio::test]
async fn a_line_above_the_limit_ends_the_connection() {
    let (mut peer, client) = connected(Limits { line_bytes: 1000, ..Limits::default() }).await;
    let server = async {
        peer.expect("a").await;
        let _ = peer.output.write_all(&[b'x'; 5000]).await;
        peer
    };
    let (a, _peer) = tokio::join!(ask(&client, "a"), server);
    let error = a.unwrap_err();
    assert!(matches!(error, McpError::Limit { .. }), "{error}");
    assert_eq!(error.to_string(), "the server exceeded a limit: a line exceeds 1000 bytes");
}

#[tokio::test]
async fn an_error_without_an_id_belongs_to_the_only_open_request() {
    let (mut peer, client) = connected(Limits::default()).await;
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse\nerror"}}"#;
    let server = async {
        peer.expect("a").await;
        peer.send(error).await;
        let [b, c] = [peer.expect("b").await, peer.expect("c").await];
        peer.send(error).await;
        peer.answer(&b, json!(1)).await;
        peer.answer(&c, json!(2)).await;
    };
    let asking = async {
        let alone = ask(&client, "a").await.unwrap_err();
        (alone, tokio::join!(ask(&client, "b"), ask(&client, "c")))
    };
    let ((alone, (b, c)), ()) = tokio::join!(asking, server);
    assert_eq!(alone.to_string(), "the server refused: parse error (code -32700)");
    assert_eq!((b.unwrap(), c.unwrap()), (json!(1), json!(2)));
    assert_eq!(client.received().strays, 1);
}

#[tokio::test]
async fn a_batch_is_taken_apart() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let [a, b] = [peer.expect("a").await, peer.expect("b").await];
        let answer =
            |request: &Value| json!({ "jsonrpc": "2.0", "id": request["id"], "result": 1 });
        peer.send(&json!([answer(&b), 17, answer(&a)]).to_string()).await;
    };
    let (a, b, ()) = tokio::join!(ask(&client, "a"), ask(&client, "b"), server);
    assert_eq!((a.unwrap(), b.unwrap()), (json!(1), json!(1)));
}

#[tokio::test]
async fn nonsense_in_place_of_an_error_is_a_broken_protocol() {
    let (mut peer, client) = connected(Limits::default()).await;
    let server = async {
        let id = peer.expect("a").await["id"].clone();
        peer.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"no\u001b"}}"#)).await;
    };
    let (a, ()) = tokio::join!(ask(&client, "a"), server);
    let error = a.unwrap_err();
    assert!(matches!(error, McpError::Protocol(_)), "{error}");
}

#[tokio::test]
async fn the_server_may_ping_and_hears_no_to_the_rest() {
    let (mut peer, _client) = connected(Limits::default()).await;
    peer.send(r#"{"jsonrpc":"2.0","id":"p-1","method":"ping"}"#).await;
    assert_eq!(peer.read().await, json!({ "jsonrpc": "2.0", "id": "p-1", "result": {} }));
    peer.send(r#"{"jsonrpc":"2.0","id":1.50,"method":"roots/list"}"#).await;
    let refusal = peer.read().await;
    assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!(1.5), &json!(-32601)));
}

#[tokio::test]
async fn dropping_a_request_tells_the_server() {
    let (mut peer, client) = connected(Limits::default()).await;
    let asked = tokio::select! {
        _ = ask(&client, "slow") => unreachable!("nobody answers"),
        request = peer.expect("slow") => request,
    };
    let cancelled = peer.expect("notifications/cancelled").await;
    assert_eq!(cancelled["params"]["requestId"], asked["id"]);
    peer.answer(&asked, json!("too late")).await;
    let (next, _) = tokio::join!(ask(&client, "next"), peer.serve("next", json!(1)));
    assert_eq!((next.unwrap(), client.received().strays), (json!(1), 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_times_out_is_cancelled_and_the_next_one_works() {
    let (mut peer, client) = connected(Limits::default()).await;
    let error = client.request("slow", None, Duration::from_millis(250)).await.unwrap_err();
    assert_eq!(error.to_string(), "no answer to slow within 0.25 s");
    peer.expect("slow").await;
    peer.expect("notifications/cancelled").await;
    let (next, _) = tokio::join!(ask(&client, "next"), peer.serve("next", json!(1)));
    next.unwrap();
}

#[tokio::test]
async fn notifications_reach_a_subscriber_and_a_slow_one_misses_some() {
    let (mut peer, client) = connected(Limits::default()).await;
    let mut notifications = client.subscribe(2);
    for token in 0..5 {
        let line = json!({
            "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progress": token },
        });
        peer.send(&line.to_string()).await;
    }
    tokio::join!(async { ask(&client, "a").await.unwrap() }, peer.serve("a", json!(1)));
    for token in 0..2 {
        let notification = notifications.recv().await.unwrap();
        assert_eq!(notification.method, "notifications/progress");
        assert_eq!(notification.params.unwrap().get(), format!(r#"{{"progress":{token}}}"#));
    }
    assert!(notifications.try_recv().is_err());
}

#[tokio::test]
async fn what_is_too_long_to_keep_is_read_and_forgotten() {
    let (mut peer, client) = connected(Limits::default()).await;
    let mut notifications = client.subscribe(2);
    let long = "x".repeat(2 << 20);
    let server = async {
        peer.send(&format!(r#"{{"jsonrpc":"2.0","method":"note","params":{{"x":"{long}"}}}}"#))
            .await;
        peer.send(&format!(r#"{{"jsonrpc":"2.0","id":"{long}","method":"ping"}}"#)).await;
        peer.serve("a", json!(1)).await;
    };
    let (a, ()) = tokio::join!(ask(&client, "a"), server);
    a.unwrap();
    assert!(notifications.try_recv().is_err());
    assert_eq!(client.received().messages, 4);
}

#[tokio::test]
async fn a_server_that_does_not_read_is_still_read() {
    let (mut peer, client) = connected(Limits::default()).await;
    let large = raw(&json!({ "text": "x".repeat(1 << 20) }));
    let server = async {
        for id in 0..1000 {
            peer.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).await;
        }
        // The second request since the beginning, which this peer has not even seen in full.
        peer.send(r#"{"jsonrpc":"2.0","id":2,"result":"unread"}"#).await;
    };
    let (answer, ()) = tokio::join!(client.request("a", Some(&large), LONG), server);
    assert_eq!(answer.unwrap().get(), r#""unread""#);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_nothing_does_not_hold_a_dropped_client() {
    let (peer, client) = connected(Limits::default()).await;
    let large = raw(&json!({ "text": "x".repeat(1 << 20) }));
    let error = client.request("a", Some(&large), Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, McpError::Timeout { .. }), "{error}");
    drop(client);
    let mut peer = peer;
    let mut input = Vec::new();
    tokio::time::sleep(Duration::from_secs(10)).await;
    tokio::io::AsyncReadExt::read_to_end(&mut peer.input, &mut input).await.unwrap();
    assert!(input.len() < 1 << 20, "the writer gave up on the rest");
}

#[tokio::test]
async fn dropping_the_client_ends_the_servers_input_after_what_was_sent() {
    let (mut peer, client) = connected(Limits::default()).await;
    tokio::select! {
        biased;
        _ = ask(&client, "last words") => unreachable!("nobody answers"),
        () = tokio::task::yield_now() => {}
    }
    drop(client);
    peer.expect("last words").await;
    peer.expect("notifications/cancelled").await;
    assert_eq!(peer.read().await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_its_input_fails_requests_soon() {
    let (near, far) = tokio::io::duplex(1 << 10);
    let (kept_open, reader) = tokio::io::duplex(1 << 10);
    drop(near);
    let error = Client::connect(reader, far, info(), Limits::default()).await.unwrap_err();
    assert!(matches!(error, McpError::ServerClosed { .. }), "{error}");
    assert!(error.to_string().contains("writing failed: broken pipe"), "{error}");
    drop(kept_open);
}

#[tokio::test(start_paused = true)]
async fn chatter_is_slowed_down_not_cut_off() {
    let limits = Limits { unasked_lines_per_second: 100, ..Limits::default() };
    let (mut peer, client) = connected(limits).await;
    let start = tokio::time::Instant::now();
    let server = async {
        for _ in 0..1000 {
            peer.send("chatter").await;
        }
        peer.serve("a", json!(1)).await;
    };
    let (a, ()) = tokio::join!(client.request("a", None, Duration::from_secs(3600)), server);
    a.unwrap();
    assert_eq!(client.received().garbage, 1000);
    assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
}

#[tokio::test]
async fn requests_above_the_limit_wait_for_a_place() {
    let (mut peer, client) = connected(Limits { open_requests: 1, ..Limits::default() }).await;
    let server = async {
        let a = peer.expect("a").await;
        peer.answer(&a, json!("a")).await;
        peer.serve("b", json!("b")).await;
    };
    let (a, b, ()) = tokio::join!(ask(&client, "a"), ask(&client, "b"), server);
    assert_eq!((a.unwrap(), b.unwrap()), (json!("a"), json!("b")));
}
