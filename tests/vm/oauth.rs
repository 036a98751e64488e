//! `[gateway.oauth]`: clients with tokens that an authorization server has given them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::gateway::{ALL, Gateway, Response, call};
use crate::osvm::Osvm;
use crate::tokens::ask;

const AUDIENCE: &str = "https://tools.example.com/mcp";

/// As far as a resource server sees one.
struct Issuer {
    address: String,
    pair: EcdsaKeyPair,
}

impl Issuer {
    fn start() -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(how, made.as_ref(), &random).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let key = json!({ "kty": "EC", "crv": "P-256", "kid": "k", "x": coded(x), "y": coded(y) });
        let metadata = json!({ "issuer": address, "jwks_uri": format!("{address}/keys") });
        let answers = [
            ("/.well-known/oauth-authorization-server", metadata),
            ("/keys", json!({ "keys": [key] })),
        ];
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<_> =
                    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
                let found = answers.iter().find(|(own, _)| *own == path);
                let (status, body) =
                    found.map_or((404, String::new()), |(_, answer)| (200, answer.to_string()));
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} -\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, pair }
    }

    /// For so many seconds from now on.
    fn token(&self, subject: &str, scope: &str, seconds: i64) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let head = json!({ "alg": "ES256", "kid": "k", "typ": "at+jwt" });
        let claims = json!({
            "iss": self.address, "aud": AUDIENCE, "sub": subject, "scope": scope, "client_id": "app",
            "exp": now.saturating_add_signed(seconds),
        });
        let message = format!("{}.{}", coded(head.to_string()), coded(claims.to_string()));
        let signed = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", coded(signed))
    }
}

fn coded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn challenge(response: &Response) -> &str {
    response.header("www-authenticate").unwrap()
}

#[test]
fn a_client_finds_the_issuer_and_its_token_does_what_its_scope_grants() {
    let issuer = Issuer::start();
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    osvm.ok(&["mcp", "add", "spare"]);
    let gateway = Gateway::start(&osvm, &[]);
    let list = || json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
    let alice = issuer.token("alice", "openid tools", 600);
    assert_eq!(challenge(&ask(&gateway, &alice, ALL, list())), "Bearer");

    // What is written down is known without a restart.
    let file = osvm.home().join("isolation_config.toml");
    let plain = std::fs::read_to_string(&file).unwrap();
    let section = format!(
        "[gateway.oauth]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\n\n[[gateway.oauth.grants]]\n\
         scope = \"tools\"\nservers = [\"demo\"]\ntools = [\"demo__add\"]\n",
        issuer.address
    );
    std::fs::write(&file, format!("{plain}\n{section}")).unwrap();
    let unknown = gateway.send("POST", ALL, &[("host", "localhost")], &list());
    assert_eq!(unknown.status, 401, "{}", unknown.body);
    let place = challenge(&unknown).split("resource_metadata=\"https://tools.example.com").nth(1);
    let place = place.and_then(|rest| rest.split('"').next()).unwrap();
    let metadata = gateway.send("GET", place, &[("host", "localhost")], &json!(null)).json();
    assert_eq!(metadata["resource"], AUDIENCE);
    assert_eq!(metadata["authorization_servers"], json!([issuer.address]));
    assert_eq!(metadata["scopes_supported"], json!(["tools"]));

    let listed = ask(&gateway, &alice, ALL, list()).json();
    let tools = listed["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["demo__add"]);
    let add = || call(2, "add", &json!({ "a": 1, "b": 2 }));
    let sum = ask(&gateway, &alice, "demo", add()).json();
    assert_eq!(sum["result"]["content"][0]["text"], "3");
    let echo = call(3, "echo", &json!({ "text": "x" }));
    let refused = ask(&gateway, &alice, "demo", echo).json();
    let why = "policy refuses tool echo of demo: token oauth:alice may not call it";
    assert_eq!(refused["error"]["message"], why);
    let other = ask(&gateway, &alice, "spare", add());
    assert_eq!(other.status, 403, "{}", other.body);
    assert!(challenge(&other).contains("error=\"insufficient_scope\""), "{}", challenge(&other));
    assert!(osvm.vms().iter().all(|vm| vm["name"] == "demo"), "the other never starts");

    for (token, status, why) in [
        (issuer.token("alice", "tools", -120), 401, "the token has expired"),
        (Issuer::start().token("alice", "tools", 600), 401, "the token's signature is wrong"),
        (issuer.token("alice", "openid", 600), 403, "scope=\"tools\""),
    ] {
        let refused = ask(&gateway, &token, "demo", add());
        assert_eq!(refused.status, status, "{}", refused.body);
        assert!(challenge(&refused).contains(why), "{}", challenge(&refused));
    }
    let own = ask(&gateway, &gateway.token, "demo", add()).json();
    assert_eq!(own["result"]["content"][0]["text"], "3");

    let record = osvm.json(&["mcp", "audit", "--json"]);
    let calls: Vec<_> = record["calls"].as_array().unwrap().iter().collect();
    let told: Vec<_> =
        calls.iter().map(|call| json!([call["caller"]["token"], call["outcome"]])).collect();
    let known = [["oauth:alice", "ok"], ["oauth:alice", "refused"], ["default", "ok"]];
    assert_eq!(Value::from(told), json!(known));
    std::fs::write(&file, plain).unwrap();
    assert_eq!(challenge(&ask(&gateway, &alice, ALL, list())), "Bearer");
    gateway.end();
}

#[test]
fn a_subject_keeps_its_session_with_a_newer_token_and_nobody_else_has_it() {
    let issuer = Issuer::start();
    let osvm = Osvm::with_config(&format!(
        "[[servers]]\nid = \"demo\"\n[gateway.oauth]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\n\
         [[gateway.oauth.grants]]\nscope = \"*\"\nservers = [\"*\"]\n",
        issuer.address
    ));
    let gateway = Gateway::start(&osvm, &[]);
    let [alice, newer, bob] = [("alice", 600), ("alice", 900), ("bob", 600)]
        .map(|(subject, seconds)| issuer.token(subject, "", seconds));
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "0" } } });
    let begun = gateway.post_by(&alice, "demo", &[], &initialize);
    assert_eq!(begun.json()["result"]["serverInfo"]["name"], "osvm-demo");
    let session = [("mcp-session-id", begun.header("mcp-session-id").unwrap())];
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    assert_eq!(gateway.post_by(&bob, "demo", &session, &ping).status, 404);
    assert_eq!(gateway.post_by(&newer, "demo", &session, &ping).status, 200);
    assert_eq!(gateway.post_by(&gateway.token, "demo", &session, &ping).status, 404);
    gateway.end();
}
