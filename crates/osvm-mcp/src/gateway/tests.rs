//! Requests over the gateway's router, to servers whose lines the tests hear and say.

mod oauth;
mod recall;
mod tokens;

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, duplex};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose lines the test hears and says by itself.
struct Line {
    whom: OnBehalf,
    heard: mpsc::UnboundedReceiver<Value>,
    say: mpsc::UnboundedSender<String>,
}

struct Scripted(mpsc::UnboundedSender<(String, Line)>);

impl Servers for Scripted {
    fn names(&self) -> Naming<'_> {
        Box::pin(async { Ok(["broken", "one", "two"].map(str::to_owned).to_vec()) })
    }

    fn is_shared(&self, name: &str) -> bool {
        name == "two"
    }

    fn open<'s>(&'s self, name: &'s str, whom: OnBehalf) -> Opening<'s> {
        Box::pin(async move {
            if name == "broken" {
                return Err(Unavailable::Failed("it does not start".to_owned()));
            }
            let (near, far) = duplex(1 << 20);
            let (from_gateway, mut to_gateway) = tokio::io::split(far);
            let (hear, heard) = mpsc::unbounded_channel();
            let (say, mut said) = mpsc::unbounded_channel::<String>();
            tokio::spawn(async move {
                let mut lines = BufReader::new(from_gateway).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let _ = hear.send(serde_json::from_str(&line).unwrap());
                }
            });
            tokio::spawn(async move {
                while let Some(line) = said.recv().await {
                    let _ = to_gateway.write_all(format!("{line}\n").as_bytes()).await;
                }
                let _ = to_gateway.shutdown().await;
            });
            self.0.send((name.to_owned(), Line { whom, heard, say })).ok();
            Ok(Box::new(near) as Stream)
        })
    }
}

impl Line {
    async fn hears(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.heard.recv()).await.unwrap().unwrap()
    }

    fn says(&self, message: &impl ToString) {
        self.say.send(message.to_string()).unwrap();
    }

    fn answers(&self, request: &Value, result: &Value) {
        self.says(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }));
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_make_room_for_others_once_they_have_been_handed_on() {
    let (mut world, start) = (World::new(), tokio::time::Instant::now());
    let mut server = None;
    // Each says that it is the longest there may be, and eight of these are too many at once.
    for id in 0..8 {
        let mut call = modern_of("one", &json!(id), "tools/call", json!({ "name": "t" }));
        let length = Bounds::default().body.to_string().parse().unwrap();
        call.headers_mut().insert("content-length", length);
        tokio::spawn(world.send(call));
        let server = match &mut server {
            Some(server) => server,
            none => none.insert(world.server().await),
        };
        server.hears().await;
    }
    assert!(start.elapsed() < Duration::from_secs(1), "none was answered");
}

struct World {
    router: Router,
    opened: mpsc::UnboundedReceiver<(String, Line)>,
}

impl World {
    fn new() -> Self {
        Self::with(Bounds::default())
    }

    fn with(bounds: Bounds) -> Self {
        let (opening, opened) = mpsc::unbounded_channel();
        let gateway = Gateway::new(Scripted(opening), Access::default(), bounds);
        Self { router: gateway.router(), opened }
    }

    async fn server(&mut self) -> Line {
        self.named_server().await.1
    }

    async fn named_server(&mut self) -> (String, Line) {
        tokio::time::timeout(PATIENCE, self.opened.recv()).await.unwrap().unwrap()
    }

    /// Those that start, by name; in a session, after their handshakes.
    async fn both(&mut self, greeted: bool) -> [Line; 2] {
        let mut servers = [self.named_server().await, self.named_server().await];
        servers.sort_by(|one, other| one.0.cmp(&other.0));
        let [(one, mut first), (two, mut second)] = servers;
        assert_eq!((one.as_str(), two.as_str()), ("one", "two"));
        if greeted {
            for server in [&mut first, &mut second] {
                let hello = server.hears().await;
                assert_eq!(hello, serde_json::from_str::<Value>(INITIALIZE).unwrap());
                server.answers(&hello, &json!({}));
                assert_eq!(server.hears().await["method"], "notifications/initialized");
            }
        }
        [first, second]
    }

