//! Indexes, manifests and configurations of images: which layers an image has, and how it is started.
//! Described in the OCI image specification; Docker's own forms have the same keys.
//!
//! Only the few keys that are used are read, by structures of our own: a crate with all of them
//! brings more code than this.

use std::io::Read;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::{Limits, OciError, layer};
use crate::Digest;
use crate::config::Config;

/// What is known of an image before its layers are read.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Of the manifest's own bytes, where the image has one.
    pub(super) digest: Option<Digest>,
    pub(super) architecture: Option<String>,
    pub(super) config: Config,
    pub(super) layers: Vec<Blob>,
}

/// A layer as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    /// Of its file, or its digest.
    pub(super) name: String,
    /// Digest and size.
    pub(super) expected: Option<(Digest, u64)>,
    /// Digest when it is decompressed.
    pub(super) diff_id: Option<Digest>,
}

/// Where the parts of an image are.
pub(super) trait Blobs {
    /// A manifest, an index or a configuration; its digest is not yet checked.
    fn document(&mut self, of: &Descriptor) -> Result<Box<dyn Read + '_>, OciError>;

    fn layer(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, OciError>;

    /// A layer turned out to be another than was asked for.
    fn forget(&mut self, _: &Blob) {}
}

/// Names a part of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Platform {
    os: String,
    architecture: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    name: Option<String>,
}

/// An index or a manifest.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    os: String,
    architecture: String,
    config: Option<Config>,
    rootfs: Rootfs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rootfs {
    diff_ids: Vec<Digest>,
}

/// Of an index, a manifest or a configuration: registries take no larger manifest.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;
/// Indexes in indexes.
const MAX_DEPTH: usize = 4;

/// What is wanted of what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) architecture: &'a str,
    /// One of several images of a layout or an archive.
    pub(super) name: Option<&'a str>,
    pub(super) limits: &'a Limits,
}

impl Manifest {
    /// Goes from an index or a manifest to the image for the wanted architecture. `of` is what the
    /// document itself is named by, if it is named.
    pub(super) fn resolve(
        blobs: &mut dyn Blobs,
        document: Document,
        of: Option<Descriptor>,
        wanted: Wanted<'_>,
    ) -> Result<Self, OciError> {
        let (mut document, mut of) = (document, of);
        for _ in 0..MAX_DEPTH {
            let Some(manifests) = document.manifests.take() else {
                return Self::of(blobs, document, of, wanted);
            };
            let next = choose(manifests, wanted)?;
            document = read(blobs, &next)?;
            of = Some(next);
        }
        Err(form("the index", "it holds indexes of indexes"))
    }

    fn of(
        blobs: &mut dyn Blobs,
        document: Document,
        of: Option<Descriptor>,
        wanted: Wanted<'_>,
    ) -> Result<Self, OciError> {
        let digest = of.map(|of| of.digest);
        let what = || digest.as_ref().map_or("the manifest".to_owned(), Digest::to_string);
        let Some((config, layers)) = document.config.zip(document.layers) else {
            return Err(form(what(), "it is neither an index nor a manifest"));
        };
        let layers = layers.into_iter().map(Blob::of).collect();
        let bytes = bytes(blobs, &config)?;
        Self::with(&config.digest.to_string(), &bytes, layers, wanted)
            .map(|manifest| Self { digest, ..manifest })
    }

    /// The image with this configuration.
    pub(super) fn with(
        name: &str,
        configuration: &[u8],
        mut layers: Vec<Blob>,
        wanted: Wanted<'_>,
    ) -> Result<Self, OciError> {
        let read: Configuration = parse(name, configuration)?;
        let Configuration { os, architecture, config, rootfs } = read;
        let is = |found: &str, wanted: &str| found.is_empty() || found == wanted;
        if !is(&os, "linux") || !is(&architecture, wanted.architecture) {
            let found = vec![format!("{os}/{architecture}")];
            return Err(OciError::Platform { asked: wanted.architecture.to_owned(), found });
        }
        if rootfs.diff_ids.len() != layers.len() {
            return Err(form(name, "it has another number of layers than the manifest"));
        }
        wanted.limits.hold(layers.len() as u64, wanted.limits.layers, "layers")?;
        for (layer, diff_id) in layers.iter_mut().zip(rootfs.diff_ids) {
            layer.diff_id = Some(diff_id);
        }
        let architecture = Some(architecture).filter(|name| !name.is_empty());
        Ok(Self { digest: None, architecture, config: config.unwrap_or_default(), layers })
    }

    /// Bytes of all layers as they are stored.
    pub(super) fn size(&self) -> u64 {
        let sizes = self.layers.iter().filter_map(|layer| layer.expected.as_ref());
        sizes.fold(0, |sum: u64, (_, size)| sum.saturating_add(*size))
    }
}

impl Blob {
    fn of(descriptor: Descriptor) -> Self {
        let Descriptor { digest, size, .. } = descriptor;
        Self { name: digest.to_string(), expected: Some((digest, size)), diff_id: None }
    }

