//! All servers as one: tools and prompts named `server__name`. One server that is broken takes nothing from the rest.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::Gateway;
use super::conversation::{Conversation, Waiting};
use super::recall::Recalled;
use super::refusal::Refusal;
use super::sender::Sender;
use crate::envelope::{self, Envelope, Page, field};
use crate::era::{Era, MODERN};
use crate::limits::Limits;
use crate::protocol::{INVALID_PARAMS, METHOD_NOT_FOUND};

/// How long one server may take for its list.
const LIST_WITHIN: Duration = Duration::from_secs(60);
/// Servers that are asked at a time.
const AT_ONCE: usize = 8;
/// Pages of one server's list.
const MOST_PAGES: usize = 100;

/// What is asked of all servers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Of each, and put together; the items are in this field.
    List(&'static str),
    /// Of the one that the name begins with.
    Named,
}

impl Asked {
    pub(super) fn of(message: &Envelope<'_>) -> Result<Self, Refusal> {
        match message.method.as_deref().unwrap_or_default() {
            "tools/list" => Ok(Self::List("tools")),
            "prompts/list" => Ok(Self::List("prompts")),
            "tools/call" | "prompts/get" => Ok(Self::Named),
            method => {
                let why =
                    format!("{method} is not for all servers together; see /servers/NAME/mcp");
                Err(Refusal::rpc(message.id, METHOD_NOT_FOUND, why))
            }
        }
    }
}

/// What the gateway says of itself where it stands for all servers.
#[derive(Debug, Serialize)]
pub(super) struct Myself {
    name: &'static str,
    version: &'static str,
}

pub(super) const MYSELF: Myself = Myself { name: "osvm", version: env!("CARGO_PKG_VERSION") };

/// How long an answer holds in the modern era, and for whom.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GoodFor {
    result_type: &'static str,
    ttl_ms: u32,
    cache_scope: &'static str,
}

const NOW: GoodFor = GoodFor { result_type: "complete", ttl_ms: 0, cache_scope: "private" };

/// What the gateway is to clients of the modern era.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Discovered {
    supported_versions: [&'static str; 1],
    capabilities: Capabilities,
    server_info: Myself,
    #[serde(flatten)]
    good_for: GoodFor,
}

/// Of all servers together.
#[derive(Debug, Default, Serialize)]
pub(super) struct Capabilities {
    tools: Nothing,
    prompts: Nothing,
}

/// An empty object.
#[derive(Debug, Default, Serialize)]
pub(super) struct Nothing {}

impl Default for Discovered {
    fn default() -> Self {
        let capabilities = Capabilities::default();
        Self { supported_versions: [MODERN], capabilities, server_info: MYSELF, good_for: NOW }
    }
}

/// A request for one server, by the name of the tool or prompt that it is about.
pub(super) fn for_one(
    names: &[String],
    message: &Envelope<'_>,
) -> Result<(String, String), Refusal> {
    let piece = field(message.params, "name");
    let name = piece.and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    let (Some(piece), Some(name)) = (piece, name) else {
        return Err(Refusal::rpc(
            message.id,
            INVALID_PARAMS,
            "params.name is no text, or there are several",
        ));
    };
    let Some((server, own)) = split(names, &name) else {
        let why = format!("{name:?} begins with no server's name and two underscores");
        return Err(Refusal::rpc(message.id, INVALID_PARAMS, why));
    };
    let own = serde_json::Value::from(own).to_string();
    Ok((server.to_owned(), message.with(&[(piece, &own)])))
}

/// The server with the longest name that fits, and the rest.
fn split<'a>(names: &'a [impl AsRef<str>], name: &'a str) -> Option<(&'a str, &'a str)> {
    let rests = names
        .iter()
        .map(AsRef::as_ref)
        .filter_map(|server| Some((server, name.strip_prefix(server)?.strip_prefix("__")?)));
    rests.max_by_key(|(server, _)| server.len())
}

