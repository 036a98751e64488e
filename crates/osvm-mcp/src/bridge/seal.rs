//! What says that a client's retry is the retry of its own request: a state that no client can make by itself.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

use super::splice::each_field;

/// A key that never leaves the bridge, and whoever its client is.
pub(crate) struct Seal {
    key: [u8; 32],
    binding: Vec<u8>,
}

/// Its key is not shown.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject([u8; 32]);

impl Seal {
    pub(crate) fn new(key: [u8; 32], binding: &[u8]) -> Self {
        Self { key, binding: binding.to_vec() }
    }

    /// The state for one round of a call.
    pub(crate) fn close(&self, call: u64, round: u64, subject: Subject) -> String {
        let tag = self.mac(call, round, subject).finalize().into_bytes();
        format!("{call}.{round}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// Call and round, if this state was made here, for this client and such a request.
    pub(crate) fn open(&self, state: &str, subject: Subject) -> Option<(u64, u64)> {
        let (call, rest) = state.split_once('.')?;
        let (round, tag) = rest.split_once('.')?;
        let (call, round) = (call.parse().ok()?, round.parse().ok()?);
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        self.mac(call, round, subject).verify_slice(&tag).ok()?;
        Some((call, round))
    }

    fn mac(&self, call: u64, round: u64, subject: Subject) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        mac.update(&(self.binding.len() as u64).to_le_bytes());
        mac.update(&self.binding);
        mac.update(&subject.0);
        mac.update(&call.to_le_bytes());
        mac.update(&round.to_le_bytes());
        mac
    }

    /// A word that nobody can guess, for ids of the bridge's own.
    pub(crate) fn word(&self) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key");
        mac.update(b"ids");
        URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..12])
    }
}

impl Subject {
    /// Method and parameters, but for what a retry changes: its answers, its state, and what it says of itself. Space
    /// between tokens is no difference.
    pub(crate) fn of(method: &str, params: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(method);
        each_field(params, &mut |name, value| {
            if !matches!(name, "inputResponses" | "requestState" | "_meta") {
                hash.update([0xff]);
                hash.update(name);
                hash.update([0xff]);
                without_space(value.get(), &mut |part| hash.update(part));
            }
            true
        });
        Self(hash.finalize().into())
    }
}

/// The parts of a JSON text between which there is space that means nothing.
fn without_space(json: &str, visit: &mut dyn FnMut(&str)) {
    let (mut start, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\r' | b'\n' if !in_string => {
                visit(&json[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    visit(&json[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = r#"{"name":"a","arguments":{"b":"\" c"}}"#;

    #[test]
    fn a_state_is_for_one_key_client_request_call_and_round() {
        let seal = Seal::new([1; 32], b"token");
        let subject = Subject::of("tools/call", ASKED);
        let state = seal.close(3, 4, subject);
        assert_eq!(seal.open(&state, subject), Some((3, 4)));
        assert_eq!(Seal::new([2; 32], b"token").open(&state, subject), None);
        assert_eq!(Seal::new([1; 32], b"other").open(&state, subject), None);
        for (method, params) in [("prompts/get", ASKED), ("tools/call", r#"{"name":"b"}"#)] {
            assert_eq!(seal.open(&state, Subject::of(method, params)), None);
        }
        let tag = state.rsplit_once('.').unwrap().1;
        for forged in
            [format!("3.5.{tag}"), format!("4.4.{tag}"), "3.4.".to_owned(), tag.to_owned()]
        {
            assert_eq!(seal.open(&forged, subject), None, "{forged}");
        }
    }

    #[test]
    fn a_retry_may_differ_in_what_retries_differ_in() {
        let retry = r#"{ "requestState":"x","name" : "a","inputResponses":{}, "arguments": { "b":"\" c" },"_meta":{"progressToken":2}}"#;
        assert_eq!(Subject::of("tools/call", retry), Subject::of("tools/call", ASKED));
        let other = ASKED.replace(r#"\" c"#, r#"\"c"#);
        assert_ne!(Subject::of("tools/call", &other), Subject::of("tools/call", ASKED));
    }
}
