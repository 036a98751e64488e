//! Values of secrets within what clients and servers say, as they are and as JSON spells them.

use serde_json::Value;

/// In place of a secret's value.
const HIDDEN: &str = "(hidden)";

/// A text without secrets' values. Of one that was cut off its end goes, too, which may be the beginning of a value.
pub(super) fn redacted(mut text: String, is_cut: bool, secrets: &[String]) -> String {
    let spelled = |value: &String| [value.clone(), in_json(value)];
    let mut values: Vec<_> = secrets.iter().flat_map(spelled).collect();
    // One may be part of another.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    if is_cut {
        let longest = values.first().map_or(0, String::len);
        text.truncate(text.floor_char_boundary(text.len().saturating_sub(longest)));
    }
    values.iter().fold(text, |text, value| text.replace(value, HIDDEN))
}

/// Whether a JSON text has the value of a secret in it, however it is spelled. What can't be read may hold anything.
pub(super) fn tells(json: &str, secrets: &[String]) -> bool {
    let mut secrets = secrets.iter().filter(|secret| !secret.is_empty()).peekable();
    if secrets.peek().is_none() {
        return false;
    }
    let Ok(said) = serde_json::from_str::<Value>(json) else { return true };
    let plain = said.to_string();
    secrets.any(|secret| plain.contains(&in_json(secret)))
}

/// As it stands within a JSON string.
fn in_json(secret: &str) -> String {
    let quoted = Value::from(secret).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_kept_without_secrets_however_json_spells_them() {
        let secrets = ["hunter2".to_owned(), "hunter2-and-more".to_owned(), "a\"b\n".to_owned()];
        let hide = |text: &str, is_cut| redacted(text.to_owned(), is_cut, &secrets);
        let body = r#"{"k":"hunter2","l":"hunter2-and-more","m":"a\"b\n"}"#;
        assert_eq!(hide(body, false), r#"{"k":"(hidden)","l":"(hidden)","m":"(hidden)"}"#);
        assert_eq!(hide("it is hunter2-and-mo", true), "it i");
        assert_eq!(redacted("plain".to_owned(), true, &[]), "plain");
    }

    #[test]
    fn what_tells_a_secret_is_found_however_it_is_spelled() {
        let secrets = [String::new(), "a\"b/c".to_owned()];
        let tells = |text: &str| super::tells(text, &secrets);
        assert!(tells(r#"{"x":["is a\"b/c."]}"#) && tells(r#"{"\u0061\"b\/c":1}"#) && tells("{"));
        assert!(!tells(r#"{"x":"a"}"#));
        assert!(!super::tells("{", &[String::new()]), "there is none");
    }
}