/// Everything that servers list in `field`, under names that say whose it is. Those are asked of which it was not
/// recalled.
pub(super) async fn list<'a>(
    names: &'a [String],
    (method, field): (&'a str, &'static str),
    (meta, limits): (Option<&'a RawValue>, &'a Limits),
    mut recalled: Recalled,
    conversation: impl Fn(&'a str) -> BoxFuture<'a, Result<Arc<Conversation>, Refusal>>,
) -> Vec<String> {
    let lists: Vec<BoxFuture<'a, _>> = names
        .iter()
        .map(|server| {
            if let Some(items) = recalled.remove(server) {
                return async move { (server, items) }.boxed();
            }
            let conversation = conversation(server);
            async move {
                    (server, list_one(server, conversation, (method, field), meta, limits).await)
                }
                .boxed()
        })
        .collect();
    let lists: Vec<_> = stream::iter(lists).buffered(AT_ONCE).collect().await;
    let items = lists.iter().flat_map(|(server, items)| {
        let rivals = rivals(names, server);
        items.iter().filter_map(move |item| renamed(&rivals, server, item))
    });
    items.collect()
}

/// Servers that a name which begins with this one's may be of instead.
fn rivals<'a>(names: &'a [String], server: &str) -> Vec<&'a str> {
    let longer = |name: &&str| name.len() > server.len() && name.starts_with(server);
    names.iter().map(String::as_str).filter(longer).collect()
}

/// Nothing, of one that does not list.
async fn list_one(
    server: &str,
    conversation: BoxFuture<'_, Result<Arc<Conversation>, Refusal>>,
    (method, field): (&str, &'static str),
    meta: Option<&RawValue>,
    limits: &Limits,
) -> Vec<Box<RawValue>> {
    let listed = async { pages(&conversation.await?, (method, field), meta, limits).await };
    let why = match timeout(LIST_WITHIN, listed).await {
        Ok(Ok(items)) => return items,
        Ok(Err(refusal)) => refusal.to_string(),
        Err(_) => format!("no answer within {} s", LIST_WITHIN.as_secs()),
    };
    tracing::warn!(server, method, why, "listed without this server");
    Vec::new()
}

/// An item under its name for all; none if that is another server's.
fn renamed(rivals: &[&str], server: &str, item: &RawValue) -> Option<String> {
    let piece = field(Some(item), "name")?;
    let own: String = serde_json::from_str(piece.get()).ok()?;
    let name = format!("{server}__{own}");
    if split(rivals, &name).is_some() {
        tracing::warn!(server, name, "left out: the name is another server's");
        return None;
    }
    let name = serde_json::Value::from(name).to_string();
    Some(envelope::with(item.get(), [(piece.get(), name.as_str())].into_iter()))
}

pub(super) async fn pages(
    conversation: &Arc<Conversation>,
    (method, field): (&str, &'static str),
    meta: Option<&RawValue>,
    limits: &Limits,
) -> Result<Vec<Box<RawValue>>, Refusal> {
    let broken = |why: String| Refusal::http(StatusCode::BAD_GATEWAY, why);
    let unreadable = |error: serde_json::Error| broken(error.to_string());
    let (mut items, mut bytes) = (Vec::new(), 0);
    let mut cursor = None::<Box<RawValue>>;
    for page in 0..MOST_PAGES {
        let id = format!("osvm-list-{}-{page}", conversation.next_number());
        let request = request(&id, method, cursor.as_deref(), meta);
        let request = Envelope::parse(&request).map_err(|error| broken(error.to_string()))?;
        let outlet = conversation.ask_own(&request)?;
        let _waiting = Waiting::new(Arc::clone(conversation), &outlet);
        let answer = outlet.read().answer().await.ok_or_else(|| broken("no answer".to_owned()))?;
        let answer = Envelope::parse(&answer).map_err(|error| broken(error.to_string()))?;
        let Some(result) = answer.result else {
            return Err(broken(answer.error.map_or("", RawValue::get).to_owned()));
        };
        bytes += result.get().len();
        let page = Page::read(result.get(), field, &mut |item| {
            items.push(item.to_owned());
            items.len() <= limits.list_items
        });
        match page.map_err(unreadable)?.next.filter(|cursor| cursor.get() != "null") {
            _ if bytes > limits.line_bytes => break,
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(items),
        }
    }
    Err(broken("its list is too long".to_owned()))
}

/// The request for a list.
pub(super) fn asking(method: &str, meta: Option<&RawValue>) -> String {
    request("osvm-list", method, None, meta)
}

fn request(id: &str, method: &str, cursor: Option<&RawValue>, meta: Option<&RawValue>) -> String {
    #[derive(Serialize)]
    struct Params<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a RawValue>,
        #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
        meta: Option<&'a RawValue>,
    }
    #[derive(Serialize)]
    struct Request<'a> {
        jsonrpc: &'static str,
        id: &'a str,
        method: &'a str,
        params: Params<'a>,
    }
    let params = Params { cursor, meta };
    serde_json::to_string(&Request { jsonrpc: "2.0", id, method, params })
        .expect("string keys and JSON values serialize")
}

