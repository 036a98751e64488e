//! What a legacy client is told without asking, by `subscriptions/listen`: one for all lists, from its handshake on, and
//! one for each resource that it has subscribed to. What a server ends is opened again with the client's next request.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Step;
use super::super::capabilities::Abilities;
use super::super::listening::ACKNOWLEDGED;
use super::super::messages::{self, Refusal, key};
use super::super::splice::{field, fields, quoted, string};
use super::LegacyClient;
use crate::envelope::{Envelope, each_element};
use crate::protocol::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, SUBSCRIPTION};

/// Resources at once, and bytes of the name of one.
const MOST_RESOURCES: usize = 256;
const LONGEST_URI: usize = 8 << 10;

#[derive(Debug, Default)]
pub(super) struct Watching {
    /// As a filter, if any.
    lists: Option<String>,
    resources: BTreeSet<String>,
    /// By the bridge's id: nothing for the lists, or a resource.
    open: BTreeMap<String, Option<String>>,
    /// The client's ids of requests to be answered once the server has acknowledged a resource.
    waiting: BTreeMap<String, String>,
}

impl Watching {
    pub(super) fn want_lists(&mut self, server: &Abilities) {
        let flags = [
            (server.tools_change, r#""toolsListChanged":true"#),
            (server.prompts_change, r#""promptsListChanged":true"#),
            (server.resources_change, r#""resourcesListChanged":true"#),
        ];
        let flags: Vec<_> =
            flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
        self.lists = (!flags.is_empty()).then(|| format!("{{{}}}", flags.join(",")));
    }

    /// Wants to hear of a resource no more; the subscription that is to be cancelled, and the client's id of a request for
    /// it that is not answered.
    pub(super) fn forget(&mut self, uri: &str) -> [Option<String>; 2] {
        self.resources.remove(uri);
        let waiting = self.waiting.remove(uri);
        let open = self.open.iter().find(|(_, of)| of.as_deref() == Some(uri));
        let id = open.map(|(id, _)| id.clone());
        if let Some(id) = &id {
            self.open.remove(id);
        }
        [id, waiting]
    }

    /// No subscription is open any more; the client's ids of requests that are not answered.
    pub(super) fn lost(&mut self) -> Vec<String> {
        self.open.clear();
        let waiting = std::mem::take(&mut self.waiting);
        for uri in waiting.keys() {
            self.resources.remove(uri);
        }
        waiting.into_values().collect()
    }

    /// What is wanted, and not open: nothing for the lists, or a resource.
    fn closed(&self) -> Vec<Option<String>> {
        if self.open.len() == self.resources.len() + usize::from(self.lists.is_some()) {
            return Vec::new();
        }
        let open: BTreeSet<_> = self.open.values().map(Option::as_deref).collect();
        let lists = self.lists.as_ref().map(|_| None).filter(|lists| !open.contains(lists));
        let resources = self.resources.iter().filter(|uri| !open.contains(&Some(uri.as_str())));
        lists.map(|_: Option<&str>| None).into_iter().chain(resources.cloned().map(Some)).collect()
    }
}

impl LegacyClient {
    /// Has the server tell of all that is wanted, where it does not yet.
    pub(super) fn watch(&mut self, step: &mut Step) {
        for of in self.watching.closed() {
            let filter = match (&of, &self.watching.lists) {
                (Some(uri), _) => format!(r#"{{"resourceSubscriptions":[{}]}}"#, quoted(uri)),
                (None, lists) => lists.clone().unwrap_or_default(),
            };
            let params = format!(r#"{{"_meta":{},"notifications":{filter}}}"#, self.meta());
            let id = self.ids.next();
            step.to_server.push(messages::request(&id, "subscriptions/listen", &params));
            self.watching.open.insert(id, of);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        id: &str,
        params: &str,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        if !self.abilities.subscribe {
            let why = "Method not found: the server has no subscriptions to resources";
            return Err(Refusal::new(METHOD_NOT_FOUND, why));
        }
        let [uri] = fields(params, ["uri"]).unwrap_or_default();
        let uri = uri.and_then(string).filter(|uri| uri.len() <= LONGEST_URI);
        let uri = uri.ok_or_else(|| {
            let why = format!("resources/subscribe has no uri of at most {LONGEST_URI} bytes");
            Refusal::new(INVALID_PARAMS, why)
        })?;
        let watching = &mut self.watching;
        if watching.waiting.contains_key(&uri) || watching.resources.len() >= MOST_RESOURCES {
            let why = format!("that, or {MOST_RESOURCES} other resources, are subscribed to");
            return Err(Refusal::new(INTERNAL_ERROR, why));
        }
        if watching.resources.insert(uri.clone()) {
            watching.waiting.insert(uri, id.to_owned());
            self.watch(step);
        } else {
            step.to_client.push(messages::result(id, "{}"));
        }
        Ok(())
    }

    /// A subscription has ended, or was never granted.
    pub(super) fn unwatched(&mut self, id: &str, why: &str, step: &mut Step) {
        let Some(Some(uri)) = self.watching.open.remove(id) else { return };
        if let Some(client) = self.watching.waiting.remove(&uri) {
            self.watching.resources.remove(&uri);
            step.to_client.push(Refusal::new(INVALID_PARAMS, why).answers(&client));
        }
    }

    pub(super) fn server_notification(&mut self, message: &Envelope<'_>, step: &mut Step) {
        match message.method.as_deref() {
            Some(ACKNOWLEDGED) => self.acknowledged(message, step),
            Some("notifications/cancelled") => {
                if let Some(id) = messages::cancels(message) {
                    self.unwatched(&key(id), "the server ended the subscription", step);
                }
            }
            _ => step.to_client.push(message.text().as_bytes().to_vec()),
        }
    }

    fn acknowledged(&mut self, message: &Envelope<'_>, step: &mut Step) {
        let params = message.params.map_or("{}", |params| params.get());
        let [meta, granted] = fields(params, ["_meta", "notifications"]).unwrap_or_default();
        let id = meta.and_then(|meta| fields(meta.get(), [SUBSCRIPTION]));
        let Some([Some(id)]) = id else { return };
        let id = key(id);
        let Some(Some(uri)) = self.watching.open.get(&id) else { return };
        let granted = granted.and_then(|granted| field(granted.get(), "resourceSubscriptions"));
        let mut is_granted = false;
        let _ = each_element(granted.unwrap_or("[]"), &mut |granted| {
            is_granted |= string(granted).as_ref() == Some(uri);
            !is_granted
        });
        if !is_granted {
            let why = format!("the server does not tell of changes to {uri}");
            return self.unwatched(&id, &why, step);
        }
        if let Some(client) = self.watching.waiting.remove(uri) {
            step.to_client.push(messages::result(&client, "{}"));
        }
    }
}