    fn send(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response> + Send + 'static + use<> {
        let router = self.router.clone();
        async move { router.oneshot(request).await.unwrap() }
    }

    /// A session of the legacy era with the server `one`.
    async fn session(&mut self) -> (String, Line) {
        let asked = tokio::spawn(self.send(post("one", &[], INITIALIZE)));
        let mut server = self.server().await;
        let initialize = server.hears().await;
        server.answers(&initialize, &json!({ "protocolVersion": "2025-11-25" }));
        let response = asked.await.unwrap();
        let id = response.headers()[headers::SESSION].to_str().unwrap().to_owned();
        (id, server)
    }
}

/// Path of all servers, in place of a server's name.
const ALL: &str = "/mcp";

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;

fn request(method: &str, server: &str, more: &[(&str, &str)]) -> axum::http::request::Builder {
    let mut request = Request::builder()
        .method(method)
        .uri(if server == ALL { ALL.to_owned() } else { format!("/servers/{server}/mcp") })
        .header("host", "localhost")
        .header("accept", "application/json, text/event-stream");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request
}

fn post(server: &str, more: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let request = request("POST", server, more).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

fn get(server: &str, more: &[(&str, &str)]) -> Request<Body> {
    request("GET", server, more).body(Body::empty()).unwrap()
}

fn modern(id: &Value, token: &Value) -> Request<Body> {
    let params = json!({ "name": "t", "_meta": { "progressToken": token } });
    modern_of("one", id, "tools/call", params)
}

fn modern_of(server: &str, id: &Value, method: &str, mut params: Value) -> Request<Body> {
    let name = params["name"].as_str().unwrap_or_default().to_owned();
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    let capabilities = &mut params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    if capabilities.is_null() {
        *capabilities = json!({});
    }
    let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let headers =
        [(headers::VERSION, "2026-07-28"), ("mcp-method", method), ("mcp-name", name.as_str())];
    post(server, &headers, body.to_string())
}

async fn text(response: Response) -> String {
    let bytes = tokio::time::timeout(PATIENCE, to_bytes(response.into_body(), 1 << 20)).await;
    String::from_utf8(bytes.unwrap().unwrap().to_vec()).unwrap()
}

async fn value(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// Messages of a stream, with the ids of their events.
fn events(stream: &str) -> Vec<(&str, Value)> {
    let all = stream.split("\n\n").filter_map(|event| event.strip_prefix("id: "));
    let parts = all.map(|event| event.split_once("\ndata: ").unwrap());
    parts.map(|(id, data)| (id, serde_json::from_str(data).unwrap())).collect()
}

#[tokio::test]
async fn a_session_lasts_until_its_client_ends_it_and_is_for_its_server_alone() {
    let mut world = World::new();
    let (id, mut server) = world.session().await;
    let own = [(headers::SESSION, id.as_str())];
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
    let asked = tokio::spawn(world.send(post("one", &own, call)));
    let heard = server.hears().await;
    server.answers(&heard, &json!({ "tools": [] }));
    assert_eq!(value(asked.await.unwrap()).await["result"], json!({ "tools": [] }));
    for (server, id) in [("two", id.as_str()), ("one", "0123")] {
        let strange = world.send(post(server, &[(headers::SESSION, id)], call)).await;
        assert_eq!(strange.status(), 404);
    }
    let end = request("DELETE", "one", &own).body(Body::empty()).unwrap();
    assert_eq!(world.send(end).await.status(), 204);
    assert_eq!(world.send(post("one", &own, call)).await.status(), 404);
    // Its server's input has ended.
    assert!(tokio::time::timeout(PATIENCE, server.heard.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn what_the_gateway_need_not_understand_stays_as_it_is_spelled() {
    let mut world = World::new();
    let (id, mut server) = world.session().await;
    let call = "{\"id\":\"\\u0061\",\"x\":1.0e+02,\"method\":\"m\",\n\"params\":{\"z\":123456789012345678901234567890,\"a\":\"\\/\"},\"jsonrpc\":\"2.0\"}";
    let asked = tokio::spawn(world.send(post("one", &[(headers::SESSION, &id)], call)));
    let heard = server.hears().await;
    assert_eq!(heard, serde_json::from_str::<Value>(call).unwrap());
    let answer =
        r#"{"result":{"z":1.50,"a":-0,"é":"\u00e9"},"id":"\u0061","jsonrpc":"2.0","y":[ ]}"#;
    server.says(&answer);
    assert_eq!(text(asked.await.unwrap()).await, answer);
}

#[tokio::test]
async fn what_comes_before_an_answer_is_streamed_with_it_and_can_be_had_again() {
    let mut world = World::new();
    let (id, mut server) = world.session().await;
    let own = [(headers::SESSION, id.as_str())];
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{"progressToken":"p"}}}"#;
    let asked = tokio::spawn(world.send(post("one", &own, call)));
    let heard = server.hears().await;
    server.says(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": "p" } }));
    server.says(&json!({ "jsonrpc": "2.0", "id": "s", "method": "elicitation/create" }));
    let mut stream = asked.await.unwrap().into_body().into_data_stream();
    let mut seen = String::new();
    while events(&seen).len() < 2 {
        seen += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    assert_eq!(events(&seen)[0].1["method"], "notifications/progress");
    assert_eq!(events(&seen)[1].1["method"], "elicitation/create");
    let reply = r#"{"jsonrpc":"2.0","id":"s","result":{"action":"accept"}}"#;
    assert_eq!(world.send(post("one", &own, reply)).await.status(), 202);
    assert_eq!(server.hears().await["result"]["action"], "accept");
    // The connection breaks, and the answer comes meanwhile.
    drop(stream);
    server.answers(&heard, &json!({ "done": true }));
    let last = [own[0], (headers::LAST_EVENT, events(&seen)[0].0)];
    let rest = text(world.send(get("one", &last)).await).await;
    let rest: Vec<_> = events(&rest).into_iter().map(|(_, message)| message).collect();
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert_eq!((&rest[0]["id"], &rest[1]["result"]["done"]), (&json!("s"), &json!(true)));
}

#[tokio::test]
async fn what_a_server_says_of_itself_goes_to_the_stream_of_the_session() {
    let mut world = World::new();
    let (id, server) = world.session().await;
    let listening = world.send(get("one", &[(headers::SESSION, &id)])).await;
    server.says(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }));
    let mut stream = listening.into_body().into_data_stream();
    let event = stream.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&event).contains("list_changed"));
}

#[tokio::test]
async fn clients_that_share_a_server_are_never_mixed_up() {
    let mut world = World::new();
    let first = tokio::spawn(world.send(modern(&json!(1), &json!("t"))));
    let mut server = world.server().await;
    let first_heard = server.hears().await;
    let second = tokio::spawn(world.send(modern(&json!(1), &json!("t"))));
    let third = tokio::spawn(world.send(modern(&json!("1"), &json!(1))));
    let (second_heard, third_heard) = (server.hears().await, server.hears().await);
    let token = |heard: &Value| heard["params"]["_meta"]["progressToken"].clone();
    assert_ne!(first_heard["id"], second_heard["id"]);
    assert_ne!(token(&first_heard), token(&second_heard));
    for heard in [&third_heard, &second_heard, &first_heard] {
        let params = json!({ "progressToken": token(heard), "message": heard["id"] });
        server.says(
            &json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }),
        );
    }
    for heard in [&second_heard, &first_heard, &third_heard] {
        server.answers(heard, &json!({ "for": heard["id"] }));
        // Once more, and for nobody.
        server.answers(heard, &json!({ "for": "nobody" }));
        server.answers(&json!({ "id": 999 }), &json!({}));
    }
    for (asked, heard, id, own) in [
        (first, &first_heard, json!(1), json!("t")),
        (second, &second_heard, json!(1), json!("t")),
        (third, &third_heard, json!("1"), json!(1)),
    ] {
        let stream = text(asked.await.unwrap()).await;
        let events = events(&stream);
        assert_eq!(events.len(), 2, "{stream}");
        assert_eq!(events[0].1["params"], json!({ "progressToken": own, "message": heard["id"] }));
        assert_eq!(events[1].1["id"], id);
        assert_eq!(events[1].1["result"]["for"], heard["id"]);
    }
}

