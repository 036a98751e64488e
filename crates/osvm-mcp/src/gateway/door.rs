//! Who is let in, and what is said at the door: before a request is looked at, and around its answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;

use super::access::Denied;
use super::refusal::Refusal;
use super::sender::Sender;
use super::{Shared, headers, oauth};

pub(super) async fn admit(State(gateway): Shared, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    if let Err(denied) = gateway.access.place(headers) {
        return Refusal::http(denied.status, denied.why).into_response();
    }
    let origin = headers.get(header::ORIGIN).cloned();
    let path = request.uri().path();
    let mut response = if request.method() == Method::OPTIONS {
        // A page's browser asks first, and can't show the token with that.
        StatusCode::NO_CONTENT.into_response()
    } else if oauth::is_open(path) {
        next.run(request).await
    } else {
        match gateway.access.sender(headers, oauth::server_of(path)).await {
            Ok(sender) => {
                let sender = Arc::new(sender);
                request.extensions_mut().insert(Arc::clone(&sender));
                until_expired(next.run(request).await, &sender)
            }
            Err(denied) => refused(denied),
        }
    };
    if let Some(origin) = origin {
        admit_page(&mut response, origin);
    }
    response
}

fn refused(denied: Denied) -> Response {
    let mut response = Refusal::http(denied.status, denied.why).into_response();
    let challenge = denied.challenge.and_then(|text| HeaderValue::try_from(text).ok());
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// A stream ends with the token that it was asked for by. In the modern era what it waits for ends with it; a session's
/// call goes on.
fn until_expired(response: Response, sender: &Sender) -> Response {
    let events = HeaderValue::from_static(headers::EVENTS);
    match sender.left() {
        Some(left) if response.headers().get(header::CONTENT_TYPE) == Some(&events) => {
            let over = Box::pin(tokio::time::sleep(left));
            response.map(|body| Body::from_stream(body.into_data_stream().take_until(over)))
        }
        _ => response,
    }
}

/// Tells the browser of a page that the page may read this.
fn admit_page(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, headers::OF_CLIENTS),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, headers::OF_ANSWERS),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
