//! MCPB bundles: what their manifests ask for, read on this host. Nothing of them is run here.

use std::fs::File;
use std::path::Path;

use osvm_image::mcpb::{Bundle, BundleError, Limits, ManifestError};

use crate::api::{ApiError, ErrorKind};
pub use osvm_image::mcpb::{
    GUEST, Kind, Manifest, Secret, Setting, SettingKind, Start, StartError, is_bundle,
};

/// What the bundle at `path` says of itself.
pub fn manifest(path: &Path) -> Result<Manifest, ApiError> {
    Ok(open(path)?.manifest().clone())
}

pub(crate) fn open(path: &Path) -> Result<Bundle<File>, ApiError> {
    let bundle = File::open(path).map_err(BundleError::Read);
    let bundle = bundle.and_then(|file| Bundle::open(file, &Limits::default()));
    bundle.map_err(|error| fault(path, &error))
}

/// Why the file at `path` is of no use.
pub(crate) fn fault(path: &Path, error: &BundleError) -> ApiError {
    let told = ApiError::failed(error);
    let shown = path.display();
    let told = ApiError { message: format!("{shown}: {}", told.message), ..told };
    match error {
        BundleError::Manifest(ManifestError::Platform { .. }) => {
            ApiError { kind: ErrorKind::Refused, ..told }
        }
        BundleError::Manifest(_) => told.hint(format!("unzip -p {shown} manifest.json")),
        BundleError::Read(_) | BundleError::Write { .. } => told,
        _ => told.hint(format!("unzip -l {shown}")),
    }
}
