//! Clients with tokens of their own: what each sees, and what none has of another.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use osvm_spec::config::{Oauth, Rights, Token, TokenDigest};

use super::*;

/// Tokens that a test adds and removes.
#[derive(Debug, Default)]
struct Known(Mutex<Vec<Token>>, AtomicUsize);

impl Known {
    fn now(&self, tokens: &[Token]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tokens.to_vec();
    }
}

impl Known {
    /// Until the gateway has looked by itself whether what was begun goes on.
    async fn looked_up(&self) {
        let before = self.1.load(Relaxed);
        while self.1.load(Relaxed) == before {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
    }
}

impl Tokens for Known {
    fn find(&self, digest: &TokenDigest) -> Result<Option<Token>, String> {
        self.1.fetch_add(1, Relaxed);
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match tokens.is_empty() {
            true => Err("the file is broken".to_owned()),
            false => Ok(tokens.iter().find(|token| token.sha256 == *digest).cloned()),
        }
    }

    fn oauth(&self) -> Result<Option<Oauth>, String> {
        Ok(None)
    }
}

/// One whose secret is its name.
fn token(name: &str, servers: &[&str], tools: &[&str]) -> Token {
    let servers: Vec<_> = servers.iter().map(|name| name.parse().unwrap()).collect();
    let tools: Vec<_> = tools.iter().map(|tool| tool.parse().unwrap()).collect();
    Token {
        name: name.parse().unwrap(),
        sha256: TokenDigest::of(name),
        rights: Rights {
            servers: Some(servers).filter(|some| !some.is_empty()),
            tools: Some(tools).filter(|some| !some.is_empty()),
            requests_per_minute: None,
        },
    }
}

fn world(tokens: &[Token]) -> (World, Arc<Known>) {
    let (opening, opened) = mpsc::unbounded_channel();
    let known = Arc::new(Known::default());
    known.now(tokens);
    let access = Access {
        token: Some("own".to_owned()),
        tokens: Some(Arc::clone(&known) as Arc<dyn Tokens>),
        ..Access::default()
    };
    let gateway = Gateway::new(Scripted(opening), access, Bounds::default());
    (World { router: gateway.router(), opened }, known)
}

/// The request, shown with that token.
pub(super) fn by(secret: &str, mut request: Request<Body>) -> Request<Body> {
    let value = format!("Bearer {secret}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

pub(super) async fn session(world: &mut World, secret: &str) -> (String, Line) {
    let asked = tokio::spawn(world.send(by(secret, post("one", &[], INITIALIZE))));
    let mut server = world.server().await;
    let initialize = server.hears().await;
    server.answers(&initialize, &json!({ "protocolVersion": "2025-11-25" }));
    let response = asked.await.unwrap();
    (response.headers()[headers::SESSION].to_str().unwrap().to_owned(), server)
}

pub(super) const LIST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;

#[tokio::test]
async fn a_token_reaches_its_servers_alone() {
    let (mut world, _) = world(&[token("ci", &["one"], &["one__a*", "two__b"])]);
    for server in ["two", "no-such"] {
        for request in [post(server, &[], INITIALIZE), get(server, &[])] {
            let refused = world.send(by("ci", request)).await;
            assert_eq!(refused.status(), 403);
            let why = format!("token ci may not use server {server}");
            assert_eq!(value(refused).await["error"]["message"], why);
        }
    }
    let (_, line) = session(&mut world, "ci").await;
    let tools = Some(vec!["a*".parse().unwrap()]);
    let whom = OnBehalf { token: Some("ci".to_owned()), tools, ..OnBehalf::default() };
    assert_eq!(line.whom, whom);
    let (_, line) = session(&mut world, "own").await;
    let whom = OnBehalf { token: Some("default".to_owned()), ..OnBehalf::default() };
    assert_eq!(line.whom, whom);
    for secret in ["c", "default", ""] {
        let refused = world.send(by(secret, post("one", &[], INITIALIZE))).await;
        assert_eq!(refused.status(), 401, "{secret}");
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn all_servers_are_those_of_the_token() {
    let (mut world, _) = world(&[token("ci", &["two"], &[])]);
    let list = modern_of(ALL, &json!(2), "tools/list", json!({}));
    let asked = tokio::spawn(world.send(by("ci", list)));
    let (name, mut two) = world.named_server().await;
    assert_eq!(name, "two");
    lists_two_pages(&mut two, "t", "u").await;
    assert_eq!(tools(&value(asked.await.unwrap()).await), ["two__t", "two__u"]);
    let begun = world.send(by("ci", post(ALL, &[], INITIALIZE))).await;
    let id = begun.headers()[headers::SESSION].to_str().unwrap().to_owned();
    for tool in ["one__t", "broken__t"] {
        let params = json!({ "name": tool });
        let modern = modern_of(ALL, &json!(3), "tools/call", params.clone());
        let call = json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params });
        let legacy = post(ALL, &[(headers::SESSION, &id)], call.to_string());
        for request in [modern, legacy] {
            let refused = value(world.send(by("ci", request)).await).await;
            assert_eq!(refused["error"]["code"], -32602, "{refused}");
        }
    }
}

#[tokio::test]
async fn a_session_is_its_tokens_and_to_others_there_is_none() {
    let both = [token("ci", &[], &[]), token("laptop", &[], &[])];
    let (mut world, known) = world(&both);
    let (id, mut server) = session(&mut world, "ci").await;
    let own = [(headers::SESSION, id.as_str())];
    for secret in ["laptop", "own"] {
        let strange = [
            post("one", &own, LIST),
            get("one", &own),
            request("DELETE", "one", &own).body(Body::empty()).unwrap(),
        ];
        for request in strange {
            assert_eq!(world.send(by(secret, request)).await.status(), 404, "{secret}");
        }
    }
    let asked = tokio::spawn(world.send(by("ci", post("one", &own, LIST))));
    let heard = server.hears().await;
    server.answers(&heard, &json!({ "tools": [] }));
    assert_eq!(asked.await.unwrap().status(), 200);
    // Removed, it is refused, and what it has begun is nobody's; also when another takes its name.
    known.now(&both[1..]);
    assert_eq!(world.send(by("ci", post("one", &own, LIST))).await.status(), 401);
    let anew = Token { sha256: TokenDigest::of("new"), ..both[0].clone() };
    known.now(&[anew]);
    assert_eq!(world.send(by("new", post("one", &own, LIST))).await.status(), 404);
    // With other rights it is another one.
    known.now(&[token("ci", &[], &["one__t"])]);
    assert_eq!(world.send(by("ci", post("one", &own, LIST))).await.status(), 404);
    // Where nobody knows, nobody is served, but whoever has the gateway's own.
    known.now(&[]);
    assert_eq!(world.send(by("ci", post("one", &own, LIST))).await.status(), 503);
    assert_eq!(world.send(by("own", post("one", &own, LIST))).await.status(), 404);
}

#[tokio::test(start_paused = true)]
async fn what_a_removed_token_has_begun_ends_by_itself() {
    let both = [token("ci", &[], &[]), token("laptop", &[], &[])];
    let (mut world, known) = world(&both);
    let (_, mut gone) = session(&mut world, "ci").await;
    let (id, mut stays) = session(&mut world, "laptop").await;
    known.now(&both[1..]);
    // Its server's input ends.
    assert!(tokio::time::timeout(PATIENCE, gone.heard.recv()).await.unwrap().is_none());
    let own = [(headers::SESSION, id.as_str())];
    let asked = tokio::spawn(world.send(by("laptop", post("one", &own, LIST))));
    let heard = stays.hears().await;
    stays.answers(&heard, &json!({}));
    assert_eq!(asked.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_a_token_has_begun_outlives_a_moment_in_which_its_file_lacks_it() {
    let both = [token("ci", &[], &[]), token("laptop", &[], &[])];
    let (mut world, known) = world(&both);
    let (id, mut server) = session(&mut world, "ci").await;
    let own = [(headers::SESSION, id.as_str())];
    for _ in 0..2 {
        known.now(&both[1..]);
        known.looked_up().await;
        known.now(&both);
        known.looked_up().await;
    }
    let asked = tokio::spawn(world.send(by("ci", post("one", &own, LIST))));
    let heard = server.hears().await;
    server.answers(&heard, &json!({}));
    assert_eq!(asked.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_a_removed_token_waits_for_ends_by_itself() {
    let both = [token("ci", &[], &[]), token("laptop", &[], &[])];
    let (mut world, known) = world(&both);
    let ask = || modern_of("one", &json!(1), "tools/call", json!({ "name": "t" }));
    let asked = tokio::spawn(world.send(by("ci", ask())));
    let mut gone = world.server().await;
    gone.hears().await;
    known.now(&both[1..]);
    assert!(tokio::time::timeout(PATIENCE, gone.heard.recv()).await.unwrap().is_none());
    let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
    let said = axum::body::to_bytes(answer.into_body(), usize::MAX);
    let said = tokio::time::timeout(PATIENCE, said).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&said).contains("\"error\""), "{said:?}");
}

/// A call of the tool `t`, and the server process that hears it: a new one, or that of an earlier call.
pub(super) async fn call(
    world: &mut World,
    secret: &str,
    server: &str,
    earlier: Option<Line>,
) -> Line {
    let request = modern_of(server, &json!(1), "tools/call", json!({ "name": "t" }));
    let asked = tokio::spawn(world.send(by(secret, request)));
    let mut line = match earlier {
        Some(line) => line,
        None => world.server().await,
    };
    let heard = line.hears().await;
    line.answers(&heard, &json!({}));
    assert_eq!(asked.await.unwrap().status(), 200);
    line
}

#[tokio::test]
async fn a_server_process_is_one_tokens_unless_its_server_is_shared() {
    let some = [
        token("ci", &[], &[]),
        token("laptop", &[], &[]),
        token("reader", &[], &["*__t"]),
        token("other", &["two"], &["two__t"]),
    ];
    let (mut world, _) = world(&some);
    for secret in ["ci", "laptop", "own"] {
        let line = call(&mut world, secret, "one", None).await;
        assert!(line.whom.token.is_some());
        call(&mut world, secret, "one", Some(line)).await;
    }
    // The server `two` is: by those who may call the same tools of it.
    let line = call(&mut world, "ci", "two", None).await;
    assert_eq!(line.whom, OnBehalf::default());
    let line = call(&mut world, "laptop", "two", Some(line)).await;
    call(&mut world, "own", "two", Some(line)).await;
    let narrow = call(&mut world, "other", "two", None).await;
    let tools = Some(vec!["t".parse().unwrap()]);
    assert_eq!(narrow.whom, OnBehalf { tools, ..OnBehalf::default() });
    call(&mut world, "other", "two", Some(narrow)).await;
    // `*__t` has more names than `t`.
    call(&mut world, "reader", "two", None).await;
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again() {
    let limited = |count| {
        let rights =
            Rights { requests_per_minute: std::num::NonZeroU32::new(count), ..Rights::default() };
        Token { rights, ..token("slow", &[], &[]) }
    };
    let slow = limited(3);
    let (mut world, known) = world(&[slow, token("ci", &[], &[])]);
    let (id, server) = session(&mut world, "slow").await;
    let discover = || modern_of(ALL, &json!(5), "server/discover", json!({}));
    assert_eq!(world.send(by("slow", discover())).await.status(), 200);
    // Two more are one too many, and then none of them counts. Answers and notifications never do.
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":2,"method":"b"}]"#;
    let own = [(headers::SESSION, id.as_str()), (headers::VERSION, "2025-03-26")];
    assert_eq!(world.send(by("slow", post("one", &own, batch))).await.status(), 429);
    let told = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    for _ in 0..5 {
        assert_eq!(world.send(by("slow", post("one", &own, told))).await.status(), 202);
    }
    assert_eq!(world.send(by("slow", discover())).await.status(), 200);
    let refused = world.send(by("slow", discover())).await;
    assert_eq!(refused.status(), 429);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((15..=20).contains(&seconds), "{seconds}");
    let refused = value(refused).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(5), &json!(-32600)));
    let why =
        format!("token slow asks too often: the limit is 3 a minute; try again in {seconds} s");
    assert_eq!(refused["error"]["message"], why);
    for other in ["ci", "own"] {
        assert_eq!(world.send(by(other, discover())).await.status(), 200);
    }
    // Another limit counts from when it is known, and its session goes on.
    known.now(&[limited(9)]);
    assert_eq!(world.send(by("slow", discover())).await.status(), 200);
    assert_eq!(world.send(by("slow", post("one", &own, told))).await.status(), 202);
    drop(server);
}

#[tokio::test]
async fn no_token_takes_the_sessions_of_all() {
    let (mut world, _) = world(&[token("ci", &[], &[]), token("laptop", &[], &[])]);
    let mut open = Vec::new();
    for _ in 0..125 {
        open.push(session(&mut world, "ci").await);
    }
    let refused = world.send(by("ci", post("one", &[], INITIALIZE))).await;
    assert_eq!(refused.status(), 503);
    let why = "token ci has 125 sessions, which is the most for one token";
    assert_eq!(value(refused).await["error"]["message"], why);
    session(&mut world, "laptop").await;
}
