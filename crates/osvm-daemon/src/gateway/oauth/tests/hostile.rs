//! Tokens and key sets that anybody may make up.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::gateway::oauth::keys::Keys;

const ISSUER: &str = "https://issuer.example";

/// Without an issuer that could be asked: by these keys alone.
fn prove(token: &str, keys: &Keys) -> Result<Proven, Unproven> {
    crypto::install();
    let oauth = Oauth {
        issuer: ISSUER.parse().unwrap(),
        audience: AUDIENCE.parse().unwrap(),
        jwks_uri: None,
        grants: vec![],
    };
    let head = Head::of(token)?;
    let key = keys.find(&head).ok_or_else(|| invalid("there is no key"))?;
    proven(token, (key, &head), (&oauth, &[AUDIENCE.to_owned()]))
}

fn keys(of: &[Value]) -> Keys {
    Keys::parse(json!({ "keys": of }).to_string().as_bytes()).unwrap()
}

fn good() -> Value {
    json!({ "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": now() + 300 })
}

#[derive(Debug, Clone)]
enum Edit {
    Replace(u8),
    Insert(u8),
    Remove,
    CutOff,
    /// What is before this comes once more.
    Repeat,
}

fn edit() -> impl Strategy<Value = Edit> {
    // What tokens are made of, and what is easily taken for it.
    let character = select(b"ABCZaz019-_.=+/ \n\0".as_slice());
    prop_oneof![
        character.clone().prop_map(Edit::Replace),
        character.prop_map(Edit::Insert),
        Just(Edit::Remove),
        Just(Edit::CutOff),
        Just(Edit::Repeat),
    ]
}

impl Edit {
    fn make(&self, token: &mut Vec<u8>, at: usize) {
        match *self {
            _ if token.is_empty() => {}
            Self::Replace(byte) => token[at] = byte,
            Self::Insert(byte) => token.insert(at, byte),
            Self::Remove => drop(token.remove(at)),
            Self::CutOff => token.truncate(at),
            Self::Repeat => token.extend_from_within(..at),
        }
    }
}

/// Near to what a key of a set looks like.
fn jwk() -> impl Strategy<Value = Value> {
    let number = || option::of(vec(any::<u8>(), 0..70).prop_map(coded));
    let word = |words: &'static [&'static str]| option::of(select(words));
    let kind = word(&["EC", "RSA", "OKP", "oct", "AKP"]);
    let curve = word(&["P-256", "P-384", "P-521", "Ed25519", "X25519", "secp256k1"]);
    let algorithm = word(&["ES256", "ES384", "EdDSA", "RS256", "HS256", "none", "A128KW"]);
    let purpose = word(&["sig", "enc", ""]);
    let numbers = (number(), number(), number(), number());
    (kind, curve, algorithm, purpose, word(&["k", ""]), numbers).prop_map(
        |(kty, crv, alg, purpose, kid, (x, y, n, e))| {
            let mut key = json!({
                "kty": kty, "crv": crv, "alg": alg, "use": purpose, "kid": kid,
                "x": x, "y": y, "n": n, "e": e, "k": x,
            });
            key.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            key
        },
    )
}

proptest! {
    #[test]
    fn a_token_that_somebody_has_touched_is_refused(
        edits in vec((edit(), any::<prop::sample::Index>()), 1..4),
    ) {
        for key in ["ES256", "EdDSA"].map(Key::new) {
            let keys = keys(&[key.jwk("k")]);
            let token = key.token("k", &good());
            prop_assert!(prove(&token, &keys).is_ok());
            let mut touched = token.clone().into_bytes();
            for (edit, at) in &edits {
                let at = at.index(touched.len().max(1));
                edit.make(&mut touched, at);
            }
            let touched = String::from_utf8(touched).unwrap();
            prop_assume!(touched != token);
            prop_assert!(prove(&touched, &keys).is_err(), "{touched}");
        }
    }

    #[test]
    fn keys_of_any_content_prove_nothing_that_they_have_not_signed(
        mut set in vec(jwk(), 0..6), at in any::<prop::sample::Index>(),
    ) {
        let (issuers, own) = (Key::new("ES256"), Key::new("ES256"));
        let token = own.token("k", &good());
        set.insert(at.index(set.len() + 1), issuers.jwk("k"));
        prop_assert!(prove(&token, &keys(&set)).is_err());
        let by_public_key = json!({ "alg": "HS256", "kid": "k", "typ": "at+jwt" }).to_string();
        let token = issuers.by_public_key(&by_public_key, &good().to_string());
        prop_assert!(prove(&token, &keys(&set)).is_err());
    }

    #[test]
    fn a_set_that_is_none_is_refused_and_never_more(text in vec(any::<u8>(), 0..300)) {
        if let Ok(keys) = Keys::parse(&text) {
            prop_assert!(prove(&Key::new("ES256").token("k", &good()), &keys).is_err());
        }
    }

    #[test]
    fn a_head_that_is_signed_chooses_no_other_key_and_no_other_algorithm(
        alg in select(&["ES256", "ES384", "RS256", "PS256", "EdDSA", "HS256", "none", "es256"][..]),
        kid in option::of(select(&["k", "other", ""][..])),
        typ in option::of(select(&["at+jwt", "JWT", "logout+jwt", "dpop+jwt", ""][..])),
        more in option::of(select(&["crit", "enc", "zip", "jwk", "jku", "x5u", "b64"][..])),
    ) {
        let (key, other) = (Key::new("ES256"), Key::new("EdDSA"));
        let mut head = json!({ "alg": alg, "kid": kid, "typ": typ });
        head.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let value = match more {
            Some("crit") => json!(["exp"]),
            Some("jwk") => key.jwk("k"),
            _ => json!("x"),
        };
        if let Some(more) = more {
            head[more] = value;
        }
        let token = key.sign(&head.to_string(), &good().to_string());
        let is_good = prove(&token, &keys(&[other.jwk("other"), key.jwk("k")])).is_ok();
        let must_be_understood = matches!(more, Some("crit" | "enc" | "zip"));
        let is_access = matches!(typ, None | Some("at+jwt" | "JWT"));
        let names_it = matches!(kid, None | Some("k"));
        prop_assert_eq!(
            is_good,
            alg == "ES256" && names_it && is_access && !must_be_understood,
            "{}", head
        );
    }
}
