//! The identity of one VM: short enough for a socket path, random enough never to be guessed or met twice.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 64 random bits in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmId(String);

const DIGITS: usize = 16;

impl VmId {
    pub fn random() -> Self {
        Self(format!("{:016x}", u64::from_ne_bytes(random())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// It is read from files, and becomes part of paths.
impl TryFrom<String> for VmId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != DIGITS || !text.bytes().all(digit) {
            return Err(format!("{text:?} is no VM's id"));
        }
        Ok(Self(text))
    }
}

impl From<VmId> for String {
    fn from(id: VmId) -> Self {
        id.0
    }
}

/// Random bytes of the host's kernel.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux always has getrandom");
    bytes
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_would_lead_elsewhere_as_a_path_is_none() {
        VmId::try_from(VmId::random().to_string()).unwrap();
        for text in ["", "../../../../etc", "0123456789ABCDEF", "0123456789abcdef0"] {
            assert!(VmId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
