//! What a client of the gateway may do, however it says who it is.

use std::num::NonZeroU32;

use serde::Serialize;

use super::ConfigError;
use super::section::Section;
use crate::{ServerName, ToolPattern};

/// What is said of each `[[gateway.tokens]]` and `[[gateway.oauth.grants]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rights {
    /// `None` for all that are enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<ServerName>>,
    /// Named `server__tool`; `None` for all tools of those servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<ToolPattern>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<NonZeroU32>,
}

/// Most that a limit for a minute can be.
const MOST_PER_MINUTE: u64 = 1_000_000;

impl Rights {
    pub(super) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            servers: section.all("servers")?,
            tools: section.all("tools")?,
            requests_per_minute: per_minute(section, "requests_per_minute")?,
        })
    }

    pub fn may_use(&self, server: &str) -> bool {
        let servers = self.servers.as_ref();
        servers.is_none_or(|servers| servers.iter().any(|own| own.as_str() == server))
    }

    /// What it may do, however often.
    pub fn without_limit(&self) -> Self {
        Self { requests_per_minute: None, ..self.clone() }
    }
}

pub(super) fn per_minute(
    section: &Section<'_>,
    key: &'static str,
) -> Result<Option<NonZeroU32>, ConfigError> {
    let found = section.number_within(key, 1, MOST_PER_MINUTE)?;
    Ok(found.and_then(|count| NonZeroU32::new(u32::try_from(count).ok()?)))
}