#[tokio::test]
async fn a_request_whose_client_has_gone_is_cancelled() {
    let mut world = World::new();
    let asked = tokio::spawn(world.send(modern(&json!(5), &json!("t"))));
    let mut server = world.server().await;
    let heard = server.hears().await;
    asked.abort();
    let cancelled = server.hears().await;
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], heard["id"]);
}

#[tokio::test]
async fn a_server_that_ends_is_answered_for() {
    let mut world = World::new();
    let asked = tokio::spawn(world.send(modern(&json!(5), &json!("t"))));
    let mut server = world.server().await;
    server.hears().await;
    drop(server);
    let answer = value(asked.await.unwrap()).await;
    assert_eq!(
        (&answer["id"], &answer["error"]["message"]),
        (&json!(5), &json!("the server is gone"))
    );
    // Another one takes its place.
    let asked = tokio::spawn(world.send(modern(&json!(6), &json!("t"))));
    let mut server = world.server().await;
    let heard = server.hears().await;
    server.answers(&heard, &json!({}));
    assert_eq!(value(asked.await.unwrap()).await["id"], 6);
}

#[tokio::test]
async fn a_server_that_does_not_start_is_told() {
    let world = World::new();
    let response = world.send(post("broken", &[], INITIALIZE)).await;
    assert_eq!(response.status(), 502);
    assert_eq!(value(response).await["error"]["message"], "it does not start");
}

