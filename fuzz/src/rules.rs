//! The rules for hosts, folders and secrets, as users write them: what is believed is shown as a rule that means the
//! same, and lists of them are edited and written as texts.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use osvm_spec::{FolderRule, HostPattern, HostRule, SecretRule, looks_secret, plain_host_name};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::choice;

/// First byte: of which kind the rule is.
pub fn rules(bytes: &[u8]) {
    let (kind, bytes) = choice(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match kind % 4 {
        0 => host(text),
        1 => folder(text),
        2 => drop(round::<SecretRule>(text)),
        _ => name(text),
    }
}

/// The rule that a text is, if it is one.
fn round<R>(text: &str) -> Option<R>
where
    R: FromStr<Err: Display> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let rule = match text.parse::<R>() {
        Ok(rule) => rule,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let shown = rule.to_string();
    assert_eq!(shown.parse::<R>().ok().as_ref(), Some(&rule), "{text:?} is shown as {shown:?}");
    let written = serde_json::to_string(&rule).expect("a rule is a text");
    let read: R = serde_json::from_str(&written).expect("what was written is read");
    assert_eq!(read, rule);
    Some(rule)
}

fn host(text: &str) {
    let Some(rule) = round::<HostRule>(text) else { return };
    assert!(!rule.ports().contains(&0) && rule.ports().iter().all(|&port| rule.has_port(port)));
    match &rule.host {
        HostPattern::Name(name) => assert!(rule.host.has_name(name)),
        HostPattern::Below(parent) => {
            assert!(rule.host.has_name(&format!("a.{parent}")) && !rule.host.has_name(parent));
        }
        HostPattern::Net(net) => {
            assert!(net.prefix_len() > 0 && rule.host.has_address(net.addr()));
        }
    }
}

fn folder(text: &str) {
    let Some(rule) = round::<FolderRule>(text) else { return };
    assert!(rule.guest.starts_with('/') && !rule.guest.ends_with('/'), "{rule:?}");
    assert!(!rule.guest.split('/').any(|part| matches!(part, "." | "..")), "{rule:?}");
    assert!(!rule.host.is_empty() && !rule.to_string().contains('\0'), "{rule:?}");
}

fn name(text: &str) {
    let _ = looks_secret(text);
    let Some(plain) = plain_host_name(text) else { return };
    assert_eq!(plain_host_name(&plain).as_ref(), Some(&plain), "{text:?}");
}
