//! Clients with tokens of an authorization server: who they are, what they are told, and what none has of another.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use futures::FutureExt;
use osvm_spec::config::{Grant, Oauth, Rights, Token, TokenDigest};

use super::tokens::{LIST, by, call, session};
use super::*;

/// What a test says that the configuration is, and that tokens prove.
#[derive(Debug, Default)]
struct Told {
    oauth: Mutex<Option<Oauth>>,
    tokens: Mutex<BTreeMap<String, Result<Proven, Unproven>>>,
    asked: Mutex<Vec<Vec<String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tokens for Told {
    fn find(&self, digest: &TokenDigest) -> Result<Option<Token>, String> {
        let named = |name: &str| Token {
            name: name.parse().unwrap(),
            sha256: TokenDigest::of(name),
            rights: Rights::default(),
        };
        Ok(Some(named("ci")).filter(|token| token.sha256 == *digest))
    }

    fn oauth(&self) -> Result<Option<Oauth>, String> {
        Ok(lock(&self.oauth).clone())
    }
}

impl Verifier for Told {
    fn verify<'v>(
        &'v self,
        token: &'v str,
        _: &'v Oauth,
        audiences: &'v [String],
    ) -> Verifying<'v> {
        lock(&self.asked).push(audiences.to_vec());
        let unknown = || Err(Unproven::Invalid("the token's \"signature\" is wrong".to_owned()));
        let told = lock(&self.tokens).get(token).cloned().unwrap_or_else(unknown);
        Box::pin(std::future::ready(told))
    }
}

impl Told {
    /// A token of somebody's with those scopes.
    fn prove(&self, token: &str, subject: &str, scopes: &[&str]) {
        let proven = Proven {
            subject: subject.to_owned(),
            client: None,
            scopes: scopes.iter().map(ToString::to_string).collect(),
            until: SystemTime::now() + Duration::from_secs(600),
        };
        self.say(token, Ok(proven));
    }

    fn say(&self, token: &str, said: Result<Proven, Unproven>) {
        lock(&self.tokens).insert(token.to_owned(), said);
    }
}

fn grant(scope: &str, servers: &[&str]) -> Grant {
    let servers: Vec<_> = servers.iter().map(|name| name.parse().unwrap()).collect();
    let servers = Some(servers).filter(|some| !some.is_empty());
    let rights = Rights { servers, ..Rights::default() };
    Grant { scope: Some(scope.parse().unwrap()), rights }
}

fn oauth(grants: Vec<Grant>) -> Oauth {
    Oauth {
        issuer: "https://login.example.com".parse().unwrap(),
        audience: "https://tools.example.com/mcp".parse().unwrap(),
        jwks_uri: None,
        grants,
    }
}

fn world(grants: Vec<Grant>) -> (World, Arc<Told>) {
    world_of(grants, Bounds::default())
}

fn world_of(grants: Vec<Grant>, bounds: Bounds) -> (World, Arc<Told>) {
    let (opening, opened) = mpsc::unbounded_channel();
    let told = Arc::new(Told::default());
    *lock(&told.oauth) = Some(oauth(grants));
    let access = Access {
        token: Some("own".to_owned()),
        tokens: Some(Arc::clone(&told) as Arc<dyn Tokens>),
        verifier: Some(Arc::clone(&told) as Arc<dyn Verifier>),
        origins: vec!["https://app.example".to_owned()],
        ..Access::default()
    };
    let gateway = Gateway::new(Scripted(opening), access, bounds);
    (World { router: gateway.router(), opened }, told)
}

fn challenge(response: &Response) -> String {
    response.headers()["www-authenticate"].to_str().unwrap().to_owned()
}

const METADATA: &str =
    "resource_metadata=\"https://tools.example.com/.well-known/oauth-protected-resource";

