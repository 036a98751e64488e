//! The identity of one VM: short enough for a socket path, random enough never to be guessed or met twice.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 64 random bits in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmId(String);

impl VmId {
    pub fn random() -> Self {
        Self(format!("{:016x}", u64::from_ne_bytes(random())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
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