/// An answer of the gateway's own.
pub(super) fn answer(id: Option<&RawValue>, result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Answer<'a, T> {
        jsonrpc: &'static str,
        id: Option<&'a RawValue>,
        result: T,
    }
    serde_json::to_string(&Answer { jsonrpc: "2.0", id, result })
        .expect("string keys and JSON values serialize")
}

/// A list of the gateway's own.
pub(super) fn listed(id: Option<&RawValue>, (field, items): (&str, &[String]), era: Era) -> String {
    let now = || serde_json::to_string(&NOW).expect("string keys serialize");
    let holds = match era {
        Era::Legacy => String::new(),
        Era::Modern => format!(",{}", now().trim_matches(['{', '}'])),
    };
    // The items are JSON as they are: having that checked once more takes as long as all else.
    let (id, items) = (id.map_or("null", RawValue::get), items.join(","));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"{field}":[{items}]{holds}}}}}"#)
}

impl Gateway {
    /// Of all servers that are enabled, and that this sender may use.
    pub(super) async fn names(&self, sender: &Sender) -> Result<Vec<String>, Refusal> {
        let names = self.servers.names().await;
        let mut names =
            names.map_err(|why| Refusal::http(StatusCode::INTERNAL_SERVER_ERROR, why))?;
        names.retain(|name| sender.may_use(name));
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_that_fits_has_the_tool() {
        let names = ["a", "a__b", "b"].map(str::to_owned);
        assert_eq!(split(&names, "a__b__c"), Some(("a__b", "c")));
        assert_eq!(split(&names, "a__c__d"), Some(("a", "c__d")));
        assert_eq!(split(&names, "b__"), Some(("b", "")));
        assert_eq!(split(&names, "c__d"), None);
        assert_eq!(split(&names, "a_b"), None);
    }

    #[test]
    fn an_item_whose_name_is_another_servers_is_left_out() {
        let names = ["a", "a__b", "a_", "b"].map(str::to_owned);
        let listed = |server: &str, item: &str| {
            let item = RawValue::from_string(item.to_owned()).unwrap();
            renamed(&rivals(&names, server), server, &item)
        };
        let own = listed("a", r#"{ "x":1.0, "name":"t\u0061", "name2":"t" }"#);
        assert_eq!(own.unwrap(), r#"{ "x":1.0, "name":"a__ta", "name2":"t" }"#);
        for of_another in [r#"{"name":"b__c"}"#, r#"{"name":"_t"}"#, r#"{"name":7}"#] {
            assert_eq!(listed("a", of_another), None, "{of_another}");
        }
        assert!(listed("a__b", r#"{"name":"c"}"#).is_some());
    }
}
