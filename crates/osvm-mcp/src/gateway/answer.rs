//! HTTP responses that carry a server's messages: one as JSON, several as a stream of events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{Stream, StreamExt, once, select_all, unfold};
use tokio::time::timeout;

use super::outlet::{Event, Outlet};
use super::refusal::{Refusal, json};

/// How long a response waits whether the answer comes alone.
const ALONE_WITHIN: Duration = Duration::from_secs(5);
/// A comment goes this often, so that nobody on the way takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream holds on to for as long as it is read.
pub(super) type Held = Box<dyn Send>;

/// The answer alone where nothing comes before it, and otherwise a stream that ends with it.
pub(super) async fn of(
    outlet: Arc<Outlet>,
    held: Held,
    status: impl Fn(&str) -> StatusCode,
) -> Response {
    match timeout(ALONE_WITHIN, outlet.after(0)).await {
        Ok(Some(event)) if event.is_answer => json(status(&event.text), event.text.to_string()),
        Ok(None) => {
            Refusal::http(StatusCode::BAD_GATEWAY, "the server gave no answer").into_response()
        }
        _ => stream(outlet, 0, held),
    }
}

/// Events from after `seen` on, until there will be no more.
pub(super) fn stream(outlet: Arc<Outlet>, seen: u64, held: Held) -> Response {
    of_events(events(outlet, seen, held))
}

type Written = Result<Bytes, Infallible>;

fn events<H: Send>(outlet: Arc<Outlet>, seen: u64, held: H) -> impl Stream<Item = Written> + Send {
    unfold((outlet, seen, held), async |(outlet, seen, held)| {
        let (bytes, seen) = match timeout(KEEP_ALIVE, outlet.after(seen)).await {
            Ok(None) => return None,
            Ok(Some(event)) => (written(&outlet, &event), event.number),
            Err(_) => (Bytes::from_static(b": \n\n"), seen),
        };
        Some((Ok(bytes), (outlet, seen, held)))
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

/// Of several requests, in the order in which their events come.
pub(super) fn together(outlets: Vec<Arc<Outlet>>, held: Held) -> Response {
    let streams = outlets.into_iter().map(|outlet| Box::pin(events(outlet, 0, ())));
    let events = select_all(streams).chain(once(async move {
        drop(held);
        Ok(Bytes::new())
    }));
    of_events(events)
}

fn written(outlet: &Outlet, event: &Event) -> Bytes {
    let (stream, number, text) = (outlet.number, event.number, &event.text);
    format!("id: {stream}-{number}\ndata: {text}\n\n").into()
}

/// Stream and event that an event's id names.
pub(super) fn place(id: &str) -> Option<(u64, u64)> {
    let (stream, number) = id.split_once('-')?;
    Some((stream.parse().ok()?, number.parse().ok()?))
}
