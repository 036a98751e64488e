//! What holds for one conversation, and how that is said.

use std::fmt::Display;
use std::sync::Arc;

use osvm_spec::ToolPolicy;

use super::{CallRates, OnBehalf, ToolSet, shown};

/// What holds for one conversation.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub server: String,
    pub policy: ToolPolicy,
    /// Who has come through the gateway; `None` for everybody else.
    pub on_behalf: Option<OnBehalf>,
    /// What its clients together have used up of its limits; they go by a clock of their own.
    pub rates: Option<Arc<CallRates>>,
    /// Tools of which each call needs a VM of its own, and is handed out.
    pub apart: ToolSet,
    /// Whether arguments and results are kept for the record.
    pub bodies: bool,
    /// Whether a call that can't be recorded is not made.
    pub must_be_recorded: bool,
    /// Whether the user has said yes to every call.
    pub confirmed: bool,
}

impl Rules {
    /// Why a tool is not called, whatever its user says, if so.
    pub fn refusal(&self, tool: &str) -> Option<String> {
        if let Some(denial) = self.policy.denial(tool) {
            return Some(self.refusing(tool, &denial));
        }
        let denial = self.on_behalf.as_ref().and_then(|whom| whom.denial(tool))?;
        Some(self.refusing(tool, &denial))
    }

    /// Whether any call that the server hears is held to a time.
    pub fn has_timeouts(&self) -> bool {
        let mut limits = self.policy.limits.iter();
        limits.any(|(tool, limits)| limits.timeout.is_some() && !self.apart.contains(tool))
    }

    /// Whether there is any tool that is not for this client.
    pub(super) fn denies_any(&self) -> bool {
        let by_token = self.on_behalf.as_ref().is_some_and(|whom| whom.tools.is_some());
        self.policy.denies_any() || by_token
    }

    /// Whether a list has the tool.
    pub(super) fn shows(&self, tool: &str) -> bool {
        let whom = self.on_behalf.as_ref();
        self.policy.denial(tool).is_none() && whom.is_none_or(|whom| whom.denial(tool).is_none())
    }

    /// Whether the user is to be asked first.
    pub fn wants_confirmation(&self, tool: &str) -> bool {
        !self.confirmed && self.policy.limits_of(tool).confirm
    }

    /// Counts a call that is about to be made; or says why it is made too often.
    pub fn exceeds(&self, tool: &str) -> Option<String> {
        let why = self.rates.as_ref()?.take(tool).err()?;
        Some(self.refusing(tool, &why))
    }

    pub fn refusing(&self, tool: &str, why: &dyn Display) -> String {
        format!("policy refuses tool {} of {}: {why}", shown(tool), self.server)
    }
}

/// Why arguments are not passed on.
pub(crate) fn misfit(tool: &str, why: &str) -> String {
    format!("the arguments of tool {} do not fit its schema: {why}", shown(tool))
}

/// Why a result that is too long is not passed on.
pub fn too_long(tool: &str, bytes: u64, limit: u64) -> String {
    format!("the result of tool {} has {bytes} bytes, and policy allows {limit}", shown(tool))
}