    /// Without anything to hold it to.
    pub(super) fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), expected: None, diff_id: None }
    }

    pub(super) fn check(&self, found: Digest, size: u64) -> Result<(), OciError> {
        let Some((asked, asked_size)) = &self.expected else { return Ok(()) };
        check(&self.name, (asked, *asked_size), (found, size))
    }

    /// Of what it holds, decompressed.
    pub(super) fn check_plain(&self, found: Digest) -> Result<(), OciError> {
        match &self.diff_id {
            Some(asked) if *asked != found => {
                let what = format!("{}, decompressed", self.name);
                Err(OciError::Digest { what, asked: asked.clone(), found })
            }
            _ => Ok(()),
        }
    }
}

/// Sizes first: what was cut short is told as such.
fn check(
    name: &str,
    (asked, asked_size): (&Digest, u64),
    (found, size): (Digest, u64),
) -> Result<(), OciError> {
    let what = name.to_owned();
    if size != asked_size {
        return Err(OciError::Size { what, asked: asked_size, found: size });
    }
    if found != *asked {
        return Err(OciError::Digest { what, asked: asked.clone(), found });
    }
    Ok(())
}

impl Document {
    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self, OciError> {
        let document: Self = parse(what, bytes)?;
        // What is one thing to us must be no other to those who signed it (CVE-2021-41190).
        if document.manifests.is_some() && (document.layers.is_some() || document.config.is_some())
        {
            return Err(form(what, "it is an index and a manifest"));
        }
        Ok(document)
    }
}

/// The image with the wanted name, for the wanted platform.
fn choose(mut manifests: Vec<Descriptor>, wanted: Wanted<'_>) -> Result<Descriptor, OciError> {
    let names: Vec<_> = manifests.iter().filter_map(Descriptor::name).map(str::to_owned).collect();
    if let Some(asked) = wanted.name.filter(|_| !names.is_empty()) {
        manifests.retain(|manifest| manifest.name() == Some(asked));
        if manifests.is_empty() {
            return Err(OciError::Unnamed { asked: asked.to_owned(), found: names });
        }
    }
    let found = manifests.iter().map(Descriptor::shown).collect();
    manifests.retain(|manifest| manifest.is_for(wanted.architecture));
    // What says that it is for the platform comes before what does not say for which it is.
    if manifests.iter().any(|manifest| manifest.platform.is_some()) {
        manifests.retain(|manifest| manifest.platform.is_some());
    }
    let asked = wanted.architecture.to_owned();
    let first = manifests.first().ok_or(OciError::Platform { asked, found })?.clone();
    let is_one = manifests.iter().all(|other| other.digest == first.digest);
    // Variants of one platform come with the best first; names are chosen by whoever asks.
    if is_one
        || manifests.iter().all(|other| other.name() == first.name()) && first.platform.is_some()
    {
        return Ok(first);
    }
    Err(OciError::Several(names))
}

impl Descriptor {
    /// Of a document that was asked for by its digest, to which it is held.
    pub(super) fn of(digest: &Digest, bytes: &[u8]) -> Result<Self, OciError> {
        let size = bytes.len() as u64;
        let found = layer::digest(Sha256::new_with_prefix(bytes));
        check(&digest.to_string(), (digest, size), (found, size))?;
        let digest = digest.clone();
        Ok(Self { media_type: String::new(), digest, size, platform: None, annotations: None })
    }

    /// Registries have manifests and all other parts in two places.
    pub(super) fn is_manifest(&self) -> bool {
        ["manifest", "index"].iter().any(|kind| self.media_type.contains(kind))
    }

    fn name(&self) -> Option<&str> {
        self.annotations.as_ref()?.name.as_deref()
    }

    fn is_for(&self, architecture: &str) -> bool {
        let is = |at: &Platform| at.os == "linux" && at.architecture == architecture;
        self.platform.as_ref().is_none_or(is)
    }

    fn shown(&self) -> String {
        let platform = self.platform.as_ref();
        platform
            .map_or_else(|| self.digest.to_string(), |at| format!("{}/{}", at.os, at.architecture))
    }
}

fn read(blobs: &mut dyn Blobs, of: &Descriptor) -> Result<Document, OciError> {
    Document::parse(&of.digest.to_string(), &bytes(blobs, of)?)
}

/// A document, held to its digest.
fn bytes(blobs: &mut dyn Blobs, of: &Descriptor) -> Result<Vec<u8>, OciError> {
    let name = of.digest.to_string();
    let bytes = bounded(&name, blobs.document(of)?)?;
    let found = layer::digest(Sha256::new_with_prefix(&bytes));
    check(&name, (&of.digest, of.size), (found, bytes.len() as u64))?;
    Ok(bytes)
}

/// All of a document.
pub(super) fn bounded(what: &str, from: impl Read) -> Result<Vec<u8>, OciError> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
    read.map_err(|source| OciError::Blob { what: what.to_owned(), source })?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(form(what, "it has over 4 MiB"));
    }
    Ok(bytes)
}

pub(super) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, OciError> {
    serde_json::from_slice(bytes).map_err(|source| OciError::Json { what: what.to_owned(), source })
}

pub(super) fn form(what: impl Into<String>, why: &'static str) -> OciError {
    OciError::Form { what: what.into(), why }
}
