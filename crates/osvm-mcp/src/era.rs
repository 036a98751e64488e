//! The two eras of the protocol, and what differs between them on the wire.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};

use crate::client::ClientInfo;
use crate::protocol::{CAPABILITIES, CLIENT_INFO, VERSION};

/// How a server is spoken to, from the first message on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Era {
    /// A handshake, then requests that rely on it: revisions 2024-11-05 to 2025-11-25.
    Legacy,
    /// No handshake, each request says it all: from revision 2026-07-28 on.
    Modern,
}

/// Revisions with a handshake, newest first.
pub(crate) const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The revision without a handshake.
pub(crate) const MODERN: &str = "2026-07-28";

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        })
    }
}

/// The parameters with what a modern request says about itself in `_meta`. The rest, and what else
/// `_meta` holds, stays as it is spelled.
pub(crate) fn with_meta(
    params: Option<&RawValue>,
    client: &ClientInfo,
) -> Result<Box<RawValue>, serde_json::Error> {
    let mut params = Fields::parse(params)?;
    let mut meta = Fields::parse(params.get("_meta"))?;
    let [version, capabilities] = [to_raw_value(MODERN)?, RawValue::from_string("{}".to_owned())?];
    let info = to_raw_value(client)?;
    meta.set(VERSION, &version);
    meta.set(CLIENT_INFO, &info);
    meta.set(CAPABILITIES, &capabilities);
    let meta = to_raw_value(&meta)?;
    params.set("_meta", &meta);
    to_raw_value(&params)
}

/// The fields of an object, in their order, with values as they are spelled.
#[derive(Debug, Default)]
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn parse(object: Option<&'a RawValue>) -> Result<Self, serde_json::Error> {
        object.map_or_else(|| Ok(Self::default()), |object| serde_json::from_str(object.get()))
    }

    fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    fn set(&mut self, key: &str, value: &'a RawValue) {
        self.0.retain(|(name, _)| name != key);
        self.0.push((key.to_owned(), value));
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
