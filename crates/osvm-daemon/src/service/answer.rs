//! Answers and refusals: JSON bodies, and the status and kind that go with each failure.

use std::error::Error;

use axum::Json;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use osvm_fleet::drivers;
use osvm_fleet::state::{Cause, CauseKind};
use osvm_mcp::McpError;
use osvm_spec::ServerName;

use crate::api::{ApiError, ErrorKind};

pub(super) type Answer<T> = Result<Json<T>, ApiError>;

pub(super) fn json<T>(body: T) -> Answer<T> {
    Ok(Json(body))
}

pub(super) async fn no_such_path(uri: Uri) -> ApiError {
    let message = format!("the daemon has no {}", uri.path());
    ApiError::new(ErrorKind::NoSuch, message)
        .hint("osvm --version   # client and daemon may differ")
}

pub(super) fn no_vm(name: &ServerName) -> ApiError {
    ApiError::new(ErrorKind::NoSuch, format!("server {name} has no VM"))
        .hint("osvm mcp microvm status")
        .hint(format!("osvm mcp microvm launch {name}"))
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// Something failed, with everything that led to it.
    pub(crate) fn failed(error: &(dyn Error + 'static)) -> Self {
        Self::new(ErrorKind::Failed, format!("failed to {}", drivers::chain(error)))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match self.kind {
            ErrorKind::Failed | ErrorKind::ToolError => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Usage => StatusCode::BAD_REQUEST,
            ErrorKind::NoSuch => StatusCode::NOT_FOUND,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Refused => StatusCode::FORBIDDEN,
            ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        };
        (status, Json(self)).into_response()
    }
}

impl From<Cause> for ApiError {
    fn from(cause: Cause) -> Self {
        let kind = match cause.kind {
            CauseKind::Machine => ErrorKind::Unavailable,
            CauseKind::Request | CauseKind::Server | CauseKind::Conflict | CauseKind::Cancelled => {
                ErrorKind::Failed
            }
            CauseKind::Refused => ErrorKind::Refused,
            CauseKind::Deadline => ErrorKind::TimedOut,
        };
        Self { kind, message: cause.message, hints: cause.hints }
    }
}

impl From<McpError> for ApiError {
    fn from(error: McpError) -> Self {
        let kind = match error {
            McpError::Timeout { .. } => ErrorKind::TimedOut,
            McpError::NoSuchTool { .. } => ErrorKind::NoSuch,
            McpError::Arguments(_) => ErrorKind::ToolError,
            _ => ErrorKind::Failed,
        };
        let failed = Self::new(kind, error.to_string());
        match error {
            McpError::Timeout { .. } => failed.hint("--timeout with more seconds"),
            McpError::NoSuchTool { nearest: Some(name), .. } => {
                failed.hint(format!("did you mean {name}?"))
            }
            _ => failed,
        }
    }
}
