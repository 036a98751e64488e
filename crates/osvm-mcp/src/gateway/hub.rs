//! A session with all servers: each gets the client's own handshake when it is first needed.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::FutureExt;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::Gateway;
use super::all::{self, Asked, Capabilities, MYSELF, Nothing};
use super::conversation::{Conversation, Numbers, Place, unmarked};
use super::outlet::Outlet;
use super::recall::{Recalled, mark};
use super::refusal::Refusal;
use super::sender::Sender;
use super::sessions::lock;
use crate::envelope::{self, Envelope, Kind, field};
use crate::era::{Era, LEGACY};

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
/// How long a server may take for the handshake.
const GREET_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to list again what its client was told before.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Hub {
    sender: Arc<Sender>,
    /// The client's handshake, as each server is told it.
    hello: String,
    numbers: Numbers,
    servers: Mutex<HashMap<String, Arc<OnceCell<Arc<Conversation>>>>>,
    /// What was listed of servers that were not spoken to: of each, fields and the [`mark`]s of what was in them.
    told: Mutex<HashMap<String, HashMap<&'static str, u64>>>,
}

impl Hub {
    pub(super) fn new(sender: &Arc<Sender>, initialize: &Envelope<'_>) -> Self {
        let numbers = Numbers { standalone: Outlet::new(0), last: Arc::new(AtomicU64::new(0)) };
        let (sender, hello) = (Arc::clone(sender), initialize.text().to_owned());
        Self { sender, hello, numbers, servers: Mutex::default(), told: Mutex::default() }
    }

    pub(super) fn standalone(&self) -> &Arc<Outlet> {
        &self.numbers.standalone
    }

    pub(super) async fn ask(
        &self,
        gateway: &Gateway,
        message: &Envelope<'_>,
    ) -> Result<Arc<Outlet>, Refusal> {
        let own = |result: String| Outlet::answered(self.numbers.next(), &result);
        match message.method.as_deref() {
            Some("initialize") => return Ok(own(self.greeting(message))),
            Some("ping") => return Ok(own(all::answer(message.id, &Nothing::default()))),
            _ => {}
        }
        let names = gateway.names(&self.sender).await?;
        match Asked::of(message)? {
            Asked::List(field) => {
                let method = message.method.as_deref().unwrap_or_default();
                let limits = &gateway.bounds.of_servers;
                let recalled = self.recall(gateway, &names, (method, field)).await;
                let server = |server| self.server(gateway, server).boxed();
                let said = (None, limits);
                let items = all::list(&names, (method, field), said, recalled, server).await;
                Ok(own(all::listed(message.id, (field, &items), Era::Legacy)))
            }
            Asked::Named => {
                let (server, line) = all::for_one(&names, message)?;
                let conversation = self.server(gateway, &server).await?;
                let message = super::parse(&line)?;
                conversation.ask(&message)
            }
        }
    }

