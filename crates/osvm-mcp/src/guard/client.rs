//! Who a client says it is.

use serde_json::value::RawValue;

use super::shown;
use crate::envelope::fields;

/// As it says, and harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName {
    pub name: String,
    pub version: Option<String>,
}

impl ClientName {
    pub(super) fn read(info: &RawValue) -> Option<Self> {
        let [name, version] = fields(info.get(), ["name", "version"]).ok()?;
        let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
        let version = version.and_then(text).map(|version| shown(&version));
        Some(Self { name: shown(&text(name?)?), version })
    }
}
