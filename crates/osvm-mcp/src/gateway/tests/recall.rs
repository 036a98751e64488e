//! Lists of servers that need not be asked themselves.

use super::*;

/// What is to be recalled: of which lines, by which servers.
type Question = (Vec<String>, Vec<(String, OnBehalf)>);
type Asked = mpsc::UnboundedReceiver<Question>;

/// Servers of which the first has said before what it lists.
struct Remembered {
    servers: Scripted,
    asked: mpsc::UnboundedSender<Question>,
}

impl Servers for Remembered {
    fn names(&self) -> Naming<'_> {
        Box::pin(async { Ok(["one", "two"].map(str::to_owned).to_vec()) })
    }

    fn is_shared(&self, name: &str) -> bool {
        self.servers.is_shared(name)
    }

    fn open<'s>(&'s self, name: &'s str, whom: OnBehalf) -> Opening<'s> {
        self.servers.open(name, whom)
    }

    fn recall(&self, lines: Vec<String>, servers: Vec<(String, OnBehalf)>) -> Recalling<'_> {
        let result = json!({ "tools": [{ "name": "t" }] });
        let answer = json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string();
        let known = servers.iter().any(|(name, _)| name == "one");
        let known = known.then(|| ("one".to_owned(), answer));
        self.asked.send((lines, servers)).unwrap();
        Box::pin(async { Ok(known.into_iter().collect()) })
    }
}

fn world() -> (World, Asked) {
    let (opening, opened) = mpsc::unbounded_channel();
    let (asking, asked) = mpsc::unbounded_channel();
    let servers = Remembered { servers: Scripted(opening), asked: asking };
    let gateway = Gateway::new(servers, Access::default(), Bounds::default());
    (World { router: gateway.router(), opened }, asked)
}

fn names(list: &Value) -> Vec<&str> {
    let tools = list["result"]["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

fn of(servers: &[(String, OnBehalf)]) -> Vec<&str> {
    servers.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn only_those_are_opened_for_a_list_that_have_not_said_it_before() {
    let (mut world, mut asked) = world();
    let list = |id| modern_of(ALL, &json!(id), "tools/list", json!({}));
    let listing = tokio::spawn(world.send(list(1)));
    let (name, mut two) = world.named_server().await;
    assert_eq!(name, "two");
    let heard = two.hears().await;
    two.answers(&heard, &json!({ "tools": [{ "name": "u" }] }));
    assert_eq!(names(&value(listing.await.unwrap()).await), ["one__t", "two__u"]);
    let (lines, servers) = asked.recv().await.unwrap();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["method"], "tools/list");
    assert_eq!(line["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(of(&servers), ["one", "two"]);
    // One that is open is asked itself.
    let again = tokio::spawn(world.send(list(2)));
    let heard = two.hears().await;
    two.answers(&heard, &json!({ "tools": [] }));
    assert_eq!(names(&value(again.await.unwrap()).await), ["one__t"]);
    assert_eq!(of(&asked.recv().await.unwrap().1), ["one"]);
    // What the client was told without it, its session is asked before a call.
    let call = modern_of(ALL, &json!(3), "tools/call", json!({ "name": "one__t" }));
    let calling = tokio::spawn(world.send(call));
    let (name, mut one) = world.named_server().await;
    assert_eq!(name, "one");
    let heard = one.hears().await;
    assert_eq!(heard["method"], "tools/list");
    let named = json!({ "type": "string", "x-mcp-header": "Region" });
    let schema = json!({ "type": "object", "properties": { "region": named } });
    one.answers(&heard, &json!({ "tools": [{ "name": "t", "inputSchema": schema }] }));
    let heard = one.hears().await;
    assert_eq!(heard["method"], "tools/call");
    one.answers(&heard, &json!({ "content": [] }));
    assert_eq!(value(calling.await.unwrap()).await["result"], json!({ "content": [] }));
}

/// A session with all servers that has listed their tools, of which one was not asked itself.
async fn listed(world: &mut World, asked: &mut Asked) -> String {
    let hello = world.send(post(ALL, &[], INITIALIZE)).await;
    let id = hello.headers()[headers::SESSION].to_str().unwrap().to_owned();
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let listing = tokio::spawn(world.send(post(ALL, &[(headers::SESSION, &id)], list)));
    let mut two = greeted(world, "two").await;
    let heard = two.hears().await;
    two.answers(&heard, &json!({ "tools": [] }));
    assert_eq!(names(&value(listing.await.unwrap()).await), ["one__t"]);
    let (lines, _) = asked.recv().await.unwrap();
    assert_eq!(lines[0], INITIALIZE);
    assert!(lines[1].contains("notifications/initialized") && lines[2].contains("tools/list"));
    id
}

async fn greeted(world: &mut World, expected: &str) -> Line {
    let (name, mut server) = world.named_server().await;
    assert_eq!(name, expected);
    let hello = server.hears().await;
    server.answers(&hello, &json!({}));
    assert_eq!(server.hears().await["method"], "notifications/initialized");
    server
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"one__t"}}"#;

#[tokio::test]
async fn a_server_that_is_opened_later_is_held_against_what_its_client_was_told() {
    for (tool, changes) in [("t", false), ("other", true)] {
        let (mut world, mut asked) = world();
        let id = listed(&mut world, &mut asked).await;
        let own = [(headers::SESSION, id.as_str())];
        let listening = world.send(get(ALL, &own)).await;
        let calling = tokio::spawn(world.send(post(ALL, &own, CALL)));
        let mut one = greeted(&mut world, "one").await;
        let list = one.hears().await;
        assert_eq!(list["method"], "tools/list");
        one.answers(&list, &json!({ "tools": [{ "name": tool }] }));
        let call = one.hears().await;
        one.answers(&call, &json!({ "content": [] }));
        assert_eq!(value(calling.await.unwrap()).await["result"], json!({ "content": [] }));
        // Whatever comes on the session's own stream, comes before its end.
        let end = request("DELETE", ALL, &own).body(Body::empty()).unwrap();
        world.send(end).await;
        let said = text(listening).await;
        assert_eq!(said.contains("notifications/tools/list_changed"), changes, "{said}");
    }
}

#[tokio::test]
async fn what_a_server_asks_while_the_gateway_asks_it_reaches_its_client() {
    let (mut world, mut asked) = world();
    let id = listed(&mut world, &mut asked).await;
    let own = [(headers::SESSION, id.as_str())];
    let mut listening = world.send(get(ALL, &own)).await.into_body().into_data_stream();
    let calling = tokio::spawn(world.send(post(ALL, &own, CALL)));
    let mut one = greeted(&mut world, "one").await;
    let list = one.hears().await;
    one.says(&json!({ "jsonrpc": "2.0", "id": "r", "method": "roots/list" }));
    let mut seen = String::new();
    while events(&seen).is_empty() {
        seen += std::str::from_utf8(&listening.next().await.unwrap().unwrap()).unwrap();
    }
    let question = events(&seen)[0].1.clone();
    assert_eq!(question["method"], "roots/list");
    let reply = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "roots": [] } });
    assert_eq!(world.send(post(ALL, &own, reply.to_string())).await.status(), 202);
    let heard = one.hears().await;
    assert_eq!((&heard["id"], &heard["result"]["roots"]), (&json!("r"), &json!([])));
    one.answers(&list, &json!({ "tools": [{ "name": "t" }] }));
    let call = one.hears().await;
    one.answers(&call, &json!({ "content": [] }));
    assert_eq!(value(calling.await.unwrap()).await["result"], json!({ "content": [] }));
}