#[tokio::test]
async fn who_shows_no_token_or_a_wrong_one_is_told_where_to_get_one() {
    let (world, told) = world(vec![grant("all", &[]), grant("some", &["one"])]);
    let scope = "scope=\"some\"";
    let refused = world.send(post(ALL, &[], INITIALIZE)).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(challenge(&refused), format!("Bearer {METADATA}/mcp\", {scope}"));
    let refused = world.send(get("two", &[])).await;
    // Which does for that server, and no wider one.
    let two = format!("Bearer {METADATA}/servers/two/mcp\", scope=\"all\"");
    assert_eq!(challenge(&refused), two);
    let told_so = |why: &str| {
        format!(
            "Bearer {METADATA}/mcp\", error=\"invalid_token\", error_description=\"{why}\", {scope}"
        )
    };
    for (token, why) in [
        ("secret", "the token is not known here"),
        ("a.b", "the token is not known here"),
        ("a.b.", "the token is not known here"),
        ("a.b.c.d", "the token is not known here"),
        ("a.b.c=", "the token is not known here"),
        ("a.b.c", "the token's 'signature' is wrong"),
    ] {
        let refused = world.send(by(token, post(ALL, &[], INITIALIZE))).await;
        assert_eq!(refused.status(), 401, "{token}");
        assert_eq!(challenge(&refused), told_so(why), "{token}");
    }
    // Tokens elsewhere than in the header are not looked at.
    told.prove("good.to.ken", "alice", &["all"]);
    let mut request = post(ALL, &[], INITIALIZE);
    *request.uri_mut() = "/mcp?access_token=good.to.ken".parse().unwrap();
    assert_eq!(world.send(request).await.status(), 401);
    // Where nobody can tell, nobody is let in, but by the gateway's own.
    told.say("a.b.c", Err(Unproven::Unknown("get the keys: it is away".to_owned())));
    let refused = world.send(by("a.b.c", post(ALL, &[], INITIALIZE))).await;
    assert_eq!(refused.status(), 503);
    assert!(!value(refused).await.to_string().contains("keys"));
    for token in ["own", "ci", "good.to.ken"] {
        assert_eq!(
            world.send(by(token, post(ALL, &[], INITIALIZE))).await.status(),
            200,
            "{token}"
        );
    }
    // Where every token does for a server, none is named for it.
    let every = Grant { scope: None, ..grant("every", &["one"]) };
    *lock(&told.oauth) = Some(oauth(vec![grant("all", &[]), every]));
    for (server, scope) in [("one", ""), ("two", ", scope=\"all\"")] {
        let refused = world.send(post(server, &[], INITIALIZE)).await;
        let said = format!("Bearer {METADATA}/servers/{server}/mcp\"{scope}");
        assert_eq!(challenge(&refused), said);
    }
    *lock(&told.oauth) = None;
    let refused = world.send(by("good.to.ken", post(ALL, &[], INITIALIZE))).await;
    assert_eq!((refused.status().as_u16(), challenge(&refused).as_str()), (401, "Bearer"));
}

#[tokio::test]
async fn a_token_whose_scopes_do_not_do_is_told_which_would() {
    let (mut world, told) =
        world(vec![grant("root", &[]), grant("admin", &[]), grant("some", &["one"])]);
    told.prove("none.a.b", "alice", &["openid"]);
    told.prove("some.a.b", "alice", &["some"]);
    let refused = |path: &str, why: &str, scope: &str| {
        format!(
            "Bearer {METADATA}{path}\", error=\"insufficient_scope\", error_description=\"{why}\", scope=\"{scope}\""
        )
    };
    let nothing = "the token's scopes grant nothing here";
    for (token, server, said) in [
        ("none.a.b", "two", refused("/servers/two/mcp", nothing, "admin")),
        ("none.a.b", ALL, refused("/mcp", nothing, "some")),
        (
            "some.a.b",
            "two",
            refused("/servers/two/mcp", "the token's scopes do not grant this server", "admin"),
        ),
    ] {
        let answer = world.send(by(token, post(server, &[], INITIALIZE))).await;
        assert_eq!(answer.status(), 403);
        assert_eq!(challenge(&answer), said);
    }
    let (_, line) = session(&mut world, "some.a.b").await;
    assert_eq!(line.whom.token.as_deref(), Some("oauth:alice"));
    let written = by("some.a.b", post("%74wo", &[], INITIALIZE));
    assert_eq!(world.send(written).await.status(), 403, "however it is spelled");
    let list = modern_of(ALL, &json!(2), "tools/list", json!({}));
    let asked = tokio::spawn(world.send(by("some.a.b", list)));
    let (name, mut one) = world.named_server().await;
    assert_eq!(name, "one");
    lists_two_pages(&mut one, "t", "u").await;
    assert_eq!(tools(&value(asked.await.unwrap()).await), ["one__t", "one__u"]);
}

