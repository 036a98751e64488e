//! What `jsonwebtoken` verifies with: ring, which TLS has here already. Nothing is signed.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{self as by, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(unsupported()),
    verifier_factory: |algorithm, key| {
        Ok(Box::new(ByRing { algorithm: *algorithm, key: key.clone() }))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// To be called before anything is verified.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Nobody else in this process installs one.
        let _ = RING.install_default();
    });
}

/// Whether it is one whose verifying key signs nothing.
pub(super) fn is_known(algorithm: Algorithm) -> bool {
    rsa(algorithm).is_some() || curve(algorithm).is_some()
}

struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => rsa(self.algorithm).map(|how| {
                RsaPublicKeyComponents { n: number(n), e: number(e) }
                    .verify(how, message, signature)
            }),
            DecodingKeyKind::SecretOrDer(point) => curve(self.algorithm)
                .map(|how| UnparsedPublicKey::new(how, point).verify(message, signature)),
        };
        match verified {
            Some(Ok(())) => Ok(()),
            _ => Err(signature::Error::new()),
        }
    }
}

/// Without zeros before it, which some issuers write.
fn number(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0);
    &bytes[start.unwrap_or(bytes.len())..]
}

/// Of 2,048 to 8,192 bits.
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &by::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &by::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &by::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &by::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &by::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &by::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn curve(algorithm: Algorithm) -> Option<&'static dyn by::VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::ES256 => &by::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &by::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &by::ED25519,
        _ => return None,
    })
}

fn unsupported() -> Error {
    ErrorKind::UnsupportedAlgorithm.into()
}
