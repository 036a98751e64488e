//! Requests of the modern era: each says it all, so those with one token, of one kind of client, share a server process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use futures::future::FutureExt;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::Gateway;
use super::all::{self, Asked};
use super::answer::{Answer, Rest, at_once};
use super::conversation::{Conversation, Place, Waiting};
use super::headers::{self, Meta};
use super::params;
use super::recall::Recalled;
use super::refusal::{Refusal, json, status_of};
use super::sender::{Sender, Visit};
use super::sessions::{each, full, lock};
use crate::OnBehalf;
use crate::envelope::{Envelope, Kind, field, fields};
use crate::era::Era;
use crate::protocol::{HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST};

/// Longest statement of capabilities.
const LONGEST_CAPABILITIES: usize = 16 << 10;
/// Server processes that are shared, at a time.
const MOST_SHARES: usize = 256;
/// Of which it is remembered that something was told of them.
const MOST_TOLD: usize = 1 << 16;

/// How long a server may take to list its tools before a call of one of them.
const LISTED_WITHIN: Duration = Duration::from_secs(30);

/// To one server, or to all.
pub(super) async fn say<'g>(
    gateway: &'g Gateway,
    visit: Visit<'_>,
    meta: Result<Meta<'_>, serde_json::Error>,
    message: &Envelope<'_>,
) -> Result<Rest<'g>, Refusal> {
    let meta = headers::of_modern(visit.headers, meta, message)?;
    if meta.capabilities.is_some_and(|said| said.get().len() > LONGEST_CAPABILITIES) {
        let why = format!("client capabilities exceed {LONGEST_CAPABILITIES} bytes");
        return Err(Refusal::rpc(message.id, INVALID_REQUEST, why));
    }
    if message.kind() != Kind::Request {
        // Whoever ends a request ends its stream; nothing else is said without being asked.
        return Ok(at_once(StatusCode::ACCEPTED));
    }
    match visit.server {
        Some(server) => ask(gateway, server, (visit, &meta), message).await,
        None => ask_all(gateway, (visit, &meta), message).await,
    }
}

async fn ask_all<'g>(
    gateway: &'g Gateway,
    (visit, meta): (Visit<'_>, &Meta<'_>),
    message: &Envelope<'_>,
) -> Result<Rest<'g>, Refusal> {
    let told = |answer: String| at_once(json(StatusCode::OK, answer));
    if message.method.as_deref() == Some("server/discover") {
        return Ok(told(all::answer(message.id, &all::Discovered::default())));
    }
    let names = gateway.names(visit.sender).await?;
    match Asked::of(message)? {
        Asked::List(listed) => {
            let method = message.method.as_deref().unwrap_or_default();
            let said = (field(message.params, "_meta"), &gateway.bounds.of_servers);
            let lines = vec![all::asking(method, said.0)];
            let recalled = recall(gateway, visit.sender, (&names, lines, listed), meta).await;
            let share = |server| {
                let of = (visit.sender, server);
                async move { conversation(gateway, of, &Wish::of(gateway, of, meta)).await }.boxed()
            };
            let items = all::list(&names, (method, listed), said, recalled, share).await;
            Ok(told(all::listed(message.id, (listed, &items), Era::Modern)))
        }
        Asked::Named => {
            let (server, line) = all::for_one(&names, message)?;
            ask(gateway, &server, (visit, meta), &super::parse(&line)?).await
        }
    }
}

async fn ask<'g>(
    gateway: &'g Gateway,
    server: &str,
    (visit, meta): (Visit<'_>, &Meta<'_>),
    message: &Envelope<'_>,
) -> Result<Rest<'g>, Refusal> {
    let of = (visit.sender, server);
    let wish = Wish::of(gateway, of, meta);
    let conversation = conversation(gateway, of, &wish).await?;
    if message.method.as_deref() == Some("tools/call") {
        check_params(gateway, (&wish.key, &conversation), visit.headers, message).await?;
    }
    let outlet = conversation.ask(message)?;
    let waiting = Box::new(Waiting::new(conversation, &outlet));
    Ok(async move { Answer::of(&outlet, waiting).await.with(status) }.boxed())
}

