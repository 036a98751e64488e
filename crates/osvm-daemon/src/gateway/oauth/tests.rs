//! An issuer on the loopback, and tokens that are its, and that are not.

mod hostile;
mod issuer;

use std::sync::atomic::Ordering::Relaxed;

use osvm_spec::config::{Grant, Rights};
use serde_json::{Value, json};

use self::issuer::{Issuer, Key, coded, now};
use super::*;

/// One that asks without pauses, unless a test says otherwise.
fn issuers(pace: Pace) -> Issuers {
    Issuers { pace, ..Issuers::new(Ways::default()) }
}

const EAGER: Pace = Pace {
    renew: Duration::from_secs(600),
    keep: Duration::from_secs(3_600),
    burst: 1,
    pause: Duration::ZERO,
    retry: Duration::ZERO,
};
const AUDIENCE: &str = "https://tools.example.com/mcp";

fn oauth(issuer: &Issuer) -> Oauth {
    Oauth {
        issuer: issuer.address.parse().unwrap(),
        audience: AUDIENCE.parse().unwrap(),
        jwks_uri: None,
        grants: vec![Grant { scope: None, rights: Rights::default() }],
    }
}

async fn verify(issuers: &Issuers, oauth: &Oauth, token: &str) -> Result<Proven, Unproven> {
    issuers.verify(token, oauth, &[AUDIENCE.to_owned()]).await
}

