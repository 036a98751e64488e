//! What `docker save` writes: `manifest.json` says which configuration and layers an image has. Layers
//! have no digests there but those of their decompressed bytes.

use serde::Deserialize;

use super::OciError;
use super::archive::Archive;
use super::manifest::{Blob, Manifest, Wanted, parse};

pub(super) const MANIFEST: &str = "manifest.json";

/// An image of the archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Nothing when the file is another's that has the same name.
pub(super) fn manifest(
    archive: &Archive,
    wanted: Wanted<'_>,
) -> Result<Option<Manifest>, OciError> {
    let Ok(saved) = parse::<Vec<Saved>>(MANIFEST, &archive.read(MANIFEST)?) else {
        return Ok(None);
    };
    let Saved { config, layers, .. } = choose(saved, wanted)?;
    let layers = layers.into_iter().map(Blob::named).collect();
    Manifest::with(&config, &archive.read(&config)?, layers, wanted).map(Some)
}

fn choose(mut saved: Vec<Saved>, wanted: Wanted<'_>) -> Result<Saved, OciError> {
    let names: Vec<_> =
        saved.iter().filter_map(|saved| saved.repo_tags.clone()).flatten().collect();
    if let Some(asked) = wanted.name {
        let is = |saved: &Saved| saved.repo_tags.iter().flatten().any(|name| name == asked);
        saved.retain(is);
    }
    match (saved.pop(), saved.is_empty(), wanted.name) {
        (Some(saved), true, _) => Ok(saved),
        (None, _, Some(asked)) => Err(OciError::Unnamed { asked: asked.to_owned(), found: names }),
        (None, _, None) => Err(OciError::Missing("an image".to_owned())),
        (Some(_), false, _) => Err(OciError::Several(names)),
    }
}