    /// Of servers that this client does not speak to.
    async fn recall(
        &self,
        gateway: &Gateway,
        names: &[String],
        (method, field): (&str, &'static str),
    ) -> Recalled {
        let unasked: Vec<_> = {
            let servers = lock(&self.servers);
            names.iter().filter(|name| !servers.contains_key(*name)).collect()
        };
        let whom = |name: &String| (name.clone(), self.sender.on_behalf(name, false));
        let unasked = unasked.into_iter().map(whom).collect();
        let lines = [&self.hello, INITIALIZED].map(str::to_owned);
        let lines = lines.into_iter().chain([all::asking(method, None)]).collect();
        let mut recalled = gateway.recall(lines, field, unasked).await;
        // Nobody begins to speak to one of them before it is marked.
        let servers = lock(&self.servers);
        let mut told = lock(&self.told);
        recalled.retain(|name, _| !servers.contains_key(name));
        for (server, items) in &recalled {
            told.entry(server.clone()).or_default().insert(field, mark(items));
        }
        recalled
    }

    /// Has a server's session know what its client was told without it, and the client what is another by now.
    async fn catch_up(&self, gateway: &Gateway, name: &str, conversation: &Arc<Conversation>) {
        let Some(told) = lock(&self.told).get(name).cloned() else { return };
        for (field, then) in told {
            let method = format!("{field}/list");
            let list = (method.as_str(), field);
            let listed = all::pages(conversation, list, None, &gateway.bounds.of_servers);
            // Of one that does not say what it has, nothing is known to have changed.
            let Ok(Ok(now)) = timeout(CATCH_UP_WITHIN, listed).await else { continue };
            if mark(&now) != then {
                let changed = format!("notifications/{field}/list_changed");
                let changed = envelope::notification(&changed, None);
                self.standalone().put(String::from_utf8_lossy(&changed).trim_end());
            }
        }
        lock(&self.told).remove(name);
    }

    fn greeting(&self, message: &Envelope<'_>) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Greeting<'a> {
            protocol_version: &'a str,
            capabilities: Capabilities,
            server_info: all::Myself,
        }
        let asked = field(message.params, "protocolVersion");
        let asked: Option<String> = asked.and_then(|asked| serde_json::from_str(asked.get()).ok());
        let known = asked.as_deref().filter(|asked| LEGACY.contains(asked));
        let greeting = Greeting {
            protocol_version: known.unwrap_or(LEGACY[0]),
            capabilities: Capabilities::default(),
            server_info: MYSELF,
        };
        all::answer(message.id, &greeting)
    }

    /// What needs no answer: for the server that asked, or for all that were spoken to.
    pub(super) fn tell(&self, message: &Envelope<'_>) {
        let answers = message.kind() == Kind::Response;
        if let Some(id) = message.id.filter(|_| answers) {
            let Some((server, own)) = unmarked(id) else { return };
            if let Some(conversation) = self.spoken_to().remove(&server) {
                conversation.say(&message.with(&[(id, own.get())]));
            }
            return;
        }
        // Each server is told so once its own handshake is done.
        if message.method.as_deref() == Some("notifications/initialized") {
            return;
        }
        for conversation in self.spoken_to().values() {
            conversation.tell(message);
        }
    }

    fn spoken_to(&self) -> HashMap<String, Arc<Conversation>> {
        let servers = lock(&self.servers);
        let open =
            servers.iter().filter_map(|(name, cell)| Some((name.clone(), cell.get()?.clone())));
        open.collect()
    }

    async fn server(&self, gateway: &Gateway, name: &str) -> Result<Arc<Conversation>, Refusal> {
        let cell = {
            let mut servers = lock(&self.servers);
            // One that is gone is started again.
            servers
                .retain(|_, cell| !cell.get().is_some_and(|conversation| conversation.is_over()));
            Arc::clone(servers.entry(name.to_owned()).or_default())
        };
        let conversation = cell.get_or_try_init(|| self.greet(gateway, name)).await?;
        // Only then does its client's answer reach it, which it may want first.
        self.catch_up(gateway, name, conversation).await;
        Ok(Arc::clone(conversation))
    }

    async fn greet(&self, gateway: &Gateway, name: &str) -> Result<Arc<Conversation>, Refusal> {
        let stream = gateway.open(name, self.sender.on_behalf(name, false)).await?;
        let place = Place::Among(name.to_owned(), self.numbers.clone());
        let conversation = Conversation::with(stream, &gateway.bounds.of_servers, place);
        let hello = super::parse(&self.hello)?;
        let outlet = conversation.ask(&hello)?;
        let bad = |why: String| Refusal::http(axum::http::StatusCode::BAD_GATEWAY, why);
        let answer = timeout(GREET_WITHIN, outlet.read().answer()).await.ok().flatten();
        let answer =
            answer.ok_or_else(|| bad(format!("server {name} did not answer initialize")))?;
        let error =
            Envelope::parse(&answer).ok().and_then(|answer| answer.error.map(RawValue::get));
        if let Some(error) = error {
            return Err(bad(format!("server {name} refused initialize: {error}")));
        }
        conversation.say(INITIALIZED);
        Ok(Arc::new(conversation))
    }

    pub(super) fn end(&self) {
        self.spoken_to().values().for_each(|conversation| conversation.end());
        self.numbers.standalone.cut();
    }
}
