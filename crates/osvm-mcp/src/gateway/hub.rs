//! A session with all servers: each gets the client's own handshake when it is first needed.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
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
use super::refusal::Refusal;
use super::sender::Sender;
use crate::envelope::{Envelope, Kind, field};
use crate::era::LEGACY;

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
/// How long a server may take for the handshake.
const GREET_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Hub {
    sender: Arc<Sender>,
    /// The client's handshake, as each server is told it.
    hello: String,
    numbers: Numbers,
    servers: Mutex<HashMap<String, Arc<OnceCell<Arc<Conversation>>>>>,
}

impl Hub {
    pub(super) fn new(sender: &Arc<Sender>, initialize: &Envelope<'_>) -> Self {
        let numbers = Numbers { standalone: Outlet::new(0), last: Arc::new(AtomicU64::new(0)) };
        let (sender, hello) = (Arc::clone(sender), initialize.text().to_owned());
        Self { sender, hello, numbers, servers: Mutex::default() }
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
                let server = |server| self.server(gateway, server).boxed();
                let items = all::list(&names, (method, field), (None, limits), server).await;
                let result = HashMap::from([(field, items)]);
                Ok(own(all::answer(message.id, &result)))
            }
            Asked::Named => {
                let (server, line) = all::for_one(&names, message)?;
                let conversation = self.server(gateway, &server).await?;
                let message = super::parse(&line)?;
                conversation.ask(&message)
            }
        }
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
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let open =
            servers.iter().filter_map(|(name, cell)| Some((name.clone(), cell.get()?.clone())));
        open.collect()
    }

    async fn server(&self, gateway: &Gateway, name: &str) -> Result<Arc<Conversation>, Refusal> {
        let cell = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            // One that is gone is started again.
            servers
                .retain(|_, cell| !cell.get().is_some_and(|conversation| conversation.is_over()));
            Arc::clone(servers.entry(name.to_owned()).or_default())
        };
        cell.get_or_try_init(|| self.greet(gateway, name)).await.cloned()
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
