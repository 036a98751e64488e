//! An authorization server on the loopback, as far as a resource server sees one, and keys to sign with.

use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair};
use ring::{hmac, pkcs8};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub(super) struct Issuer {
    pub(super) address: String,
    keys: Arc<Mutex<Vec<Value>>>,
    /// How often it was asked for keys.
    pub(super) asked: Arc<AtomicUsize>,
    pub(super) down: Arc<AtomicBool>,
}

impl Issuer {
    pub(super) async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Self {
            address: address.clone(),
            keys: Arc::new(Mutex::new(keys.to_vec())),
            asked: Arc::default(),
            down: Arc::default(),
        };
        let (keys, asked, down) =
            (Arc::clone(&issuer.keys), Arc::clone(&issuer.asked), Arc::clone(&issuer.down));
        let keys = async move || -> Response {
            asked.fetch_add(1, Relaxed);
            match down.load(Relaxed) {
                true => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                false => json!({ "keys": *keys.lock().unwrap() }).to_string().into_response(),
            }
        };
        let metadata = |path: &str| {
            let said = json!({ "issuer": format!("{address}{path}"), "jwks_uri": format!("{address}/keys") });
            get(async move || said.to_string())
        };
        let router = Router::new()
            .route("/keys", get(keys))
            .route("/.well-known/oauth-authorization-server", metadata(""))
            .route("/.well-known/oauth-authorization-server/other", metadata(""))
            .route("/.well-known/oauth-authorization-server/openid", metadata(""))
            .route("/.well-known/openid-configuration/openid", get(async || "no metadata"))
            .route("/openid/.well-known/openid-configuration", metadata("/openid"))
            .route("/moved", get(async || Redirect::temporary("/keys")))
            .route("/large", get(async || " ".repeat((1 << 20) + 1)))
            .route("/text", get(async || "no keys"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    pub(super) fn now_has(&self, keys: &[Value]) {
        *self.keys.lock().unwrap() = keys.to_vec();
    }
}

pub(super) struct Key {
    pub(super) algorithm: &'static str,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    pub(super) fn of_each_kind() -> Vec<Self> {
        let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
        let made = of_openssl();
        // In either form, by openssl's version.
        let pair = || RsaKeyPair::from_der(&made).or_else(|_| RsaKeyPair::from_pkcs8(&made));
        let pair = || Pair::Rsa(Box::new(pair().unwrap()));
        let rsa = rsa.map(|algorithm| Self { algorithm, pair: pair() });
        let others = ["ES256", "ES384", "EdDSA"].map(Self::new);
        others.into_iter().chain(rsa).collect()
    }

    pub(super) fn new(algorithm: &'static str) -> Self {
        let random = SystemRandom::new();
        let ec = |how| {
            let made: pkcs8::Document = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
            Pair::Ec(EcdsaKeyPair::from_pkcs8(how, made.as_ref(), &random).unwrap())
        };
        let pair = match algorithm {
            "ES256" => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => {
                let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Pair::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
            }
            other => panic!("{other} is made by openssl"),
        };
        Self { algorithm, pair }
    }

    pub(super) fn jwk(&self, id: &str) -> Value {
        match &self.pair {
            Pair::Ec(pair) => {
                let (x, y) =
                    pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                let curve = if self.algorithm == "ES256" { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "kid": id, "crv": curve, "x": coded(x), "y": coded(y) })
            }
            Pair::Ed(pair) => {
                json!({ "kty": "OKP", "kid": id, "crv": "Ed25519", "x": coded(pair.public_key()) })
            }
            Pair::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({ "kty": "RSA", "kid": id, "n": coded(n), "e": coded(e) })
            }
        }
    }

    pub(super) fn token(&self, id: &str, claims: &Value) -> String {
        let head = json!({ "alg": self.algorithm, "kid": id, "typ": "at+jwt" });
        self.sign(&head.to_string(), &claims.to_string())
    }

    /// Whatever the head says.
    pub(super) fn sign(&self, head: &str, claims: &str) -> String {
        let (message, random) = (format!("{}.{}", coded(head), coded(claims)), SystemRandom::new());
        let signature = match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(self.padding(), &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{message}.{}", coded(signature))
    }

    /// By its public key as if that were a secret.
    pub(super) fn by_public_key(&self, head: &str, claims: &str) -> String {
        let Pair::Ec(pair) = &self.pair else { panic!("{} has no such key", self.algorithm) };
        let message = format!("{}.{}", coded(head), coded(claims));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, pair.public_key().as_ref());
        format!("{message}.{}", coded(hmac::sign(&secret, message.as_bytes())))
    }

    fn padding(&self) -> &'static dyn RsaEncoding {
        match self.algorithm {
            "RS256" => &signature::RSA_PKCS1_SHA256,
            "RS384" => &signature::RSA_PKCS1_SHA384,
            "RS512" => &signature::RSA_PKCS1_SHA512,
            "PS256" => &signature::RSA_PSS_SHA256,
            "PS384" => &signature::RSA_PSS_SHA384,
            _ => &signature::RSA_PSS_SHA512,
        }
    }
}

/// An RSA key, which ring does not make.
#[expect(clippy::disallowed_methods, reason = "nothing else here makes RSA keys")]
fn of_openssl() -> Vec<u8> {
    let make =
        ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"];
    let made = Command::new("openssl").args(make).output().expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

pub(super) fn coded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
