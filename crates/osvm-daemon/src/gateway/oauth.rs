//! Tokens of authorization servers: signed claims (RFC 7519, RFC 9068), verified by their issuers' keys.
//!
//! - `keys`: which key verifies what.
//! - `keyring`: the keys of one issuer, asked for when they are old or one is missing.
//! - `ask`, `allowance`: how an issuer is asked for them, and how often.
//! - `crypto`: the cryptography.

mod allowance;
mod ask;
mod crypto;
mod keyring;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use osvm_image::oci::Access as Ways;
use osvm_mcp::gateway::{Proven, Unproven, Verifier, Verifying};
use osvm_spec::config::Oauth;
use serde::Deserialize;
use serde::de::IgnoredAny;

use self::ask::Source;
use self::keyring::{Keyring, Pace};

/// Longest token, in bytes.
const LONGEST: usize = 16 << 10;
/// How far clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(60);
/// What a token's `typ` may be, of those that have one (RFC 9068, section 4).
const TYPES: [&str; 3] = ["at+jwt", "application/at+jwt", ANY_TYPE];
/// The one that says nothing of what it is for.
const ANY_TYPE: &str = "jwt";

/// Verifies by the keys of the issuer that the configuration names at the moment.
#[derive(Debug)]
pub struct Issuers {
    ways: Arc<Ways>,
    pace: Pace,
    last: Mutex<Option<Arc<Keyring>>>,
}

/// What of a token counts. None of these may stand there twice.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: f64,
    client_id: Option<String>,
    /// Who a token was given to, where it is no `client_id`.
    azp: Option<String>,
    scope: Option<Words>,
    /// Scopes, as some issuers call them.
    scp: Option<Words>,
    /// The key of its sender's that it is bound to (RFC 7800).
    cnf: Option<IgnoredAny>,
    /// Of ID tokens and logout tokens (OpenID Connect), these three.
    nonce: Option<IgnoredAny>,
    at_hash: Option<IgnoredAny>,
    events: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Text(String),
    List(Vec<String>),
}

/// Of a token's head, what its key is chosen by.
struct Head {
    algorithm: Algorithm,
    key: Option<String>,
    /// Whether its `typ` says that it is an access token.
    is_access: bool,
}

impl Issuers {
    /// That are asked as registries of images are: through the same proxies, trusting what this host trusts.
    pub fn new(ways: Ways) -> Self {
        crypto::install();
        Self { ways: Arc::new(ways), pace: Pace::default(), last: Mutex::default() }
    }

    async fn prove(
        &self,
        token: &str,
        oauth: &Oauth,
        audiences: &[String],
    ) -> Result<Proven, Unproven> {
        let head = Head::of(token)?;
        let keyring = self.keyring(oauth);
        let mut held = keyring.keys().await.map_err(Unproven::Unknown)?;
        if held.keys.find(&head).is_none() {
            held = keyring.with_missing(held.at).await.map_err(Unproven::Unknown)?;
        }
        let key = held.keys.find(&head);
        let key = key.ok_or_else(|| invalid("no key of its issuer verifies the token"))?;
        proven(token, (key, &head), (oauth, audiences))
    }

    fn keyring(&self, oauth: &Oauth) -> Arc<Keyring> {
        let source = Source::of(oauth);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(keyring) if keyring.source == source => Arc::clone(keyring),
            _ => {
                let keyring = Keyring::new(source, Arc::clone(&self.ways), self.pace);
                Arc::clone(last.insert(Arc::new(keyring)))
            }
        }
    }
}

impl Verifier for Issuers {
    fn verify<'v>(
        &'v self,
        token: &'v str,
        oauth: &'v Oauth,
        audiences: &'v [String],
    ) -> Verifying<'v> {
        Box::pin(self.prove(token, oauth, audiences))
    }
}

impl Head {
    fn of(token: &str) -> Result<Self, Unproven> {
        if token.len() > LONGEST {
            return Err(Unproven::Invalid(format!("the token exceeds {LONGEST} bytes")));
        }
        let header = decode_header(token).map_err(|error| unread(error.kind()))?;
        let is_known = |kind: &String| TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind));
        if header.typ.as_ref().is_some_and(|kind| !is_known(kind)) {
            return Err(invalid("it is no access token by its typ"));
        }
        // What must be understood is not.
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err(invalid("the token's head asks for what is not understood"));
        }
        let is_access = header.typ.is_some_and(|kind| !kind.eq_ignore_ascii_case(ANY_TYPE));
        match crypto::is_known(header.alg) {
            true => Ok(Self { algorithm: header.alg, key: header.kid, is_access }),
            false => Err(invalid("the token is not signed by a key that is its issuer's alone")),
        }
    }
}

/// Once the signature and all that the claims must say are right.
fn proven(
    token: &str,
    (key, head): (&DecodingKey, &Head),
    (oauth, audiences): (&Oauth, &[String]),
) -> Result<Proven, Unproven> {
    let mut wanted = Validation::new(head.algorithm);
    wanted.leeway = LEEWAY.as_secs();
    wanted.validate_nbf = true;
    wanted.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    wanted.set_issuer(&[oauth.issuer.as_str()]);
    wanted.set_audience(audiences);
    let claims = decode::<Claims>(token, key, &wanted).map_err(|error| unread(error.kind()))?;
    let claims = claims.claims;
    // Several issuers are none.
    if claims.iss != oauth.issuer.as_str() {
        return Err(unread(&ErrorKind::InvalidIssuer));
    }
    claims.are_of_access(head)?;
    let until = Duration::try_from_secs_f64(claims.exp).ok();
    let until = until.and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(exp + LEEWAY));
    Ok(Proven {
        subject: claims.sub,
        client: claims.client_id.or(claims.azp),
        scopes: claims.scope.or(claims.scp).map(Words::all).unwrap_or_default(),
        until: until.ok_or_else(|| invalid("the token's exp is no time"))?,
    })
}

impl Claims {
    /// Whether whoever shows it need not prove more, and it was made to be shown.
    fn are_of_access(&self, head: &Head) -> Result<(), Unproven> {
        if self.cnf.is_some() {
            return Err(invalid(
                "the token is bound to a key of its sender's, which is not checked here",
            ));
        }
        let others = [&self.nonce, &self.at_hash, &self.events];
        match !head.is_access && others.iter().any(|claim| claim.is_some()) {
            true => Err(invalid("it is no access token by its claims")),
            false => Ok(()),
        }
    }
}

impl Words {
    fn all(self) -> Vec<String> {
        match self {
            Self::Text(text) => text.split(' ').map(str::to_owned).collect(),
            Self::List(words) => words,
        }
    }
}

fn invalid(why: &str) -> Unproven {
    Unproven::Invalid(why.to_owned())
}

/// What a client is told, which is nothing of what the token says.
fn unread(kind: &ErrorKind) -> Unproven {
    match kind {
        ErrorKind::ExpiredSignature => invalid("the token has expired"),
        ErrorKind::ImmatureSignature => invalid("the token is not valid yet"),
        ErrorKind::InvalidIssuer => invalid("the token is of another issuer"),
        ErrorKind::InvalidAudience => invalid("the token was made for another audience"),
        ErrorKind::InvalidSignature => invalid("the token's signature is wrong"),
        ErrorKind::MissingRequiredClaim(claim) => {
            Unproven::Invalid(format!("the token has no {claim}"))
        }
        _ => invalid("the token can't be read"),
    }
}
