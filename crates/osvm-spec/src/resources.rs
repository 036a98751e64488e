//! How much of the host a VM may use.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Memory and processors of one VM. Within the limits below by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Resources {
    memory_mib: u32,
    vcpus: u8,
}

/// As a file may claim it.
#[derive(Deserialize)]
struct Unchecked {
    memory_mib: u64,
    vcpus: u64,
}

/// Why a VM of that size can't be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResourcesError {
    #[error(
        "memory of {0} MiB is outside {min} to {max} MiB",
        min = Resources::MIN_MEMORY_MIB,
        max = Resources::MAX_MEMORY_MIB
    )]
    Memory(u64),
    #[error("{0} vcpus are outside 1 to {max}", max = Resources::MAX_VCPUS)]
    Vcpus(u64),
}

impl Resources {
    /// A guest kernel with its initramfs does not come up in less.
    pub const MIN_MEMORY_MIB: u32 = 64;
    pub const MAX_MEMORY_MIB: u32 = 1024 * 1024;
    pub const MAX_VCPUS: u8 = 32;

    pub fn new(memory_mib: u64, vcpus: u64) -> Result<Self, ResourcesError> {
        Ok(Self { memory_mib: Self::check_memory(memory_mib)?, vcpus: Self::check_vcpus(vcpus)? })
    }

    pub fn check_memory(mib: u64) -> Result<u32, ResourcesError> {
        u32::try_from(mib)
            .ok()
            .filter(|m| (Self::MIN_MEMORY_MIB..=Self::MAX_MEMORY_MIB).contains(m))
            .ok_or(ResourcesError::Memory(mib))
    }

    pub fn check_vcpus(count: u64) -> Result<u8, ResourcesError> {
        u8::try_from(count)
            .ok()
            .filter(|v| (1..=Self::MAX_VCPUS).contains(v))
            .ok_or(ResourcesError::Vcpus(count))
    }

    pub fn memory_mib(self) -> u32 {
        self.memory_mib
    }

    pub fn memory_bytes(self) -> u64 {
        u64::from(self.memory_mib) << 20
    }

    pub fn vcpus(self) -> u8 {
        self.vcpus
    }
}

impl TryFrom<Unchecked> for Resources {
    type Error = ResourcesError;

    fn try_from(claimed: Unchecked) -> Result<Self, ResourcesError> {
        Self::new(claimed.memory_mib, claimed.vcpus)
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self { memory_mib: 256, vcpus: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_no_guest_could_have_are_refused() {
        for (memory, vcpus) in [(0, 1), (8, 1), (u64::MAX, 1), (256, 0), (256, 1000)] {
            assert!(Resources::new(memory, vcpus).is_err(), "{memory} MiB, {vcpus}");
        }
        assert!(Resources::new(64, 1).is_ok());
    }

    #[test]
    fn a_file_that_claims_such_a_size_is_refused() {
        let read = |text: &str| serde_json::from_str::<Resources>(text);
        assert_eq!(read(r#"{"memory_mib":64,"vcpus":2}"#).unwrap(), Resources::new(64, 2).unwrap());
        let refused = read(r#"{"memory_mib":64,"vcpus":0}"#).unwrap_err().to_string();
        assert!(refused.contains("0 vcpus are outside 1 to 32"), "{refused}");
    }
}