#[tokio::test]
async fn of_several_grants_the_first_counts_that_is_for_the_server() {
    let (mut world, told) = world(vec![grant("first", &["one"]), grant("second", &["two"])]);
    told.prove("both.a.b", "alice", &["second", "first"]);
    session(&mut world, "both.a.b").await;
    call(&mut world, "both.a.b", "two", None).await;
    let list = modern_of(ALL, &json!(2), "tools/list", json!({}));
    let asked = tokio::spawn(world.send(by("both.a.b", list)));
    let (name, mut one) = world.named_server().await;
    assert_eq!(name, "one");
    lists_two_pages(&mut one, "t", "u").await;
    assert_eq!(tools(&value(asked.await.unwrap()).await), ["one__t", "one__u"]);
}

#[tokio::test]
async fn a_token_is_made_for_all_servers_or_for_one() {
    let (mut world, told) = world(vec![grant("all", &[])]);
    told.prove("a.b.c", "alice", &["all"]);
    let all = "https://tools.example.com/mcp".to_owned();
    assert_eq!(world.send(by("a.b.c", post(ALL, &[], INITIALIZE))).await.status(), 200);
    session(&mut world, "a.b.c").await;
    let one = "https://tools.example.com/servers/one/mcp".to_owned();
    assert_eq!(*lock(&told.asked), [vec![all.clone()], vec![one, all]]);
}

#[tokio::test]
async fn anybody_may_read_whose_tokens_are_taken() {
    let (world, told) = world(vec![grant("all", &[]), grant("some", &["one"])]);
    let ask = async |host: &str, path: &str| {
        let request = Request::builder().uri(format!("{METADATA_PATH}{path}"));
        let request = request.header("host", host).header("origin", "https://app.example");
        world.send(request.body(Body::empty()).unwrap()).await
    };
    let of = |path: &str| {
        json!({
            "resource": format!("https://tools.example.com{path}"),
            "authorization_servers": ["https://login.example.com"],
            "scopes_supported": ["some"],
            "bearer_methods_supported": ["header"],
        })
    };
    for (path, resource) in [
        ("", "/mcp"),
        ("/mcp", "/mcp"),
        ("/servers/one/mcp", "/servers/one/mcp"),
        // Nobody is told which there are.
        ("/servers/no-such/mcp", "/servers/no-such/mcp"),
    ] {
        let answer = ask("localhost", path).await;
        assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(value(answer).await, of(resource));
    }
    for path in ["/other", "/servers/one", "/servers/../mcp", "/servers/a%20b/mcp", "/mcp/x"] {
        assert_eq!(ask("localhost", path).await.status(), 404, "{path}");
    }
    assert_eq!(ask("evil.example", "").await.status(), 403);
    let mut posted = post(ALL, &[], INITIALIZE);
    *posted.uri_mut() = METADATA_PATH.parse().unwrap();
    assert_eq!(world.send(posted).await.status(), 405);
    // What only looks so is no open door.
    let mut near = post(ALL, &[], INITIALIZE);
    *near.uri_mut() = format!("{METADATA_PATH}s").parse().unwrap();
    assert_eq!(world.send(near).await.status(), 401);
    // Behind a prefix, with it or where that is taken off on the way.
    let audience = "https://example.com/t/mcp".parse().unwrap();
    *lock(&told.oauth) = Some(Oauth { audience, ..oauth(vec![grant("all", &[])]) });
    for path in ["/t/mcp", "/mcp", "/t", ""] {
        let answer = value(ask("localhost", path).await).await;
        assert_eq!(answer["resource"], "https://example.com/t/mcp", "{path}");
    }
    let answer = value(ask("localhost", "/t/servers/one/mcp").await).await;
    assert_eq!(answer["resource"], "https://example.com/t/servers/one/mcp");
    // A prefix ends where a name does.
    let audience = "https://example.com/m/mcp".parse().unwrap();
    let every = Grant { scope: None, ..grant("every", &[]) };
    *lock(&told.oauth) = Some(Oauth { audience, ..oauth(vec![every]) });
    let answer = value(ask("localhost", "/mcp").await).await;
    assert_eq!(answer["resource"], "https://example.com/m/mcp");
    assert!(answer.get("scopes_supported").is_none(), "{answer}");
    *lock(&told.oauth) = None;
    assert_eq!(ask("localhost", "").await.status(), 404);
}

