//! Requests that get no answer of a server's.

use std::fmt;

use crate::protocol::{INTERNAL_ERROR, INVALID_REQUEST};
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// A JSON-RPC error, and the status of the HTTP response that carries it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    id: Option<Box<RawValue>>,
    error: Fault,
    /// In seconds.
    retry_after: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Fault {
    code: i64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

impl Refusal {
    /// Of what is no message yet, or of no message in particular.
    pub(super) fn http(status: StatusCode, why: impl Into<String>) -> Self {
        let code = if status.is_server_error() { INTERNAL_ERROR } else { INVALID_REQUEST };
        let error = Fault { code, message: why.into(), data: None };
        Self { status, id: None, error, retry_after: None }
    }

    pub(super) fn rpc(id: Option<&RawValue>, code: i64, why: impl Into<String>) -> Self {
        let error = Fault { code, message: why.into(), data: None };
        let status = Some(status_of(code)).filter(|status| !status.is_success());
        let status = status.unwrap_or(StatusCode::BAD_REQUEST);
        Self { status, id: id.map(ToOwned::to_owned), error, retry_after: None }
    }

    /// Of one who may try again in so many seconds.
    pub(super) fn too_many(id: Option<&RawValue>, why: String, seconds: u64) -> Self {
        let refusal = Self::http(StatusCode::TOO_MANY_REQUESTS, why);
        Self { id: id.map(ToOwned::to_owned), retry_after: Some(seconds), ..refusal }
    }

    /// As the answer to a request within a session, unless it is none.
    pub(super) fn within_session(self, id: Option<&RawValue>) -> Self {
        if self.error.code == INVALID_REQUEST {
            return self;
        }
        Self { status: StatusCode::OK, id: id.map(ToOwned::to_owned), ..self }
    }

    pub(super) fn with(mut self, data: &impl Serialize) -> Self {
        self.error.data = to_raw_value(data).ok();
        self
    }

    /// The same as an answer's text.
    pub(super) fn text(&self) -> String {
        #[derive(Serialize)]
        struct Answer<'a> {
            jsonrpc: &'static str,
            id: &'a Option<Box<RawValue>>,
            error: &'a Fault,
        }
        let answer = Answer { jsonrpc: "2.0", id: &self.id, error: &self.error };
        serde_json::to_string(&answer).expect("string keys and JSON values serialize")
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> i64 {
        self.error.code
    }
}

/// The status that a server's answer has in the modern era, by its error.
pub(super) fn status_of(code: i64) -> StatusCode {
    match code {
        -32022..=-32020 => StatusCode::BAD_REQUEST,
        -32601 => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error.message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json(self.status, self.text());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
