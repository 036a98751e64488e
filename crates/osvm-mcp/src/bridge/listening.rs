//! `subscriptions/listen` of a modern client, by what a legacy server has: notifications that it sends anyway, and
//! `resources/subscribe`. A server that refuses one of these is not waited for: the client then never hears of it.

use std::collections::{BTreeMap, BTreeSet};

use super::capabilities::Abilities;
use super::messages::{Refusal, notification};
use super::splice::{Edit, edited, fields, quoted, set, string};
use crate::envelope::{Envelope, each_element};
use crate::protocol::{INTERNAL_ERROR, INVALID_PARAMS, SUBSCRIPTION};

/// Subscriptions at once, resources in all of them together, and bytes of the name of one.
const MOST_OPEN: usize = 64;
const MOST_RESOURCES: usize = 1024;
const LONGEST_URI: usize = 8 << 10;
/// Longest notification that is told to all of them, in bytes.
const LONGEST_TOLD: usize = 64 << 10;

/// By the ids of the requests that opened them.
#[derive(Debug, Default)]
pub(super) struct Listening(BTreeMap<String, Wanted>);

/// What a client wants to be told of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// As the client spelled it.
    id: String,
    tools: bool,
    prompts: bool,
    resources: bool,
    uris: Vec<String>,
}

impl Listening {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Opens a subscription; what the client is told, and the resources that the server is yet to be asked for.
    pub(super) fn open(
        &mut self,
        key: String,
        id: &str,
        params: &str,
        server: &Abilities,
    ) -> Result<(Vec<u8>, Vec<String>), Refusal> {
        let mut wanted = Wanted::read(id, params)?;
        wanted.tools &= server.tools_change;
        wanted.prompts &= server.prompts_change;
        wanted.resources &= server.resources_change;
        if !server.subscribe {
            wanted.uris.clear();
        }
        let known: usize = self.0.values().map(|wanted| wanted.uris.len()).sum();
        if self.0.len() >= MOST_OPEN || known + wanted.uris.len() > MOST_RESOURCES {
            let why = format!(
                "more than {MOST_OPEN} subscriptions, or {MOST_RESOURCES} resources in them, are open"
            );
            return Err(Refusal::new(INTERNAL_ERROR, why));
        }
        let fresh = self.unknown(wanted.uris.clone());
        let told = wanted.acknowledged();
        self.0.insert(key, wanted);
        Ok((told, fresh))
    }

    /// Ends a subscription. The resources that nobody wants any more.
    pub(super) fn close(&mut self, key: &str) -> Vec<String> {
        let Some(closed) = self.0.remove(key) else { return Vec::new() };
        self.unknown(closed.uris)
    }

    /// Ends all of them, and names their ids.
    pub(super) fn clear(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0).into_values().map(|wanted| wanted.id).collect()
    }

    /// Those that no subscription is to.
    fn unknown(&self, uris: Vec<String>) -> Vec<String> {
        let known: BTreeSet<_> = self.0.values().flat_map(|wanted| &wanted.uris).collect();
        uris.into_iter().filter(|uri| !known.contains(uri)).collect()
    }

    /// A server's notification for each subscription that wants it. Nothing where it is none of those that are
    /// subscribed to.
    pub(super) fn told(&self, message: &Envelope<'_>) -> Option<Vec<Vec<u8>>> {
        let method = message.method.as_deref()?;
        let updated = message.params.and_then(|params| {
            let [uri] = fields(params.get(), ["uri"])?;
            string(uri?)
        });
        let wants: &dyn Fn(&Wanted) -> bool = match method {
            "notifications/tools/list_changed" => &|wanted| wanted.tools,
            "notifications/prompts/list_changed" => &|wanted| wanted.prompts,
            "notifications/resources/list_changed" => &|wanted| wanted.resources,
            // What is part of a resource is told as the resource is.
            "notifications/resources/updated" => &|wanted| {
                updated.as_ref().is_some_and(|uri| wanted.uris.iter().any(|of| uri.starts_with(of)))
            },
            _ => return None,
        };
        if message.text().len() > LONGEST_TOLD {
            return Some(Vec::new());
        }
        let all = self.0.values().filter(|wanted| wants(wanted));
        Some(all.filter_map(|wanted| wanted.labelled(message)).collect())
    }
}

impl Wanted {
    fn read(id: &str, params: &str) -> Result<Self, Refusal> {
        let malformed =
            |what: &str| Refusal::new(INVALID_PARAMS, format!("subscriptions/listen: {what}"));
        let [filter] = fields(params, ["notifications"]).unwrap_or_default();
        let filter = filter.ok_or_else(|| malformed("notifications is missing"))?;
        let names = [
            "toolsListChanged",
            "promptsListChanged",
            "resourcesListChanged",
            "resourceSubscriptions",
        ];
        let found = fields(filter.get(), names);
        let [tools, prompts, resources, named] =
            found.ok_or_else(|| malformed("notifications is no object"))?;
        let is_true = |value: Option<&serde_json::value::RawValue>| {
            value.is_some_and(|value| value.get() == "true")
        };
        let mut uris = Vec::new();
        if let Some(named) = named {
            let read = each_element(named.get(), &mut |uri| {
                let uri = (uri.get().len() <= LONGEST_URI).then(|| string(uri)).flatten();
                uris.extend(uri);
                uris.len() <= MOST_RESOURCES
            });
            read.map_err(|_| malformed("resourceSubscriptions is no list of at most 1024"))?;
        }
        uris.sort_unstable();
        uris.dedup();
        let [tools, prompts, resources] = [tools, prompts, resources].map(is_true);
        Ok(Self { id: id.to_owned(), tools, prompts, resources, uris })
    }

    fn acknowledged(&self) -> Vec<u8> {
        let flags = [
            (self.tools, "toolsListChanged"),
            (self.prompts, "promptsListChanged"),
            (self.resources, "resourcesListChanged"),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let mut fields: Vec<_> = flags.map(|(_, name)| format!("{}:true", quoted(name))).collect();
        if !self.uris.is_empty() {
            let uris: Vec<_> = self.uris.iter().map(|uri| quoted(uri)).collect();
            fields.push(format!(r#""resourceSubscriptions":[{}]"#, uris.join(",")));
        }
        let meta = format!(r#"{{{}:{}}}"#, quoted(SUBSCRIPTION), self.id);
        let params = format!(r#"{{"_meta":{meta},"notifications":{{{}}}}}"#, fields.join(","));
        notification(ACKNOWLEDGED, &params)
    }

    /// The notification with what says which subscription it is for.
    fn labelled(&self, message: &Envelope<'_>) -> Option<Vec<u8>> {
        let id = [(SUBSCRIPTION, self.id.as_str())];
        let alone = format!(r#"{{{}:{}}}"#, quoted(SUBSCRIPTION), self.id);
        let edits = match message.params.map(serde_json::value::RawValue::get) {
            None => set(message.text(), &[("params", &format!(r#"{{"_meta":{alone}}}"#))])?,
            Some(params) => match fields(params, ["_meta"])? {
                [Some(meta)] if meta.get().starts_with('{') => set(meta.get(), &id)?,
                [Some(meta)] => vec![Edit { part: meta.get(), with: alone }],
                [None] => set(params, &[("_meta", &alone)])?,
            },
        };
        Some(edited(message.text(), edits).into_bytes())
    }
}

/// What comes first of a subscription.
pub(super) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
