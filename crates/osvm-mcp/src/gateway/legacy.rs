//! Clients of the legacy era: sessions.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::FutureExt;

use super::access::one;
use super::answer::{self, Answer, Rest, at_once};
use super::headers::{self, LAST_EVENT, SESSION};
use super::outlet::Outlet;
use super::party::Party;
use super::refusal::Refusal;
use super::sender::Visit;
use super::sessions::Session;
use super::{Gateway, is_counted, parse};
use crate::envelope::{Envelope, Kind, each_element};
use crate::protocol::INVALID_REQUEST;

/// Messages of one batch.
const MOST_TOGETHER: usize = 64;

pub(super) async fn say<'g>(
    gateway: &'g Gateway,
    visit: Visit<'_>,
    message: &Envelope<'_>,
) -> Result<Rest<'g>, Refusal> {
    if !visit.headers.contains_key(SESSION) {
        return begin(gateway, visit, message).await;
    }
    let session = find(gateway, visit)?;
    match message.kind() {
        Kind::Request => {
            let asked = session.party.ask(gateway, message).await;
            let outlet = asked.map_err(|refusal| refusal.within_session(message.id))?;
            Ok(answer(session, outlet).map(|answer| answer.with(|_| StatusCode::OK)).boxed())
        }
        Kind::Notification | Kind::Response => {
            session.party.tell(message);
            Ok(at_once(StatusCode::ACCEPTED))
        }
    }
}

/// What streams can be had again, also while they are waited for.
async fn answer(session: Arc<Session>, outlet: Arc<Outlet>) -> Answer {
    session.keep(&outlet);
    let answer = Answer::of(&outlet, Box::new(Arc::clone(&session))).await;
    if !matches!(answer, Answer::Stream(_)) {
        session.drop_stream(&outlet);
    }
    answer
}

/// A new session, if the server agrees to it.
async fn begin<'g>(
    gateway: &'g Gateway,
    visit: Visit<'_>,
    message: &Envelope<'_>,
) -> Result<Rest<'g>, Refusal> {
    if message.kind() != Kind::Request || message.method.as_deref() != Some("initialize") {
        let why = format!("header {SESSION} is missing: a session begins with initialize");
        return Err(Refusal::rpc(message.id, INVALID_REQUEST, why));
    }
    let place = gateway.sessions.place(visit.sender)?;
    let party = Party::open(gateway, visit, message).await?;
    let session = Arc::new(Session::new(visit, party, place));
    let outlet = session.party.ask(gateway, message).await?;
    let id = new_id();
    gateway.sessions.add(id.clone(), Arc::clone(&session));
    Ok(answer(session, outlet).map(move |answer| begun(gateway, &id, answer)).boxed())
}

/// Names the session, unless there is none.
fn begun(gateway: &Gateway, id: &str, answer: Answer) -> Response {
    let is_refused = matches!(&answer, Answer::Alone(text) if is_error(text));
    let mut response = answer.with(|_| StatusCode::OK);
    if is_refused {
        gateway.sessions.remove(id);
        return response;
    }
    let id = HeaderValue::from_str(id).expect("it is written in hexadecimal digits");
    response.headers_mut().insert(SESSION, id);
    response
}

fn is_error(answer: &str) -> bool {
    Envelope::parse(answer).is_ok_and(|answer| answer.error.is_some())
}

/// One that nobody guesses.
fn new_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("every kernel that runs this has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn find(gateway: &Gateway, visit: Visit<'_>) -> Result<Arc<Session>, Refusal> {
    headers::of_session(visit.headers)?;
    let id = one(visit.headers, SESSION).unwrap_or_default();
    let session = gateway.sessions.get(id, visit);
    session.inspect(|session| session.touch()).ok_or_else(|| {
        Refusal::http(StatusCode::NOT_FOUND, "there is no such session; begin with initialize")
    })
}

/// Several messages at once, as the revision 2025-03-26 has them: each is sent and answered by itself, in one stream.
pub(super) async fn batch(
    gateway: &Gateway,
    visit: Visit<'_>,
    text: &str,
) -> Result<Response, Refusal> {
    let session = match visit.headers.contains_key(SESSION) {
        true => find(gateway, visit)?,
        false => {
            let why = "a batch needs a session";
            return Err(Refusal::http(StatusCode::BAD_REQUEST, why));
        }
    };
    if one(visit.headers, headers::VERSION).is_some_and(|version| version != "2025-03-26") {
        let why = "only the revision 2025-03-26 has batches";
        return Err(Refusal::http(StatusCode::BAD_REQUEST, why));
    }
    let mut elements = Vec::new();
    let all = each_element(text, &mut |element| {
        elements.push(element);
        elements.len() <= MOST_TOGETHER
    });
    all.map_err(|error| Refusal::rpc(None, INVALID_REQUEST, error.to_string()))?;
    let messages = elements.iter().map(|element| parse(element.get()));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err(Refusal::rpc(None, INVALID_REQUEST, "a batch must not be empty"));
    }
    let counted = messages.iter().filter(|message| is_counted(message)).count();
    gateway.rates.take(visit.sender, counted, None)?;
    let mut outlets = Vec::new();
    for message in &messages {
        match message.kind() {
            Kind::Request => {
                let asked = session.party.ask(gateway, message).await;
                outlets.push(asked.unwrap_or_else(|refusal| Outlet::answered(0, &refusal.text())));
            }
            Kind::Notification | Kind::Response => session.party.tell(message),
        }
    }
    outlets.iter().for_each(|outlet| session.keep(outlet));
    match outlets.is_empty() {
        true => Ok(StatusCode::ACCEPTED.into_response()),
        false => Ok(answer::together(&outlets, Box::new(session))),
    }
}

pub(super) fn listen(gateway: &Gateway, visit: Visit<'_>) -> Result<Response, Refusal> {
    if !visit.headers.contains_key(SESSION) {
        let why = "only sessions have a stream of their own";
        return Err(Refusal::http(StatusCode::METHOD_NOT_ALLOWED, why));
    }
    headers::of_stream(visit.headers)?;
    let session = find(gateway, visit)?;
    let unknown = |why: String| Refusal::http(StatusCode::BAD_REQUEST, why);
    let reader = match one(visit.headers, LAST_EVENT) {
        None => session.party.standalone().read(),
        Some(id) => {
            let place = answer::place(id);
            let (number, seen) =
                place.ok_or_else(|| unknown(format!("no event has the id {id:?}")))?;
            let outlet = session.stream(number).ok_or_else(|| {
                Refusal::http(
                    StatusCode::NOT_FOUND,
                    format!("stream {number} is not kept any more"),
                )
            })?;
            let reader = outlet.read_after(seen);
            reader.ok_or_else(|| unknown(format!("no event has the id {id:?} yet")))?
        }
    };
    Ok(answer::stream(None, reader, Box::new(session)))
}

pub(super) fn leave(gateway: &Gateway, visit: Visit<'_>) -> Result<Response, Refusal> {
    if !visit.headers.contains_key(SESSION) {
        let why = "only sessions can be ended";
        return Err(Refusal::http(StatusCode::METHOD_NOT_ALLOWED, why));
    }
    find(gateway, visit)?;
    gateway.sessions.remove(one(visit.headers, SESSION).unwrap_or_default());
    Ok(StatusCode::NO_CONTENT.into_response())
}