#[tokio::test]
async fn where_no_token_is_asked_for_nobody_is_told_of_an_issuer() {
    let (opening, _opened) = mpsc::unbounded_channel();
    let told = Told::default();
    *lock(&told.oauth) = Some(oauth(vec![grant("all", &[])]));
    let access = Access { tokens: Some(Arc::new(told)), ..Access::default() };
    let router = Gateway::new(Scripted(opening), access, Bounds::default()).router();
    let request = Request::builder().uri(METADATA_PATH).header("host", "localhost");
    let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn a_session_is_its_subjects_whichever_token_they_show() {
    let (mut world, told) = world(vec![grant("all", &[]), grant("less", &[])]);
    told.prove("alice.1.x", "alice", &["all"]);
    let (id, mut server) = session(&mut world, "alice.1.x").await;
    let own = [(headers::SESSION, id.as_str())];
    told.prove("bob.1.x", "bob", &["all"]);
    told.prove("alice.less.x", "alice", &["less"]);
    let proven = lock(&told.tokens)["alice.1.x"].clone().unwrap();
    told.say("alice.app.x", Ok(Proven { client: Some("app".to_owned()), ..proven }));
    for strange in ["bob.1.x", "alice.less.x", "alice.app.x", "own", "ci"] {
        let requests = [
            post("one", &own, LIST),
            get("one", &own),
            request("DELETE", "one", &own).body(Body::empty()).unwrap(),
        ];
        for request in requests {
            assert_eq!(world.send(by(strange, request)).await.status(), 404, "{strange}");
        }
    }
    // A newer token goes on with it; the old one has had its time.
    told.prove("alice.2.x", "alice", &["all", "more"]);
    told.say("alice.1.x", Err(Unproven::Invalid("the token has expired".to_owned())));
    assert_eq!(world.send(by("alice.1.x", post("one", &own, LIST))).await.status(), 401);
    let asked = tokio::spawn(world.send(by("alice.2.x", post("one", &own, LIST))));
    let heard = server.hears().await;
    server.answers(&heard, &json!({ "tools": [] }));
    assert_eq!(asked.await.unwrap().status(), 200);
    // Of another issuer, somebody of that name is somebody else.
    let issuer = "https://other.example.com".parse().unwrap();
    *lock(&told.oauth) = Some(Oauth { issuer, ..oauth(vec![grant("all", &[])]) });
    assert_eq!(world.send(by("alice.2.x", post("one", &own, LIST))).await.status(), 404);
}

#[tokio::test]
async fn a_server_process_is_one_subjects_unless_its_server_is_shared() {
    let (mut world, told) = world(vec![grant("all", &[])]);
    told.prove("alice.1.x", "alice", &["all"]);
    told.prove("alice.2.x", "alice", &["all"]);
    told.prove("bob.1.x", "bob", &["all"]);
    let alice = call(&mut world, "alice.1.x", "one", None).await;
    let holder = alice.whom.holder.clone().unwrap();
    assert!(holder.starts_with("oauth:") && !holder.contains("alice"), "{holder}");
    let alice = call(&mut world, "alice.2.x", "one", Some(alice)).await;
    let bob = call(&mut world, "bob.1.x", "one", None).await;
    assert_eq!(bob.whom.token.as_deref(), Some("oauth:bob"));
    assert_ne!(alice.whom.holder, bob.whom.holder);
    let both = call(&mut world, "alice.1.x", "two", None).await;
    assert_eq!(both.whom, OnBehalf::default());
    call(&mut world, "bob.1.x", "two", Some(both)).await;
}

#[tokio::test]
async fn records_have_no_control_characters_no_endless_names_and_none_for_two() {
    let (mut world, told) = world(vec![grant("all", &[])]);
    let mut names = std::collections::BTreeSet::new();
    let long = "é".repeat(97);
    let subjects = [
        ("a\u{1b}[2J\n\u{85}b", "oauth:a?[2J??b#"),
        ("a\u{1b}[2J\n\u{86}b", "oauth:a?[2J??b#"),
        (&"é".repeat(500), &format!("oauth:{long}#")),
        (&"é".repeat(501), &format!("oauth:{long}#")),
        (&"é".repeat(114), &format!("oauth:{}", "é".repeat(114))),
        ("", "oauth:"),
    ];
    for (number, (subject, begins)) in subjects.into_iter().enumerate() {
        let token = format!("a.{number}.x");
        told.prove(&token, subject, &["all"]);
        let name = session(&mut world, &token).await.1.whom.token.unwrap();
        assert!(name.starts_with(begins) && name.chars().count() <= 120, "{name}");
        names.insert(name);
    }
    // One that is called as another is shown.
    let shown = names.iter().find(|name| name.contains(&long) && name.contains('#')).unwrap();
    told.prove("a.z.x", shown.strip_prefix("oauth:").unwrap(), &["all"]);
    names.insert(session(&mut world, "a.z.x").await.1.whom.token.unwrap());
    assert_eq!(names.len(), 7, "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_granted_any_more_ends_by_itself() {
    let (mut world, told) = world(vec![grant("all", &[]), grant("some", &["one"])]);
    told.prove("alice.1.x", "alice", &["some"]);
    told.prove("bob.1.x", "bob", &["all"]);
    let (_, mut gone) = session(&mut world, "alice.1.x").await;
    let (id, mut stays) = session(&mut world, "bob.1.x").await;
    // How often bob may ask is no matter of who he is.
    let mut slower = grant("all", &[]);
    slower.rights.requests_per_minute = std::num::NonZeroU32::new(9);
    *lock(&told.oauth) = Some(oauth(vec![slower, grant("some", &["one", "two"])]));
    assert!(tokio::time::timeout(PATIENCE, gone.heard.recv()).await.unwrap().is_none());
    let own = [(headers::SESSION, id.as_str())];
    let asked = tokio::spawn(world.send(by("bob.1.x", post("one", &own, LIST))));
    let heard = stays.hears().await;
    stays.answers(&heard, &json!({}));
    assert_eq!(asked.await.unwrap().status(), 200);
    // Keys of another place are another issuer's.
    let jwks_uri = Some("https://login.example.com/keys".parse().unwrap());
    *lock(&told.oauth) = Some(Oauth { jwks_uri, ..oauth(vec![grant("all", &[])]) });
    assert!(tokio::time::timeout(PATIENCE, stays.heard.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_it_was_asked_for_by() {
    let (mut world, told) = world(vec![grant("all", &[])]);
    told.prove("alice.1.x", "alice", &["all"]);
    let (id, _server) = session(&mut world, "alice.1.x").await;
    let own = [(headers::SESSION, id.as_str())];
    let proven = lock(&told.tokens)["alice.1.x"].clone().unwrap();
    let until = SystemTime::now() + Duration::from_millis(200);
    told.say("alice.2.x", Ok(Proven { until, ..proven }));
    let short = world.send(by("alice.2.x", get("one", &own))).await;
    assert_eq!(short.status(), 200);
    let ended = tokio::time::timeout(PATIENCE, to_bytes(short.into_body(), usize::MAX)).await;
    assert!(ended.unwrap().unwrap().is_empty());
    let long = world.send(by("alice.1.x", get("one", &own))).await;
    assert_eq!(long.status(), 200);
    let mut long = long.into_body().into_data_stream();
    assert!(long.next().now_or_never().is_none(), "the session goes on");
}

#[tokio::test]
async fn each_subject_has_the_limit_of_its_grant() {
    let mut slow = grant("all", &[]);
    slow.rights.requests_per_minute = std::num::NonZeroU32::new(2);
    let (world, told) = world(vec![slow]);
    for name in ["alice", "bob"] {
        told.prove(&format!("{name}.1.x"), name, &["all"]);
        told.prove(&format!("{name}.2.x"), name, &["all"]);
    }
    let ask = async |token: &str| {
        let discover = modern_of(ALL, &json!(5), "server/discover", json!({}));
        world.send(by(token, discover)).await
    };
    for token in ["alice.1.x", "alice.2.x", "bob.1.x", "bob.1.x"] {
        assert_eq!(ask(token).await.status(), 200);
    }
    let refused = ask("alice.1.x").await;
    assert_eq!(refused.status(), 429);
    let why = value(refused).await["error"]["message"].as_str().unwrap().to_owned();
    assert!(why.starts_with("token oauth:alice asks too often: the limit is 2 a minute"), "{why}");
    // Another client of a subject's has no limit of its own.
    let proven = lock(&told.tokens)["alice.1.x"].clone().unwrap();
    told.say("alice.app.x", Ok(Proven { client: Some("app".to_owned()), ..proven }));
    assert_eq!(ask("alice.app.x").await.status(), 429);
}

#[tokio::test]
async fn no_subject_takes_the_sessions_of_all() {
    let (mut world, told) =
        world_of(vec![grant("all", &[])], Bounds { sessions: 17, ..Bounds::default() });
    for name in ["alice", "bob"] {
        told.prove(&format!("{name}.1.x"), name, &["all"]);
    }
    let proven = lock(&told.tokens)["alice.1.x"].clone().unwrap();
    told.say("alice.app.x", Ok(Proven { client: Some("app".to_owned()), ..proven }));
    let (first, _first) = session(&mut world, "alice.1.x").await;
    let _second = session(&mut world, "alice.app.x").await;
    let refused = world.send(by("alice.1.x", post("one", &[], INITIALIZE))).await;
    assert_eq!(refused.status(), 503);
    let why = "subject oauth:alice has 2 sessions, which is the most for one subject";
    assert_eq!(value(refused).await["error"]["message"], why);
    let _bob = session(&mut world, "bob.1.x").await;
    for _ in 0..3 {
        session(&mut world, "own").await;
    }
    // One that has ended makes room.
    let own = [(headers::SESSION, first.as_str())];
    let end = request("DELETE", "one", &own).body(Body::empty()).unwrap();
    assert!(world.send(by("alice.1.x", end)).await.status().is_success());
    session(&mut world, "alice.1.x").await;
}

#[tokio::test]
async fn no_subject_takes_the_server_processes_of_all() {
    let (mut world, told) = world(vec![grant("all", &[])]);
    told.prove("alice.1.x", "alice", &["all"]);
    told.prove("bob.1.x", "bob", &["all"]);
    let bobs = call(&mut world, "bob.1.x", "one", None).await;
    let mut open = Vec::new();
    for number in 0..32 {
        let asked = tokio::spawn(world.send(by("alice.1.x", of_kind(number))));
        let mut server = world.server().await;
        let heard = server.hears().await;
        open.push((asked, server, heard));
    }
    let refused = world.send(by("alice.1.x", of_kind(32))).await;
    assert_eq!(refused.status(), 503);
    let why = "subject oauth:alice is served by 32 processes, which is the most for one subject";
    assert_eq!(value(refused).await["error"]["message"], why);
    // One that is idle makes room for another, and nobody else's does.
    let (asked, mut idle, heard) = open.remove(0);
    idle.answers(&heard, &json!({}));
    assert_eq!(asked.await.unwrap().status(), 200);
    let asked = tokio::spawn(world.send(by("alice.1.x", of_kind(33))));
    let _other = world.server().await;
    assert!(tokio::time::timeout(PATIENCE, idle.heard.recv()).await.unwrap().is_none());
    call(&mut world, "bob.1.x", "one", Some(bobs)).await;
    asked.abort();
}

/// A request of a kind of client that needs a process of its own.
fn of_kind(number: u64) -> Request<Body> {
    let capabilities = json!({ "experimental": { number.to_string(): {} } });
    let meta = json!({ "io.modelcontextprotocol/clientCapabilities": capabilities });
    let mut request = modern_of("one", &json!(1), "tools/list", json!({ "_meta": meta }));
    // Of one that does not say how long it is few are read at a time.
    request.headers_mut().insert("content-length", "1".parse().unwrap());
    request
}
