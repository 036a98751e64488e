//! HTTP responses that carry a server's messages: one as JSON, several as a stream of events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use futures::stream::{Stream, StreamExt, once, select_all, unfold};
use tokio::time::timeout;

use super::outlet::{Event, Outlet, Reader};
use super::refusal::{Refusal, json};

/// How long a response waits whether the answer comes alone.
const ALONE_WITHIN: Duration = Duration::from_secs(5);
/// A comment goes this often, so that nobody on the way takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream holds on to for as long as it is read.
pub(super) type Held = Box<dyn Send>;

/// What is left of a request once its message has been handed on: the body need not be kept for it.
pub(super) type Rest<'g> = BoxFuture<'g, Response>;

/// Of one for which nobody is waited.
pub(super) fn at_once<'g>(response: impl IntoResponse) -> Rest<'g> {
    ready(response.into_response()).boxed()
}

/// How a request is answered.
pub(super) enum Answer {
    /// By a message that nothing came before.
    Alone(Arc<str>),
    /// By a stream that ends with its answer.
    Stream(Response),
    /// Not at all: its client has cancelled it.
    None,
}

impl Answer {
    pub(super) async fn of(outlet: &Arc<Outlet>, held: Held) -> Self {
        let mut reader = outlet.read();
        match timeout(ALONE_WITHIN, reader.next()).await {
            Ok(Some(event)) if event.is_answer => Self::Alone(event.text),
            Ok(Some(event)) => Self::Stream(stream(Some(event), reader, held)),
            Ok(None) => Self::None,
            Err(_) => Self::Stream(stream(None, reader, held)),
        }
    }

    /// With that status, where it is not known before all of it is there.
    pub(super) fn with(self, status: impl FnOnce(&str) -> StatusCode) -> Response {
        match self {
            Self::Alone(text) => json(status(&text), text.to_string()),
            Self::Stream(response) => response,
            Self::None => {
                Refusal::http(StatusCode::OK, "the request was cancelled").into_response()
            }
        }
    }
}

/// Events until there will be no more.
pub(super) fn stream(first: Option<Event>, reader: Reader, held: Held) -> Response {
    of_events(events(first, reader, held))
}

/// Of several requests, in the order in which their events come.
pub(super) fn together(outlets: &[Arc<Outlet>], held: Held) -> Response {
    let streams = outlets.iter().map(|outlet| Box::pin(events(None, outlet.read(), ())));
    let end = once(async move {
        drop(held);
        Ok(Bytes::new())
    });
    of_events(select_all(streams).chain(end))
}

type Written = Result<Bytes, Infallible>;

fn events<H: Send>(
    first: Option<Event>,
    reader: Reader,
    held: H,
) -> impl Stream<Item = Written> + Send {
    unfold((first, reader, held), async |(first, mut reader, held)| {
        let next = match first {
            Some(first) => Ok(Some(first)),
            None => timeout(KEEP_ALIVE, reader.next()).await,
        };
        let bytes = match next {
            Ok(event) => written(reader.stream(), &event?),
            Err(_) => Bytes::from_static(b": \n\n"),
        };
        Some((Ok(bytes), (None, reader, held)))
    })
}

fn of_events(events: impl Stream<Item = Written> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn written(stream: u64, event: &Event) -> Bytes {
    format!("id: {stream}-{}\ndata: {}\n\n", event.number, event.text).into()
}

/// Stream and event that an event's id names.
pub(super) fn place(id: &str) -> Option<(u64, u64)> {
    let (stream, number) = id.split_once('-')?;
    Some((stream.parse().ok()?, number.parse().ok()?))
}
