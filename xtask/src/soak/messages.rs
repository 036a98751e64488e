//! The messages of an HTTP response, one after the other: its body as JSON, or a stream of events.

use std::io::BufRead;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Hands each of them on as it comes, to the end of the body.
pub(super) fn each(
    content_type: &str,
    mut body: impl BufRead,
    mut hear: impl FnMut(Value),
) -> Result<()> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json" => {
            let mut text = String::new();
            body.read_to_string(&mut text).context("read a body")?;
            hear(parse(&text)?);
            Ok(())
        }
        "text/event-stream" => events(body, &mut hear),
        other => bail!("the answer is of the type {other:?}"),
    }
}

/// An event that the stream ends within is none.
fn events(body: impl BufRead, hear: &mut impl FnMut(Value)) -> Result<()> {
    let mut data = Vec::new();
    for line in body.lines() {
        let line = line.context("read a stream of events")?;
        match line.strip_prefix("data:") {
            Some(text) => data.push(text.trim_start().to_owned()),
            None if line.is_empty() && !data.is_empty() => {
                hear(parse(&data.join("\n"))?);
                data.clear();
            }
            None => {}
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("read {text:.200}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all(content_type: &str, body: &str) -> Vec<Value> {
        let mut all = Vec::new();
        each(content_type, body.as_bytes(), |message| all.push(message)).unwrap();
        all
    }

    #[test]
    fn a_body_is_one_message() {
        assert_eq!(all("application/json; charset=utf-8", "{\"id\":1}"), [json!({ "id": 1 })]);
    }

    #[test]
    fn every_event_of_a_stream_is_a_message() {
        let body = ": \n\nid: 1-1\ndata: {\"id\":\ndata: 1}\n\nevent: message\r\ndata:{\"id\":2}\r\n\r\ndata: {";
        assert_eq!(all("text/event-stream", body), [json!({ "id": 1 }), json!({ "id": 2 })]);
    }

    #[test]
    fn what_is_no_message_is_said() {
        assert!(each("text/html", "<html>".as_bytes(), drop).is_err());
        assert!(each("application/json", "<html>".as_bytes(), drop).is_err());
    }
}
