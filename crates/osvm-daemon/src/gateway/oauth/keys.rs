//! The keys of an issuer (RFC 7517), and which of them verifies a token.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::Head;

/// Those that verify signatures.
#[derive(Debug)]
pub(super) struct Keys(Vec<(Jwk, DecodingKey)>);

impl Keys {
    /// Those that are of another kind, or not understood, are passed over.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text)
            .map_err(|error| format!("they are no JWK set: {error}"))?;
        let keys = set.keys.into_iter().filter_map(|key| {
            let key: Jwk = serde_json::from_value(key).ok()?;
            let usable = verifies(&key).then(|| DecodingKey::from_jwk(&key).ok()).flatten()?;
            Some((key, usable))
        });
        Ok(Self(keys.collect()))
    }

    /// The one that a token names, or the only one that could have signed it.
    pub(super) fn find(&self, head: &Head) -> Option<&DecodingKey> {
        let mut fitting = self.0.iter().filter(|(key, _)| fits(key, head.algorithm));
        match &head.key {
            Some(id) => fitting.find(|(key, _)| key.common.key_id.as_ref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
        .map(|(_, usable)| usable)
    }
}

/// Whether its issuer has made it for that.
fn verifies(key: &Jwk) -> bool {
    let (used, may) = (&key.common.public_key_use, &key.common.key_operations);
    used.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
        && may.as_ref().is_none_or(|may| may.contains(&KeyOperations::Verify))
}

fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let own = key.common.key_algorithm;
    own.is_none_or(|own| own == KeyAlgorithm::from(algorithm)) && is_of_kind(key, algorithm)
}

fn is_of_kind(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match &key.algorithm {
        AlgorithmParameters::RSA(_) => {
            matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
        }
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => algorithm == ES256,
            EllipticCurve::P384 => algorithm == ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(key) => {
            key.curve == EllipticCurve::Ed25519 && algorithm == EdDSA
        }
        _ => false,
    }
}
