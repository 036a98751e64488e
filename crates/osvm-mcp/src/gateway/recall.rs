//! Lists that servers have said before: for those with which nothing is open, so that nothing is opened for them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::Gateway;
use crate::OnBehalf;
use crate::envelope::{Envelope, Page, field};
use crate::protocol::METHOD_NOT_FOUND;

/// What servers list, as the client would be told it, by their names.
pub(super) type Recalled = HashMap<String, Vec<Box<RawValue>>>;

/// How long it may take to recall anything; after that, servers are asked.
const WITHIN: Duration = Duration::from_secs(5);
/// Longest beginning of a client's, in bytes: of one that says more of itself, nothing is kept.
const LONGEST: usize = 128 << 10;

impl Gateway {
    /// Of servers that are not asked themselves. The last of the lines asks for the list, which has this field; those
    /// before are what a client begins with.
    pub(super) async fn recall(
        &self,
        lines: Vec<String>,
        field: &'static str,
        servers: Vec<(String, OnBehalf)>,
    ) -> Recalled {
        if servers.is_empty() || lines.iter().map(String::len).sum::<usize>() > LONGEST {
            return Recalled::new();
        }
        let answers = match timeout(WITHIN, self.servers.recall(lines, servers)).await {
            Ok(Ok(answers)) => answers,
            failed => {
                // Each of them is asked, and tells what is wrong.
                tracing::debug!(?failed, "nothing is recalled");
                return Recalled::new();
            }
        };
        let most = self.bounds.of_servers.list_items;
        let listed = answers.into_iter().filter_map(|(name, answer)| {
            // As of a server that says it now: in an event, a carriage return is the end of a line.
            let items = items(&answer.replace('\r', " "), field, most)?;
            Some((name, items))
        });
        listed.collect()
    }
}

/// Of a list that is whole; none of a server that has no such list, or a longer one than is read of any.
fn items(answer: &str, listed: &'static str, most: usize) -> Option<Vec<Box<RawValue>>> {
    let answer = Envelope::parse(answer).ok()?;
    if let Some(error) = answer.error {
        let code = field(Some(error), "code").and_then(|code| code.get().parse().ok());
        return (code == Some(METHOD_NOT_FOUND)).then(Vec::new);
    }
    let mut items = Vec::new();
    let page = Page::read(answer.result?.get(), listed, &mut |item| {
        items.push(item.to_owned());
        items.len() <= most
    });
    match page {
        Ok(page) if page.next.is_some_and(|next| next.get() != "null") => None,
        Ok(page) => page.is_listed.then_some(items),
        Err(_) if items.len() > most => Some(Vec::new()),
        Err(_) => None,
    }
}

/// The same of lists that say the same, in whatever order.
pub(super) fn mark(items: &[Box<RawValue>]) -> u64 {
    let marks = items.iter().map(|item| {
        let mut hasher = DefaultHasher::new();
        match serde_json::from_str::<Value>(item.get()) {
            Ok(mut value) => {
                value.sort_all_objects();
                value.to_string().hash(&mut hasher);
            }
            Err(_) => item.get().hash(&mut hasher),
        }
        hasher.finish()
    });
    marks.fold(items.len() as u64, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_recalled_as_it_was_spelled_and_as_a_whole_or_not_at_all() {
        let of = |result: &str| {
            items(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#), "tools", 2)
        };
        let tools = of(r#"{"tools":[{ "name":"a" },1.0],"nextCursor":null}"#).unwrap();
        let spelled: Vec<_> = tools.iter().map(|tool| tool.get()).collect();
        assert_eq!(spelled, [r#"{ "name":"a" }"#, "1.0"]);
        assert_eq!(of(r#"{"tools":[]}"#).unwrap().len(), 0);
        for not_whole in [r#"{"tools":[],"nextCursor":"b"}"#, r#"{"prompts":[]}"#, r#"{"tools":7}"#]
        {
            assert!(of(not_whole).is_none(), "{not_whole}");
        }
        assert_eq!(of(r#"{"tools":[1,2,3]}"#).unwrap().len(), 0, "longer than is read of any");
    }

    #[test]
    fn a_server_that_has_no_such_list_need_not_be_asked_again() {
        let of = |code: i64| {
            let error = format!(r#"{{"code":{code},"message":"m"}}"#);
            items(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#), "prompts", 2)
        };
        assert_eq!(of(METHOD_NOT_FOUND).unwrap().len(), 0);
        assert!(of(-32603).is_none());
    }

    #[test]
    fn lists_that_say_the_same_have_the_same_mark() {
        let of = |items: &[&str]| {
            let raw = |item: &&str| RawValue::from_string((*item).to_owned()).unwrap();
            mark(&items.iter().map(raw).collect::<Vec<_>>())
        };
        let (a, b) = (r#"{"name":"a","x":{"y":1,"z":2}}"#, r#"{"name":"b"}"#);
        assert_eq!(of(&[a, b]), of(&[b, r#"{ "x":{"z":2,"y":1},"name":"\u0061" }"#]));
        for other in [&[a][..], &[a, b, b], &[a, r#"{"name":"c"}"#], &[]] {
            assert_ne!(of(&[a, b]), of(other));
        }
    }
}