/// Holds what headers say of a call's arguments against these. Of tools that nobody has listed there yet, they are listed
/// if a header says anything, or if their client was told of them without the server: whose session then knows what to
/// hold arguments against, and what was told against the server.
async fn check_params(
    gateway: &Gateway,
    (key, conversation): (&str, &Arc<Conversation>),
    headers: &HeaderMap,
    message: &Envelope<'_>,
) -> Result<(), Refusal> {
    let [name, arguments, meta] = match message.params {
        Some(params) => fields(params.get(), ["name", "arguments", "_meta"])
            .map_err(|error| Refusal::rpc(message.id, INVALID_PARAMS, error.to_string()))?,
        None => [None; 3],
    };
    let name = name.and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    let name = name.unwrap_or_default();
    let is_told = || gateway.shares.is_told(key);
    if conversation.params_of(&name).is_none() && (params::has_any(headers) || is_told()) {
        let list = ("tools/list", "tools");
        let listed = all::pages(conversation, list, meta, &gateway.bounds.of_servers);
        // A server that does not list its tools has none that ask for this, and is not asked for each call.
        let _ = timeout(LISTED_WITHIN, listed).await;
        conversation.has_listed();
    }
    let places = conversation.params_of(&name).unwrap_or_default();
    match params::misfit(headers, arguments, &places) {
        None => Ok(()),
        Some(why) => Err(Refusal::rpc(message.id, HEADER_MISMATCH, why)),
    }
}

/// The one that requests of this kind go to.
async fn conversation(
    gateway: &Gateway,
    (sender, server): (&Arc<Sender>, &str),
    wish: &Wish,
) -> Result<Arc<Conversation>, Refusal> {
    let share = gateway.shares.get(&wish.key, (sender, wish.is_shared))?;
    let opened = share.conversation.get_or_try_init(async || {
        let stream = gateway.open(server, wish.whom.clone()).await?;
        let limits = &gateway.bounds.of_servers;
        Ok(Arc::new(Conversation::with(stream, limits, Place::Shared)))
    });
    let opened = opened.await.cloned();
    if opened.is_err() {
        gateway.shares.remove(&share);
    }
    opened
}

/// What somebody wants of a server.
struct Wish {
    /// The same for those who may share a server process: a server may answer by what its client is capable of.
    key: String,
    whom: OnBehalf,
    is_shared: bool,
}

impl Wish {
    fn of(gateway: &Gateway, (sender, server): (&Arc<Sender>, &str), meta: &Meta<'_>) -> Self {
        let is_shared = gateway.servers.is_shared(server);
        let whom = sender.on_behalf(server, is_shared);
        let of = match is_shared {
            true => format!("{:?}", whom.tools),
            false => sender.key(),
        };
        let capabilities = meta.capabilities.map_or("{}", RawValue::get);
        Self { key: format!("{server} {capabilities}{of}"), whom, is_shared }
    }
}

