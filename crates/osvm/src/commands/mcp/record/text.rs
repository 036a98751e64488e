//! A policy as a user can paste it: lines of `isolation_config.toml`, and flags. Everything else in it is a comment.

use osvm_daemon::policy::{FolderNeed, HostNeed, Policy, VariableNeed};
use osvm_spec::{ServerName, command};

use crate::output::safe;

/// Lines to print.
pub(in super::super) fn text(name: &ServerName, policy: &Policy) -> String {
    if policy.is_empty() {
        return format!("# {name} tried nothing that needs a grant\n");
    }
    let mut text =
        format!("# the least that {name} needs, for its entry in isolation_config.toml\n");
    text += &list("allow", policy.hosts.allow.iter().map(host));
    text += &list("allow_private", policy.hosts.allow_private.iter().map(host));
    text += &list("mount", policy.folders.iter().map(folder));
    text += &list("secrets", policy.environment.iter().filter(|it| it.secret).map(secret));
    text += &policy.environment.iter().filter(|it| !it.secret).map(variable).collect::<String>();
    text += &policy.beyond.iter().map(|what| comment(what)).collect::<String>();
    text += &flags(name, policy);
    if is_refused(policy) {
        text += "# once this is granted it may try more: record again with it\n";
    }
    text
}

/// One line of a list: what may stand in it, or only beside it, and why.
struct Line {
    value: String,
    holds: bool,
    reason: String,
}

fn list(key: &str, lines: impl Iterator<Item = Line>) -> String {
    let lines: Vec<_> = lines.collect();
    let shown: String = lines
        .iter()
        .map(|Line { value, holds, reason }| {
            let mark = if *holds { "" } else { "# " };
            format!("    {mark}{},  # {}\n", quoted(value), one_line(reason))
        })
        .collect();
    if lines.is_empty() { String::new() } else { format!("{key} = [\n{shown}]\n") }
}

fn host(need: &HostNeed) -> Line {
    Line { value: need.rule.to_string(), holds: true, reason: need.reason.clone() }
}

fn folder(need: &FolderNeed) -> Line {
    let missing =
        if need.exists { "" } else { "; no such folder here: write the one that is meant" };
    let reason = format!("{}{missing}", need.reason);
    Line { value: need.rule.to_string(), holds: need.exists, reason }
}

fn secret(need: &VariableNeed) -> Line {
    Line { value: need.name.clone(), holds: true, reason: need.reason.clone() }
}

/// Nobody knows the value.
fn variable(need: &VariableNeed) -> String {
    comment(&format!("env = {{ {} = \"...\" }}  # {}", need.name, need.reason))
}

fn flags(name: &ServerName, policy: &Policy) -> String {
    let flag = |flag: &str, value: String| [flag.to_owned(), value];
    let rule = |need: &HostNeed| need.rule.to_string();
    let allow = policy.hosts.allow.iter().map(|need| flag("--allow", rule(need)));
    let private = policy.hosts.allow_private.iter().map(|need| flag("--allow-private", rule(need)));
    let folders = policy.folders.iter().filter(|need| need.exists);
    let folders = folders.map(|need| flag("--mount", need.rule.to_string()));
    let secrets = policy.environment.iter().filter(|need| need.secret);
    let secrets = secrets.map(|need| flag("--secret", need.name.clone()));
    let words: Vec<String> = allow.chain(private).chain(folders).chain(secrets).flatten().collect();
    match words.is_empty() {
        true => String::new(),
        false => comment(&format!("or: osvm mcp add {name} {}", command::join(&words))),
    }
}

fn is_refused(policy: &Policy) -> bool {
    let mut hosts = policy.hosts.allow.iter().chain(&policy.hosts.allow_private);
    hosts.any(|need| !need.reason.starts_with("used"))
}

fn comment(text: &str) -> String {
    format!("# {}\n", one_line(text))
}

/// Words of the server's stay on their line, and in their comment.
fn one_line(text: &str) -> String {
    safe(&text.replace(['\n', '\t'], " "))
}

/// A basic string of TOML, whose escapes JSON's are.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use osvm_daemon::policy::HostNeeds;

    use super::*;

    fn policy() -> Policy {
        let host = |rule: &str, reason: &str| HostNeed {
            rule: rule.parse().unwrap(),
            reason: reason.to_owned(),
        };
        let folder = |rule: &str, exists| FolderNeed {
            rule: rule.parse().unwrap(),
            exists,
            reason: "wanted to read /a\nb".to_owned(),
        };
        let variable = |name: &str, secret| VariableNeed {
            name: name.to_owned(),
            secret,
            reason: "mentioned on standard error".to_owned(),
        };
        Policy {
            hosts: HostNeeds {
                allow: vec![host("a.example:443", "refused 2 times")],
                allow_private: vec![host("10.1.2.3:22", "refused once")],
            },
            folders: vec![folder("/my data:/my data:ro", true), folder("/gone:/gone:rw", false)],
            environment: vec![variable("GITHUB_TOKEN", true), variable("LOG_DIR", false)],
            beyond: vec!["240.0.0.1:22 was refused once".to_owned()],
        }
    }

    #[test]
    fn a_policy_is_toml_with_its_reasons() {
        let expected = r#"# the least that files needs, for its entry in isolation_config.toml
allow = [
    "a.example:443",  # refused 2 times
]
allow_private = [
    "10.1.2.3:22",  # refused once
]
mount = [
    "/my data:/my data:ro",  # wanted to read /a b
    # "/gone:/gone:rw",  # wanted to read /a b; no such folder here: write the one that is meant
]
secrets = [
    "GITHUB_TOKEN",  # mentioned on standard error
]
# env = { LOG_DIR = "..." }  # mentioned on standard error
# 240.0.0.1:22 was refused once
# or: osvm mcp add files --allow a.example:443 --allow-private 10.1.2.3:22 --mount '/my data:/my data:ro' --secret GITHUB_TOKEN
# once this is granted it may try more: record again with it
"#;
        assert_eq!(text(&"files".parse().unwrap(), &policy()), expected);
    }

    #[test]
    fn nothing_tried_is_said_in_a_line() {
        let said = text(&"files".parse().unwrap(), &Policy::default());
        assert_eq!(said, "# files tried nothing that needs a grant\n");
    }
}
