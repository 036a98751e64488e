//! A list of tools without those that are not allowed: all else of it stays byte for byte.

use serde_json::value::RawValue;

use crate::envelope::{each_element, fields};

/// Most tools in one list; a longer one is not passed on.
const MOST: usize = 10_000;

/// Why a list can't be filtered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Calls `visit` with each tool of a result of `tools/list`, and says where in the text the array is.
pub(super) fn each_tool<'a>(
    result: &'a str,
    visit: &mut dyn FnMut(&'a RawValue),
) -> Result<&'a str, Unreadable> {
    let [tools] = fields(result, ["tools"]).map_err(|_| Unreadable)?;
    let array = tools.ok_or(Unreadable)?.get();
    let mut room = MOST;
    let mut visit = |tool| {
        visit(tool);
        room -= 1;
        room > 0
    };
    each_element(array, &mut visit).map_err(|_| Unreadable)?;
    Ok(array)
}

/// The name, and the schema of its arguments.
pub(super) fn tool(definition: &RawValue) -> Option<(String, Option<&RawValue>)> {
    let [name, schema] = fields(definition.get(), ["name", "inputSchema"]).ok()?;
    Some((serde_json::from_str(name?.get()).ok()?, schema))
}

/// The text of `message`, within which `result` lies, without the tools that `keeps` does not keep, or whose name can't
/// be read. `None` when there are none of them.
pub(super) fn filtered(
    message: &str,
    result: &RawValue,
    keeps: &dyn Fn(&str) -> bool,
) -> Result<Option<String>, Unreadable> {
    let (mut kept, mut dropped) = (Vec::new(), 0_usize);
    let mut ends = Vec::new();
    let array = each_tool(result.get(), &mut |definition| {
        let keep = tool(definition).is_some_and(|(name, _)| keeps(&name));
        dropped += usize::from(!keep);
        ends.push(definition.get());
        kept.push(keep);
    })?;
    if dropped == 0 {
        return Ok(None);
    }
    let offset = |part: &str, within: &str| part.as_ptr().addr() - within.as_ptr().addr();
    // Each piece reaches from the comma before a tool to the one after it.
    let mut from = 1;
    let mut pieces = Vec::new();
    for (definition, keep) in ends.into_iter().zip(kept) {
        let end = offset(definition, array) + definition.len();
        let rest = &array[end..];
        let to = end + rest.find([',', ']']).ok_or(Unreadable)?;
        if keep {
            pieces.push(&array[from..to]);
        }
        from = to + 1;
    }
    let start = offset(array, message);
    let (before, after) = (&message[..start], &message[start + array.len()..]);
    Ok(Some([before, "[", &pieces.join(","), "]", after].concat()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(message: &str, keeps: &dyn Fn(&str) -> bool) -> Result<Option<String>, Unreadable> {
        let [result] = fields(message, ["result"]).unwrap();
        filtered(message, result.unwrap(), keeps)
    }

    #[test]
    fn all_else_stays_as_it_is_spelled() {
        let message = r#"{"id":1.0, "result" :{"x":[1e5 ],"tools":[ {"name":"a"} ,{"name":"\u0062"},  {"name":"c"}	],"nextCursor":"n"} }"#;
        let without = |name: &'static str| filter(message, &move |other| other != name).unwrap();
        assert_eq!(without("z"), None);
        let gone = message.replace(r#"{"name":"\u0062"},"#, "");
        assert_eq!(without("b"), Some(gone));
        let gone = message.replace(r#" {"name":"a"} ,"#, "");
        assert_eq!(without("a"), Some(gone));
        let gone = message.replace(r#",  {"name":"c"}	"#, "");
        assert_eq!(without("c"), Some(gone));
        let none = filter(message, &|_| false).unwrap().unwrap();
        assert!(none.contains(r#""tools":[],"nextCursor""#), "{none}");
    }

    #[test]
    fn a_tool_that_could_be_two_is_left_out_and_a_list_that_could_be_is_not_read() {
        let message = r#"{"result":{"tools":[{"name":"a","Name":"b"},{"name":"c"}]}}"#;
        let kept = filter(message, &|_| true).unwrap().unwrap();
        assert_eq!(kept, r#"{"result":{"tools":[{"name":"c"}]}}"#);
        for result in [r#"{"tools":[],"tools":[]}"#, "{}", "7", r#"{"tools":{}}"#] {
            assert_eq!(filter(&format!("{{\"result\":{result}}}"), &|_| true), Err(Unreadable));
        }
        let long = vec![r#"{"name":"a"}"#; MOST + 1].join(",");
        let long = format!("{{\"result\":{{\"tools\":[{long}]}}}}");
        assert_eq!(filter(&long, &|_| true), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_reader_would_keep(names in prop::collection::vec("[ab],?\\]?", 0..8), space in "[ \t]{0,2}") {
            let tool = |name: &String| format!(r#"{space}{{"name":"{name}","d":[1,"],"]}}{space}"#);
            let list = names.iter().map(tool).collect::<Vec<_>>().join(",");
            let message = format!(r#"{{"result":{{"tools":[{list}]}}}}"#);
            let keeps = |name: &str| name.starts_with('a');
            let kept = filter(&message, &keeps).unwrap().unwrap_or_else(|| message.clone());
            let read: serde_json::Value = serde_json::from_str(&kept).unwrap();
            let read: Vec<_> = read["result"]["tools"].as_array().unwrap().iter()
                .map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
            let expected: Vec<_> = names.into_iter().filter(|name| keeps(name)).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
