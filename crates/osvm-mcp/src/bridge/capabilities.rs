//! What clients of either era say that they can be asked for, and what servers say that they can do.

use super::splice::{field, states, without};

/// What a client can be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offers {
    sampling: bool,
    roots: bool,
    forms: bool,
    addresses: bool,
}

impl Offers {
    /// Of capabilities as either era spells them.
    pub(super) fn of(capabilities: &str) -> Self {
        let elicitation = field(capabilities, "elicitation").filter(|value| value.starts_with('{'));
        let addresses = elicitation.is_some_and(|modes| states(modes, "url"));
        Self {
            sampling: states(capabilities, "sampling"),
            roots: states(capabilities, "roots"),
            // Those that name no mode mean forms, which were all there was.
            forms: elicitation.is_some_and(|modes| !addresses || states(modes, "form")),
            addresses,
        }
    }

    /// Whether a server may send this request; otherwise the capability that is missing.
    pub(super) fn allow(self, method: &str, params: &str) -> Result<(), &'static str> {
        let url = || field(params, "mode").is_some_and(|mode| mode == r#""url""#);
        let (offered, name) = match method {
            "sampling/createMessage" => (self.sampling, "sampling"),
            "roots/list" => (self.roots, "roots"),
            "elicitation/create" if url() => (self.addresses, "elicitation.url"),
            "elicitation/create" => (self.forms, "elicitation.form"),
            _ => (false, "that method"),
        };
        offered.then_some(()).ok_or(name)
    }
}

/// What a server can do, as it spelled it, and what of that matters here.
#[derive(Debug, Clone, Default)]
pub(super) struct Abilities {
    pub(super) spelled: String,
    pub(super) logging: bool,
    pub(super) subscribe: bool,
    pub(super) tools_change: bool,
    pub(super) prompts_change: bool,
    pub(super) resources_change: bool,
}

impl Abilities {
    /// Without tasks: those of the legacy era are other ones than those of the modern.
    pub(super) fn of(capabilities: &str) -> Self {
        let has = |name, what| field(capabilities, name).is_some_and(|of| states(of, what));
        Self {
            spelled: without(capabilities, &["tasks"]).unwrap_or_else(|| "{}".to_owned()),
            logging: states(capabilities, "logging"),
            subscribe: has("resources", "subscribe"),
            tools_change: has("tools", "listChanged"),
            prompts_change: has("prompts", "listChanged"),
            resources_change: has("resources", "listChanged"),
        }
    }
}

/// What messages can be filtered by, from all to the gravest.
pub(super) const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_for_what_it_states_and_no_more() {
        let url = r#"{"mode":"url"}"#;
        let allow = |capabilities: &str, params| {
            Offers::of(capabilities).allow("elicitation/create", params).is_ok()
        };
        assert!(allow(r#"{"elicitation":{}}"#, "{}") && !allow(r#"{"elicitation":{}}"#, url));
        assert!(!allow(r#"{"elicitation":{"url":{}}}"#, "{}"));
        assert!(allow(r#"{"elicitation":{"url":{},"form":{}}}"#, url));
        assert!(!allow("{}", "{}") && !allow(r#"{"elicitation":null}"#, "{}"));
        let offers = Offers::of(r#"{"sampling":{}}"#);
        assert_eq!(offers.allow("sampling/createMessage", "{}"), Ok(()));
        assert_eq!(offers.allow("roots/list", "{}"), Err("roots"));
    }
}