/// Why a token is no good.
async fn refused(issuers: &Issuers, oauth: &Oauth, token: &str) -> String {
    match verify(issuers, oauth, token).await {
        Err(Unproven::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Good ones.
fn claims(issuer: &Issuer) -> Value {
    json!({
        "iss": issuer.address, "sub": "alice", "aud": AUDIENCE, "exp": now() + 300,
        "client_id": "app", "scope": "tools more",
    })
}

fn with(mut claims: Value, key: &str, value: Value) -> Value {
    claims[key] = value;
    claims
}

fn without(mut claims: Value, key: &str) -> Value {
    claims.as_object_mut().unwrap().remove(key);
    claims
}

#[tokio::test]
async fn a_token_of_each_algorithm_says_whom_it_stands_for() {
    for key in Key::of_each_kind() {
        let issuer = Issuer::start(&[key.jwk("k")]).await;
        let (issuers, oauth) = (issuers(EAGER), oauth(&issuer));
        let proven = verify(&issuers, &oauth, &key.token("k", &claims(&issuer))).await.unwrap();
        assert_eq!(proven.subject, "alice", "{}", key.algorithm);
        assert_eq!(proven.client.as_deref(), Some("app"));
        assert_eq!(proven.scopes, ["tools", "more"]);
        let left = proven.until.duration_since(SystemTime::now()).unwrap().as_secs();
        assert!((300..=361).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn claims_are_taken_as_issuers_spell_them() {
    let key = Key::new("ES256");
    let issuer = Issuer::start(&[key.jwk("k")]).await;
    let (issuers, oauth) = (issuers(EAGER), oauth(&issuer));
    let good = || claims(&issuer);
    let several = with(good(), "aud", json!(["https://other.example", AUDIENCE]));
    let listed = with(without(good(), "scope"), "scp", json!(["tools", "more"]));
    let other = with(without(good(), "client_id"), "azp", json!("app"));
    let skewed = with(with(good(), "exp", json!(now() - 50)), "nbf", json!(now() + 50));
    let fraction = with(good(), "exp", json!(now() as f64 + 300.5));
    for claims in [several, listed, other, skewed, fraction] {
        let proven = verify(&issuers, &oauth, &key.token("k", &claims)).await.unwrap();
        assert_eq!((proven.client.as_deref(), proven.scopes.len()), (Some("app"), 2), "{claims}");
    }
    let none = without(without(good(), "scope"), "client_id");
    let proven = verify(&issuers, &oauth, &key.token("k", &none)).await.unwrap();
    assert_eq!((proven.client, proven.scopes), (None, vec![]));
    for kind in ["at+jwt", "application/at+jwt", "JWT"] {
        let head = json!({ "alg": "ES256", "kid": "k", "typ": kind });
        let token = key.sign(&head.to_string(), &good().to_string());
        assert!(verify(&issuers, &oauth, &token).await.is_ok(), "{kind}");
    }
}

#[tokio::test]
async fn claims_that_are_wrong_or_missing_are_refused() {
    let key = Key::new("ES256");
    let issuer = Issuer::start(&[key.jwk("k")]).await;
    let (issuers, oauth) = (issuers(EAGER), oauth(&issuer));
    let good = || claims(&issuer);
    let other = "https://other.example";
    let unread = "the token can't be read";
    for (claims, why) in [
        (with(good(), "iss", json!(other)), "the token is of another issuer"),
        (with(good(), "iss", json!([other, issuer.address])), unread),
        (
            with(good(), "iss", json!(format!("{}/", issuer.address))),
            "the token is of another issuer",
        ),
        (without(good(), "iss"), unread),
        (with(good(), "aud", json!(other)), "the token was made for another audience"),
        (with(good(), "aud", json!([other])), "the token was made for another audience"),
        (with(good(), "aud", json!([])), "the token was made for another audience"),
        (without(good(), "aud"), "the token has no aud"),
        (with(good(), "exp", json!(now() - 70)), "the token has expired"),
        (with(good(), "exp", json!("2099-01-01")), unread),
        (with(good(), "exp", json!(1e300)), "the token has no exp"),
        (with(good(), "exp", json!(-1)), "the token has no exp"),
        (with(good(), "exp", json!(u64::MAX)), "the token's exp is no time"),
        (without(good(), "exp"), unread),
        (with(good(), "nbf", json!(now() + 70)), "the token is not valid yet"),
        (with(good(), "nbf", json!("now")), unread),
        (without(good(), "sub"), unread),
        (with(good(), "sub", json!(7)), unread),
        (with(good(), "scope", json!(7)), unread),
    ] {
        assert_eq!(refused(&issuers, &oauth, &key.token("k", &claims)).await, why, "{claims}");
    }
    for twice in ["iss", "sub", "aud", "exp", "nbf", "scope", "client_id"] {
        let claims = with(good(), "nbf", json!(0)).to_string();
        let first = format!("{{\"{twice}\":{},", with(good(), "nbf", json!(0))[twice]);
        let claims = claims.replacen('{', &first, 1);
        let head = json!({ "alg": "ES256", "kid": "k" }).to_string();
        let why = refused(&issuers, &oauth, &key.sign(&head, &claims)).await;
        assert_eq!(why, unread, "{claims}");
    }
}

#[tokio::test]
async fn what_was_not_made_to_be_shown_by_whoever_has_it_is_refused() {
    let key = Key::new("ES256");
    let issuer = Issuer::start(&[key.jwk("k")]).await;
    let (issuers, oauth) = (issuers(EAGER), oauth(&issuer));
    let token = |typ: &str, name: &str| {
        let head = json!({ "alg": "ES256", "kid": "k", "typ": typ }).to_string();
        key.sign(&head, &with(claims(&issuer), name, json!({ "jkt": "a" })).to_string())
    };
    for typ in ["at+jwt", "application/at+jwt", "JWT"] {
        let bound = refused(&issuers, &oauth, &token(typ, "cnf")).await;
        assert_eq!(bound, "the token is bound to a key of its sender's, which is not checked here");
    }
    for name in ["nonce", "at_hash", "events"] {
        let other = refused(&issuers, &oauth, &token("jwt", name)).await;
        assert_eq!(other, "it is no access token by its claims", "{name}");
        let claims = with(claims(&issuer), name, json!("a")).to_string();
        let untyped = key.sign(r#"{"alg":"ES256","kid":"k"}"#, &claims);
        assert_eq!(refused(&issuers, &oauth, &untyped).await, other);
        for typ in ["at+jwt", "application/at+JWT"] {
            assert!(verify(&issuers, &oauth, &token(typ, name)).await.is_ok(), "{typ} {name}");
        }
    }
}

#[tokio::test]
async fn heads_that_do_not_name_a_key_of_the_issuer_are_refused() {
    let (key, other) = (Key::new("ES256"), Key::new("ES256"));
    let issuer = Issuer::start(&[key.jwk("k")]).await;
    let (issuers, oauth) = (issuers(EAGER), oauth(&issuer));
    let claims = claims(&issuer).to_string();
    let refuse = async |token: String| refused(&issuers, &oauth, &token).await;
    assert_eq!(
        refuse(other.sign(r#"{"alg":"ES256","kid":"k"}"#, &claims)).await,
        "the token's signature is wrong"
    );
    let unread = "the token can't be read";
    for (head, why) in [
        (r#"{"alg":"none","kid":"k"}"#, unread),
        (r#"{"alg":"NONE"}"#, unread),
        (r#"{"kid":"k"}"#, unread),
        (r#"{"alg":"ES256","alg":"ES256","kid":"k"}"#, unread),
        (r#"{"alg":"ES256","kid":"k","kid":"k"}"#, unread),
        (r#"{"alg":"ES256","kid":"k","typ":"dpop+jwt"}"#, "it is no access token by its typ"),
        (
            r#"{"alg":"ES256","kid":"k","crit":["x"]}"#,
            "the token's head asks for what is not understood",
        ),
        (r#"{"alg":"ES256","kid":"other"}"#, "no key of its issuer verifies the token"),
        (r#"{"alg":"ES384","kid":"k"}"#, "no key of its issuer verifies the token"),
        (r#"{"alg":"RS256","kid":"k"}"#, "no key of its issuer verifies the token"),
    ] {
        assert_eq!(refuse(key.sign(head, &claims)).await, why, "{head}");
    }
    let unsigned = [coded(r#"{"alg":"none"}"#), coded(&claims), String::new()].join(".");
    assert_eq!(refuse(unsigned).await, unread);
    // The public key is no secret.
    let symmetric = "the token is not signed by a key that is its issuer's alone";
    assert_eq!(refuse(key.by_public_key(r#"{"alg":"HS256","kid":"k"}"#, &claims)).await, symmetric);
    let padded = with(serde_json::from_str(&claims).unwrap(), "pad", json!("x".repeat(13_000)));
    assert_eq!(refuse(key.token("k", &padded)).await, "the token exceeds 16384 bytes");
    let cut = key.token("k", &serde_json::from_str(&claims).unwrap());
    assert_eq!(refuse(cut[..cut.len() - 2].to_owned()).await, "the token's signature is wrong");
}

#[tokio::test]
async fn a_key_verifies_what_its_issuer_has_made_it_for() {
    let key = Key::new("ES256");
    let plain = key.jwk("k");
    let unfit = "no key of its issuer verifies the token";
    for (name, value, fits) in [
        ("use", json!("sig"), true),
        ("use", json!("enc"), false),
        ("use", json!("tls"), false),
        ("alg", json!("ES256"), true),
        ("alg", json!("ES384"), false),
        ("alg", json!("ECDH-ES"), false),
        ("key_ops", json!(["verify"]), true),
        ("key_ops", json!(["encrypt"]), false),
        ("crv", json!("P-384"), false),
    ] {
        let issuer = Issuer::start(&[with(plain.clone(), name, value.clone())]).await;
        let (issuers, oauth) = (issuers(EAGER), oauth(&issuer));
        let token = key.token("k", &claims(&issuer));
        match fits {
            true => assert!(verify(&issuers, &oauth, &token).await.is_ok(), "{value}"),
            false => assert_eq!(refused(&issuers, &oauth, &token).await, unfit, "{value}"),
        }
    }
    // What is not understood is passed over; a secret is no key; and without a name there is but one.
    let strange = json!({ "kty": "LATER", "kid": "l" });
    let secret = json!({ "kty": "oct", "kid": "k", "k": "c2VjcmV0" });
    let issuer = Issuer::start(&[strange, secret, plain.clone()]).await;
    let (first, oauth) = (issuers(EAGER), oauth(&issuer));
    let nameless = key.sign(r#"{"alg":"ES256"}"#, &claims(&issuer).to_string());
    assert!(verify(&first, &oauth, &key.token("k", &claims(&issuer))).await.is_ok());
    assert!(verify(&first, &oauth, &nameless).await.is_ok());
    issuer.now_has(&[plain, Key::new("ES256").jwk("l")]);
    assert_eq!(refused(&issuers(EAGER), &oauth, &nameless).await, unfit);
}

#[tokio::test]
async fn a_new_key_is_asked_for_once_by_all_who_need_it() {
    let (old, new) = (Key::new("ES256"), Key::new("ES256"));
    let issuer = Issuer::start(&[old.jwk("old")]).await;
    let issuers = issuers(Pace { burst: 2, pause: Duration::from_secs(600), ..EAGER });
    let oauth = oauth(&issuer);
    let tokens = [old.token("old", &claims(&issuer)), new.token("new", &claims(&issuer))];
    let all = (0..8).map(|_| verify(&issuers, &oauth, &tokens[0]));
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(issuer.asked.load(Relaxed), 1);
    // Though it was asked just now.
    issuer.now_has(&[new.jwk("new")]);
    let all = (0..8).map(|_| verify(&issuers, &oauth, &tokens[1]));
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(issuer.asked.load(Relaxed), 2);
    // One that the issuer has taken back verifies nothing any more.
    let unfit = "no key of its issuer verifies the token";
    assert_eq!(refused(&issuers, &oauth, &tokens[0]).await, unfit);
    assert_eq!(issuer.asked.load(Relaxed), 3);
    // Whoever makes it be asked again and again is not told that the key is missing.
    let again = verify(&issuers, &oauth, &tokens[0]).await;
    assert!(matches!(again, Err(Unproven::Unknown(_))), "{again:?}");
    assert!(verify(&issuers, &oauth, &tokens[1]).await.is_ok());
    assert_eq!(issuer.asked.load(Relaxed), 3);
}

#[tokio::test]
async fn keys_serve_for_a_while_when_the_issuer_is_away_and_then_nobody_is_let_in() {
    let key = Key::new("ES256");
    let issuer = Issuer::start(&[key.jwk("k")]).await;
    let oauth = oauth(&issuer);
    let token = key.token("k", &claims(&issuer));
    issuer.down.store(true, Relaxed);
    let old = issuers(Pace { renew: Duration::ZERO, ..EAGER });
    let unknown = |proven: Result<Proven, Unproven>| match proven {
        Err(Unproven::Unknown(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = unknown(verify(&old, &oauth, &token).await);
    assert!(why.ends_with("the answer was 500"), "{why}");
    issuer.down.store(false, Relaxed);
    assert!(verify(&old, &oauth, &token).await.is_ok());
    issuer.down.store(true, Relaxed);
    // Newer ones are asked for behind this, and not had.
    assert!(verify(&old, &oauth, &token).await.is_ok());
    let other = key.token("other", &claims(&issuer));
    unknown(verify(&old, &oauth, &other).await);
    assert!(verify(&old, &oauth, &token).await.is_ok());
    // Too old, they do not serve.
    let strict = issuers(Pace { keep: Duration::ZERO, ..EAGER });
    unknown(verify(&strict, &oauth, &token).await);
    issuer.down.store(false, Relaxed);
    assert!(verify(&strict, &oauth, &token).await.is_ok());
    issuer.down.store(true, Relaxed);
    unknown(verify(&strict, &oauth, &token).await);
}

#[test]
fn keys_serve_for_twice_the_time_after_which_they_are_renewed_and_no_longer() {
    let Pace { renew, keep, .. } = Pace::default();
    assert_eq!((renew, keep), (Duration::from_secs(600), Duration::from_secs(1_200)));
}

#[tokio::test]
async fn keys_are_renewed_behind_the_requests_that_need_them() {
    let key = Key::new("ES256");
    let issuer = Issuer::start(&[key.jwk("k")]).await;
    let oauth = oauth(&issuer);
    let issuers = issuers(Pace { renew: Duration::ZERO, ..EAGER });
    let token = key.token("k", &claims(&issuer));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while issuer.asked.load(Relaxed) < 3 {
        assert!(verify(&issuers, &oauth, &token).await.is_ok());
        assert!(std::time::Instant::now() < deadline, "they are not renewed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn keys_come_from_the_issuer_that_is_configured_and_from_nobody_it_redirects_to() {
    let key = Key::new("ES256");
    let issuer = Issuer::start(&[key.jwk("k")]).await;
    let token = key.token("k", &claims(&issuer));
    let ask = async |oauth: Oauth| match verify(&issuers(EAGER), &oauth, &token).await {
        Err(Unproven::Unknown(why)) => why,
        other => panic!("{other:?}"),
    };
    let of = |path: &str| Oauth {
        issuer: format!("{}{path}", issuer.address).parse().unwrap(),
        ..oauth(&issuer)
    };
    // The metadata there is that of another issuer, and elsewhere there is none.
    let why = ask(of("/other")).await;
    let address = &issuer.address;
    let places = ["oauth-authorization-server/other", "openid-configuration/other"];
    let [first, second] = places.map(|path| format!("{address}/.well-known/{path}"));
    let third = format!("{address}/other/.well-known/openid-configuration");
    let told = format!(
        "at {first} it is that of {address:?}; at {second} there is none; at {third} there is none"
    );
    assert!(why.ends_with(&told), "{why}");
    let why = ask(of("/none")).await;
    assert!(why.ends_with("there is none"), "{why}");
    let by = |path: &str| Oauth {
        jwks_uri: Some(format!("{}{path}", issuer.address).parse().unwrap()),
        ..oauth(&issuer)
    };
    for (path, why) in [
        ("/moved", "redirects are not followed"),
        ("/large", "limit"),
        ("/nothing", "there are none"),
        ("/text", "no JWK set"),
    ] {
        let told = ask(by(path)).await;
        assert!(told.contains(why), "{told}");
    }
    assert!(verify(&issuers(EAGER), &by("/keys"), &token).await.is_ok());
    // By OpenID's metadata, too, whatever is at the places before it.
    let openid = of("/openid");
    let claims = with(claims(&issuer), "iss", json!(openid.issuer.as_str()));
    assert!(verify(&issuers(EAGER), &openid, &key.token("k", &claims)).await.is_ok());
}
