//! A tool's answer for people: its text, and a line for what is not text.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::output;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    content: Vec<Content>,
    structured_content: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content {
    Text {
        text: String,
    },
    #[serde(rename_all = "camelCase")]
    Image {
        data: String,
        mime_type: String,
    },
    #[serde(rename_all = "camelCase")]
    Audio {
        data: String,
        mime_type: String,
    },
    ResourceLink {
        uri: String,
    },
    Resource {
        resource: Resource,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Resource {
    uri: String,
    text: Option<String>,
}

/// Lines to print. An answer that is not understood is shown as it is.
pub(super) fn text(result: &RawValue) -> String {
    let Ok(answer) = serde_json::from_str::<Answer>(result.get()) else {
        return ended(output::safe(result.get()));
    };
    match (answer.content.as_slice(), answer.structured_content) {
        ([], Some(value)) => ended(output::safe(&format!("{value:#}"))),
        (content, _) => content.iter().map(|part| ended(output::safe(&part.text()))).collect(),
    }
}

impl Content {
    fn text(&self) -> String {
        match self {
            Self::Text { text } => text.clone(),
            Self::Image { data, mime_type } => format!("[image, {}]", bulk(mime_type, data)),
            Self::Audio { data, mime_type } => format!("[audio, {}]", bulk(mime_type, data)),
            Self::ResourceLink { uri } => format!("[resource {uri}]"),
            Self::Resource { resource } => match &resource.text {
                Some(text) => text.clone(),
                None => format!("[resource {}]", resource.uri),
            },
            Self::Other => "[content of an unknown type; --json shows it]".to_owned(),
        }
    }
}

fn bulk(mime_type: &str, base64: &str) -> String {
    format!("{mime_type}, {} bytes", base64.trim_end_matches('=').len() * 3 / 4)
}

fn ended(text: String) -> String {
    match text.ends_with('\n') {
        true => text,
        false => text + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        text(&RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn text_is_shown_and_the_rest_is_described() {
        let json = r#"{"content":[{"type":"text","text":"a\nb"},
            {"type":"image","data":"AAAA","mimeType":"image/png"},
            {"type":"resource","resource":{"uri":"file:///x","text":"inside\n"}},
            {"type":"resource_link","uri":"file:///y","name":"y"},{"type":"hologram"}]}"#;
        let told = "a\nb\n[image, image/png, 3 bytes]\ninside\n[resource file:///y]\n\
                    [content of an unknown type; --json shows it]\n";
        assert_eq!(shown(json), told);
    }

    #[test]
    fn structured_answers_show_when_there_is_nothing_else() {
        let both = r#"{"content":[{"type":"text","text":"3"}],"structuredContent":{"sum":3}}"#;
        assert_eq!(shown(both), "3\n");
        assert_eq!(shown(r#"{"structuredContent":{"sum":3}}"#), "{\n  \"sum\": 3\n}\n");
    }

    #[test]
    fn strange_answers_are_shown_without_their_escapes() {
        assert_eq!(shown("3"), "3\n");
        let json = r#"{"content":[{"type":"text","text":"\u001b[2J"}]}"#;
        assert_eq!(shown(json), "\\u{1b}[2J\n");
    }
}
