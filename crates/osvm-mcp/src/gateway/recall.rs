//! Lists that servers have said before: for those with which nothing is open, so that nothing is opened for them.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::Gateway;
use crate::OnBehalf;
use crate::envelope::{Envelope, each_element, fields};

/// What servers list, as the client would be told it, by their names.
pub(super) type Recalled = HashMap<String, Vec<Box<RawValue>>>;

impl Gateway {
    /// Of servers that are not asked themselves. The last of the lines asks for the list, which has this field; those
    /// before are what a client begins with.
    pub(super) async fn recall(
        &self,
        lines: Vec<String>,
        field: &'static str,
        servers: Vec<(String, OnBehalf)>,
    ) -> Recalled {
        if servers.is_empty() {
            return Recalled::new();
        }
        let answers = match self.servers.recall(lines, servers).await {
            Ok(answers) => answers,
            Err(why) => {
                // Each of them is asked, and tells what is wrong.
                tracing::debug!(why, "nothing is recalled");
                return Recalled::new();
            }
        };
        answers
            .into_iter()
            .filter_map(|(name, answer)| Some((name, items(&answer, field)?)))
            .collect()
    }
}

/// Of a list that is whole.
fn items(answer: &str, field: &'static str) -> Option<Vec<Box<RawValue>>> {
    let result = Envelope::parse(answer).ok()?.result?;
    let [listed, next] = fields(result.get(), [field, "nextCursor"]).ok()?;
    if next.is_some_and(|next| next.get() != "null") {
        return None;
    }
    let mut items = Vec::new();
    let all = each_element(listed?.get(), &mut |item| {
        items.push(item.to_owned());
        true
    });
    all.ok().map(|()| items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_recalled_as_it_was_spelled_and_as_a_whole_or_not_at_all() {
        let of = |result: &str| {
            items(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#), "tools")
        };
        let tools = of(r#"{"tools":[{ "name":"a" },1.0],"nextCursor":null}"#).unwrap();
        let spelled: Vec<_> = tools.iter().map(|tool| tool.get()).collect();
        assert_eq!(spelled, [r#"{ "name":"a" }"#, "1.0"]);
        assert_eq!(of(r#"{"tools":[]}"#).unwrap().len(), 0);
        for not_whole in [r#"{"tools":[],"nextCursor":"b"}"#, r#"{"prompts":[]}"#, r#"{"tools":7}"#]
        {
            assert!(of(not_whole).is_none(), "{not_whole}");
        }
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m"}}"#;
        assert!(items(error, "tools").is_none());
    }
}