/// Of servers with which nothing is open for a client of this kind: one that was asked for something may list something
/// else since.
async fn recall(
    gateway: &Gateway,
    sender: &Arc<Sender>,
    (names, lines, field): (&[String], Vec<String>, &'static str),
    meta: &Meta<'_>,
) -> Recalled {
    let wishes = names.iter().map(|name| (name, Wish::of(gateway, (sender, name), meta)));
    let wishes: BTreeMap<_, _> =
        wishes.filter(|(_, wish)| !gateway.shares.has(&wish.key)).collect();
    let unasked = wishes.iter().map(|(name, wish)| ((*name).clone(), wish.whom.clone()));
    let mut recalled = gateway.recall(lines, field, unasked.collect()).await;
    // Nothing is opened with one of them before it is known what was told of it.
    recalled.retain(|name, _| wishes.get(name).is_some_and(|wish| gateway.shares.tell(&wish.key)));
    recalled
}

fn status(answer: &str) -> StatusCode {
    #[derive(serde::Deserialize)]
    struct Error {
        code: i64,
    }
    let error = Envelope::parse(answer).ok().and_then(|message| message.error);
    let error = error.and_then(|error| serde_json::from_str::<Error>(error.get()).ok());
    error.map_or(StatusCode::OK, |error| status_of(error.code))
}

pub(super) struct Share {
    /// Who was the first to need it.
    sender: Arc<Sender>,
    /// Of whose it counts.
    account: Option<String>,
    /// Whether others may need it, too.
    is_shared: bool,
    conversation: OnceCell<Arc<Conversation>>,
    used: Mutex<Instant>,
}

impl Share {
    fn is_over(&self) -> bool {
        self.conversation.get().is_some_and(|conversation| conversation.is_over())
    }

    fn is_idle(&self) -> bool {
        self.conversation.get().is_none_or(|conversation| conversation.is_idle())
    }
}

fn is_open(shares: &HashMap<String, Arc<Share>>, key: &str) -> bool {
    shares.get(key).is_some_and(|share| !share.is_over())
}

fn digest(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Whether there is room for one more of those, which the one makes that was unused for longest.
fn has_room(
    shares: &mut HashMap<String, Arc<Share>>,
    most: usize,
    is_one: impl Fn(&Share) -> bool,
) -> bool {
    let those: Vec<_> = shares.iter().filter(|(_, share)| is_one(share)).collect();
    if those.len() < most {
        return true;
    }
    let idle = those.into_iter().filter(|(_, share)| share.is_idle());
    let longest = idle.min_by_key(|(_, share)| *lock(&share.used)).map(|(key, _)| key.clone());
    longest.is_some_and(|longest| shares.remove(&longest).is_some())
}

/// All server processes that are shared.
#[derive(Default)]
pub(super) struct Shares {
    open: Mutex<HashMap<String, Arc<Share>>>,
    /// Digests of those that something was told of before they were there.
    told: Mutex<HashSet<u64>>,
}

impl Shares {
    fn get(
        &self,
        key: &str,
        (sender, is_shared): (&Arc<Sender>, bool),
    ) -> Result<Arc<Share>, Refusal> {
        let mut shares = lock(&self.open);
        if let Some(share) = shares.get(key).filter(|share| !share.is_over()) {
            *lock(&share.used) = Instant::now();
            return Ok(Arc::clone(share));
        }
        let account = sender.account();
        let is_own = |share: &Share| share.account == account;
        let most = each(MOST_SHARES);
        if account.is_some() && !has_room(&mut shares, most, is_own) {
            let (kind, name) = (sender.kind(), sender.name());
            return Err(full(format!(
                "{kind} {name} is served by {most} processes, which is the most for one {kind}"
            )));
        }
        if !has_room(&mut shares, MOST_SHARES, |_| true) {
            return Err(full("too many kinds of clients are served".to_owned()));
        }
        let (sender, used) = (Arc::clone(sender), Mutex::new(Instant::now()));
        let share =
            Arc::new(Share { sender, account, is_shared, conversation: OnceCell::new(), used });
        shares.insert(key.to_owned(), Arc::clone(&share));
        Ok(share)
    }

    /// Notes that something was told of one that is not there; or says that it is by now.
    fn tell(&self, key: &str) -> bool {
        let open = lock(&self.open);
        if is_open(&open, key) {
            return false;
        }
        let mut told = lock(&self.told);
        if told.len() >= MOST_TOLD {
            told.clear();
        }
        told.insert(digest(key));
        true
    }

    fn is_told(&self, key: &str) -> bool {
        lock(&self.told).contains(&digest(key))
    }

    /// Whether there is a process, or is about to be.
    fn has(&self, key: &str) -> bool {
        is_open(&lock(&self.open), key)
    }

    fn remove(&self, share: &Arc<Share>) {
        lock(&self.open).retain(|_, kept| !Arc::ptr_eq(kept, share));
    }

    /// Those that nobody has used for a long time, and those of tokens that are not known any more: what is open there
    /// ends, unless it may be another's.
    pub(super) fn forget(&self, after: Duration, is_known: &dyn Fn(&Sender) -> bool) {
        lock(&self.open).retain(|_, share| {
            let unused = lock(&share.used).elapsed() > after && share.is_idle();
            let is_known = is_known(&share.sender);
            if let Some(conversation) = share.conversation.get().filter(|_| !is_known)
                && !share.is_shared
            {
                conversation.end();
            }
            !share.is_over() && !unused && is_known
        });
    }
}
