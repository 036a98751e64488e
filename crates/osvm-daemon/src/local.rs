//! Servers that are one program or a project of this host: how they are started. Nothing of them is run here.

use std::path::Path;

use osvm_image::local::LocalError;
pub use osvm_image::local::{Server, is_server};

use crate::api::{ApiError, ErrorKind};

/// What lies at `path`.
pub fn server(path: &Path) -> Result<Server, ApiError> {
    Server::read(path).map_err(|error| fault(&error))
}

/// Why it is of no use.
pub(crate) fn fault(error: &LocalError) -> ApiError {
    let told = ApiError::failed(error);
    let told = match error {
        LocalError::Platform { .. } => ApiError { kind: ErrorKind::Refused, ..told },
        _ => told,
    };
    match error.hint() {
        Some(hint) => told.hint(hint),
        None => told,
    }
}
