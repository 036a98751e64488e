//! What a client of the gateway may do, however it says who it is.

use std::num::NonZeroU32;
use std::str::FromStr;

use serde::Serialize;

use super::ConfigError;
use super::section::Section;
use crate::{NameError, ServerName, ToolPattern};

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

/// A server, or `None` for all.
struct Which(Option<ServerName>);

impl FromStr for Which {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "*" => Ok(Self(None)),
            name => name.parse().map(|name| Self(Some(name))),
        }
    }
}

/// Most that a limit for a minute can be.
const MOST_PER_MINUTE: u64 = 1_000_000;

impl Rights {
    pub(super) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        Self::on(section.all("servers")?, section)
    }

    /// Where `servers` must be spelled out, all of them as `*`: one that is cut off is refused.
    pub(super) fn read_spelled_out(section: &Section<'_>) -> Result<Self, ConfigError> {
        let servers = section.required("servers", section.all::<Which>("servers")?)?;
        Self::on(servers.into_iter().map(|Which(server)| server).collect(), section)
    }

    fn on(servers: Option<Vec<ServerName>>, section: &Section<'_>) -> Result<Self, ConfigError> {
        let requests_per_minute = per_minute(section, "requests_per_minute")?;
        Ok(Self { servers, tools: section.all("tools")?, requests_per_minute })
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
