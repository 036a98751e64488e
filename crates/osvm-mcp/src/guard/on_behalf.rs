//! Whom a conversation is for, where those who hold it are told apart.

use osvm_spec::ToolPattern;
use serde::{Deserialize, Serialize};

/// The holder of a token, or of one of several that may do the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalf {
    /// What the token is called; absent where none is needed, or several share the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Who that is, where what the token is called does not say it all: the same text for one, and for no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// By the server's own names; absent for all that its policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<ToolPattern>>,
}

impl OnBehalf {
    /// By what its holder is told from others; empty where no token is needed, or several share the conversation.
    pub fn holder(&self) -> &str {
        self.holder.as_deref().or(self.token.as_deref()).unwrap_or_default()
    }

    /// Why a tool is not called for it, if so.
    pub(super) fn denial(&self, tool: &str) -> Option<String> {
        let tools = self.tools.as_ref()?;
        let is_denied = !tools.iter().any(|pattern| pattern.has(tool));
        is_denied.then(|| match &self.token {
            Some(token) => format!("token {token} may not call it"),
            None => "its token may not call it".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use osvm_spec::ToolPolicy;
    use serde_json::{Value, json};

    use super::super::{Guard, Outcome, Rules};
    use super::*;

    fn guard(allowed: Option<&[&str]>, of_token: &[&str]) -> Guard {
        let patterns =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let policy = ToolPolicy { allowed: allowed.map(patterns), ..ToolPolicy::default() };
        let whom = OnBehalf {
            token: Some("ci".to_owned()),
            tools: Some(patterns(of_token)),
            ..OnBehalf::default()
        };
        Guard::new(Rules {
            server: "s".to_owned(),
            policy,
            on_behalf: Some(whom),
            ..Rules::default()
        })
    }

    fn line(message: &Value) -> Vec<u8> {
        format!("{message}\n").into_bytes()
    }

    fn call(tool: &str) -> Vec<u8> {
        let params = json!({ "name": tool, "arguments": {} });
        line(&json!({ "jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": params }))
    }

    #[test]
    fn a_tool_needs_both_the_policy_and_the_token() {
        let mut guard = guard(Some(&["read_*", "list"]), &["read_*", "write"]);
        let now = Instant::now();
        let passed = call("read_file");
        assert_eq!(guard.of_client(&passed, now).to_server, passed);
        for (tool, why) in [
            ("list", "policy refuses tool list of s: token ci may not call it"),
            ("write", "policy refuses tool write of s: it is not among the tools that are allowed"),
        ] {
            let refused = call(tool);
            let passage = guard.of_client(&refused, now);
            assert!(passage.to_server.is_empty());
            let answer: Value = serde_json::from_slice(&passage.to_client).unwrap();
            assert_eq!(answer["error"]["message"], why);
            let ended = guard.take_ended();
            assert_eq!(ended[0].outcome, Outcome::Refused(why.to_owned()));
        }
    }

    #[test]
    fn a_list_has_what_the_token_may_call_and_a_line_that_could_hide_a_call_does_not_pass() {
        let mut guard = guard(None, &["read_*"]);
        let now = Instant::now();
        guard.of_client(&line(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })), now);
        let listed = json!({ "tools": [{ "name": "read_file" }, { "name": "write" }] });
        let answer = line(&json!({ "jsonrpc": "2.0", "id": 1, "result": listed }));
        let passage = guard.of_server(&answer, now);
        let told: Value = serde_json::from_slice(&passage.to_client).unwrap();
        assert_eq!(told["result"]["tools"], json!([{ "name": "read_file" }]));
        let hidden = br#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"read_file","name":"write"}}"#;
        assert!(guard.of_client(&[&hidden[..], b"\n"].concat(), now).to_server.is_empty());
    }

    #[test]
    fn whom_a_request_is_for_is_spelled_as_it_is_read() {
        let whom = OnBehalf {
            token: Some("ci".to_owned()),
            tools: Some(vec!["a*".parse().unwrap()]),
            holder: None,
        };
        assert_eq!(whom.holder(), "ci");
        let text = serde_json::to_string(&whom).unwrap();
        assert_eq!(text, r#"{"token":"ci","tools":["a*"]}"#);
        assert_eq!(serde_json::from_str::<OnBehalf>(&text).unwrap(), whom);
        assert_eq!(serde_json::to_string(&OnBehalf::default()).unwrap(), "{}");
        let told_apart = OnBehalf { holder: Some("oauth:1f".to_owned()), ..whom };
        assert_eq!(told_apart.holder(), "oauth:1f");
        assert_eq!(OnBehalf::default().holder(), "");
    }
}