#[tokio::test]
async fn errors_of_the_modern_era_have_their_status() {
    let mut world = World::new();
    let mut server = None;
    for (code, status) in [(-32601, 404), (-32021, 400), (-32602, 200), (-32000, 200)] {
        let asked = tokio::spawn(world.send(modern(&json!(5), &json!("t"))));
        if server.is_none() {
            server = Some(world.server().await);
        }
        let server = server.as_mut().unwrap();
        let heard = server.hears().await;
        let error = json!({ "code": code, "message": "no" });
        server.says(&json!({ "jsonrpc": "2.0", "id": heard["id"], "error": error }));
        assert_eq!(asked.await.unwrap().status(), status, "{code}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_refused_as_what_it_is() {
    let mut world = World::with(Bounds { body: 1000, ..Bounds::default() });
    let (id, mut server) = world.session().await;
    let own = [(headers::SESSION, id.as_str())];
    let valid = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
    for (body, status, code) in [
        (&b"{"[..], 400, -32700),
        (b"\xff", 400, -32700),
        (br#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, 400, -32600),
        (br#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, 400, -32600),
        (br#"{"id":1,"method":"m"}"#, 400, -32600),
        (b"[]", 400, -32600),
        (&[b' '; 1001], 413, -32600),
    ] {
        let response = world.send(post("one", &own, body)).await;
        assert_eq!(response.status(), status, "{}", String::from_utf8_lossy(body));
        let answer = value(response).await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(code)));
    }
    let batch = [own[0], (headers::VERSION, "2025-06-18")];
    assert_eq!(world.send(post("one", &batch, format!("[{valid}]"))).await.status(), 400);
    assert_eq!(world.send(post("one", &[], valid)).await.status(), 400);
    let plain = request("POST", "one", &own).header("content-type", "text/plain");
    assert_eq!(world.send(plain.body(Body::from(valid)).unwrap()).await.status(), 415);
    // An id that is in use.
    let asked = tokio::spawn(world.send(post("one", &own, valid)));
    let heard = server.hears().await;
    assert_eq!(world.send(post("one", &own, valid)).await.status(), 400);
    server.answers(&heard, &json!({}));
    assert_eq!(asked.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_batch_is_answered_in_one_stream() {
    let mut world = World::new();
    let (id, mut server) = world.session().await;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":2,"method":"b"}]"#;
    let headers = [(headers::SESSION, id.as_str()), (headers::VERSION, "2025-03-26")];
    let asked = tokio::spawn(world.send(post("one", &headers, batch)));
    let (a, notified, b) = (server.hears().await, server.hears().await, server.hears().await);
    assert_eq!(notified["method"], "n");
    server.says(&json!([
        { "jsonrpc": "2.0", "id": b["id"], "result": "b" },
        { "jsonrpc": "2.0", "id": a["id"], "result": "a" },
    ]));
    let stream = text(asked.await.unwrap()).await;
    let mut results: Vec<_> =
        events(&stream).into_iter().map(|(_, message)| message["result"].clone()).collect();
    results.sort_by_key(ToString::to_string);
    assert_eq!(results, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_and_a_session_that_nobody_uses_are_given_up() {
    let mut world = World::new();
    let (id, _server) = world.session().await;
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    assert_eq!(world.send(post("one", &[], never)).await.status(), 408);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let ping = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(world.send(post("one", &[(headers::SESSION, &id)], ping)).await.status(), 202);
    tokio::time::sleep(Duration::from_secs(31 * 60)).await;
    assert_eq!(world.send(post("one", &[(headers::SESSION, &id)], ping)).await.status(), 404);
}

/// Answers two pages of a list.
async fn lists_two_pages(server: &mut Line, first: &str, second: &str) {
    let heard = server.hears().await;
    assert_eq!(heard["method"], "tools/list");
    server.answers(&heard, &json!({ "tools": [{ "name": first }], "nextCursor": "more" }));
    let heard = server.hears().await;
    assert_eq!(heard["params"]["cursor"], "more");
    server.answers(&heard, &json!({ "tools": [{ "name": second, "x": 1 }] }));
}

fn tools(list: &Value) -> Vec<&str> {
    let tools = list["result"]["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_session_with_all_servers_lists_and_calls_each_and_one_that_is_broken_is_left_out() {
    let mut world = World::new();
    let begun = world.send(post(ALL, &[], INITIALIZE)).await;
    let id = begun.headers()[headers::SESSION].to_str().unwrap().to_owned();
    assert_eq!(value(begun).await["result"]["protocolVersion"], "2025-11-25");
    let own = [(headers::SESSION, id.as_str())];
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let asked = tokio::spawn(world.send(post(ALL, &own, list)));
    let [mut one, mut two] = world.both(true).await;
    lists_two_pages(&mut one, "t", "two__t").await;
    lists_two_pages(&mut two, "t", "u").await;
    let listed = value(asked.await.unwrap()).await;
    assert_eq!(tools(&listed), ["one__t", "one__two__t", "two__t", "two__u"]);

    let call =
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"two__t","a":1.0e1}}"#;
    let asked = tokio::spawn(world.send(post(ALL, &own, call)));
    let heard = two.hears().await;
    assert_eq!((&heard["params"]["name"], &heard["params"]["a"]), (&json!("t"), &json!(10.0)));
    // Both servers ask by the same id, and each gets its own answer.
    for server in [&one, &two] {
        server.says(&json!({ "jsonrpc": "2.0", "id": 1, "method": "roots/list" }));
    }
    let mut stream = asked.await.unwrap().into_body().into_data_stream();
    let event = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    let question = events(&event)[0].1["id"].clone();
    let reply = json!({ "jsonrpc": "2.0", "id": question, "result": { "roots": ["of two"] } });
    assert_eq!(world.send(post(ALL, &own, reply.to_string())).await.status(), 202);
    let answered = two.hears().await;
    assert_eq!((&answered["id"], &answered["result"]["roots"][0]), (&json!(1), &json!("of two")));
    let listening = world.send(get(ALL, &own)).await;
    let mut standalone = listening.into_body().into_data_stream();
    let event = String::from_utf8(standalone.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!(events(&event)[0].1["id"], "one/1");
    two.answers(&heard, &json!({ "done": true }));
    let event = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!(events(&event)[0].1["result"]["done"], true);
    let level = r#"{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"info"}}"#;
    let refused = world.send(post(ALL, &own, level)).await;
    assert_eq!(value(refused).await["error"]["code"], -32601);
    for (name, code) in [("three__t", -32602), ("t", -32602)] {
        let call = json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": { "name": name } });
        let refused = world.send(post(ALL, &own, call.to_string())).await;
        assert_eq!(refused.status(), 200);
        assert_eq!(value(refused).await["error"]["code"], code);
    }
}

#[tokio::test]
async fn all_servers_are_asked_without_a_session_too() {
    let mut world = World::new();
    let discovered = world.send(modern_of(ALL, &json!(1), "server/discover", json!({}))).await;
    assert_eq!(value(discovered).await["result"]["supportedVersions"], json!(["2026-07-28"]));
    let asked = tokio::spawn(world.send(modern_of(ALL, &json!(2), "tools/list", json!({}))));
    let [mut one, mut two] = world.both(false).await;
    lists_two_pages(&mut one, "t", "u").await;
    lists_two_pages(&mut two, "t", "u").await;
    let listed = value(asked.await.unwrap()).await;
    assert_eq!(tools(&listed), ["one__t", "one__u", "two__t", "two__u"]);
    assert_eq!(listed["result"]["cacheScope"], "private");
    let params = json!({ "name": "one__u" });
    let asked = tokio::spawn(world.send(modern_of(ALL, &json!(3), "tools/call", params)));
    let heard = one.hears().await;
    assert_eq!(heard["params"]["name"], "u");
    one.answers(&heard, &json!({ "done": true }));
    assert_eq!(value(asked.await.unwrap()).await["result"]["done"], true);
    let other = world.send(modern_of(ALL, &json!(4), "resources/list", json!({}))).await;
    assert_eq!(other.status(), 404);
    assert_eq!(value(other).await["error"]["code"], -32601);
}

#[tokio::test]
async fn a_parameter_that_is_there_twice_is_refused_before_a_server_that_others_use_sees_it() {
    let world = World::new();
    let meta = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
    for (name, meta) in [
        (r#""name":"t","name":"other""#, meta.to_owned()),
        (r#""name":"t","Name":"other""#, meta.to_owned()),
        (r#""name":"t","_meta":{}"#, meta.to_owned()),
        (r#""name":"t""#, format!(r#"{meta},"progressToken":1,"progressToken":2"#)),
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{name},"_meta":{{{meta}}}}}}}"#
        );
        let headers =
            [(headers::VERSION, "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "t")];
        let refused = world.send(post("one", &headers, body)).await;
        assert_eq!(refused.status(), 400);
        assert_eq!(value(refused).await["error"]["code"], -32602, "{name} {meta}");
    }
}

#[tokio::test]
async fn what_is_about_nobody_in_particular_goes_to_nobody_else() {
    let mut world = World::new();
    let first = tokio::spawn(world.send(modern(&json!(1), &json!("t"))));
    let mut server = world.server().await;
    let first_heard = server.hears().await;
    let log = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "data": "of the first" } });
    server.says(&log);
    // The stream has begun with it.
    let first = first.await.unwrap();
    let second = tokio::spawn(world.send(modern(&json!(2), &json!("t"))));
    let second_heard = server.hears().await;
    server.says(&log);
    // Nor are clients that share a server asked by it.
    server.says(&json!({ "jsonrpc": "2.0", "id": 5, "method": "roots/list" }));
    assert_eq!(server.hears().await["error"]["code"], -32601);
    server.answers(&first_heard, &json!({}));
    server.answers(&second_heard, &json!({}));
    let first = text(first).await;
    assert_eq!(events(&first).len(), 2, "{first}");
    assert_eq!(value(second.await.unwrap()).await["id"], 2);
}

#[tokio::test]
async fn a_request_that_its_client_cancels_is_over() {
    let mut world = World::new();
    let (id, mut server) = world.session().await;
    let own = [(headers::SESSION, id.as_str())];
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
    for _ in 0..2 {
        let asked = tokio::spawn(world.send(post("one", &own, call)));
        server.hears().await;
        let cancel =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1.0}}"#;
        assert_eq!(world.send(post("one", &own, cancel)).await.status(), 202);
        assert_eq!(server.hears().await["method"], "notifications/cancelled");
        // Its id may be used again.
        tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn servers_that_do_not_start_take_no_place() {
    let mut world = World::new();
    for number in 0..300 {
        let capabilities = json!({ "experimental": { number.to_string(): {} } });
        let mut params = json!({ "name": "t", "_meta": {} });
        params["_meta"]["x"] = capabilities;
        let refused = world.send(modern_of("broken", &json!(number), "tools/call", params)).await;
        assert_eq!(refused.status(), 502);
    }
    let asked = tokio::spawn(world.send(modern(&json!(1), &json!("t"))));
    let mut server = world.server().await;
    let heard = server.hears().await;
    server.answers(&heard, &json!({}));
    assert_eq!(asked.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_page_that_may_ask_is_told_so_before_it_shows_its_token() {
    let (opening, _opened) = mpsc::unbounded_channel();
    let token = Some("secret".to_owned());
    let origins = vec!["https://app.example".to_owned()];
    let access = Access { token, origins, ..Access::default() };
    let router = Gateway::new(Scripted(opening), access, Bounds::default()).router();
    let ask = async |origin: &str| {
        let request = request("OPTIONS", "one", &[("origin", origin)]).body(Body::empty());
        router.clone().oneshot(request.unwrap()).await.unwrap()
    };
    let allowed = ask("https://app.example").await;
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.example");
    let denied = ask("https://evil.example").await;
    assert_eq!(denied.status(), 403);
    assert!(denied.headers().get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn what_headers_say_of_arguments_is_held_against_these() {
    let mut world = World::new();
    let ask = |world: &World, header: &str, region: &str| {
        let arguments = json!({ "region": region });
        let mut request = modern_of(
            "one",
            &json!(1),
            "tools/call",
            json!({ "name": "t", "arguments": arguments }),
        );
        request.headers_mut().insert("mcp-param-region", header.parse().unwrap());
        tokio::spawn(world.send(request))
    };
    // Nobody has listed the server's tools yet.
    let right = ask(&world, "us", "us");
    let mut server = world.server().await;
    let listed = server.hears().await;
    assert_eq!(listed["method"], "tools/list");
    let schema =
        json!({ "properties": { "region": { "type": "string", "x-mcp-header": "Region" } } });
    server.answers(&listed, &json!({ "tools": [{ "name": "t", "inputSchema": schema }] }));
    let heard = server.hears().await;
    assert_eq!(heard["params"]["arguments"]["region"], "us");
    server.answers(&heard, &json!({}));
    assert_eq!(right.await.unwrap().status(), 200);
    let wrong = ask(&world, "eu", "us").await.unwrap();
    assert_eq!(value(wrong).await["error"]["code"], -32020);
    let arguments = json!({ "name": "t", "arguments": { "region": "us" } });
    let missing = world.send(modern_of("one", &json!(1), "tools/call", arguments)).await;
    assert_eq!(missing.status(), 400);
}
