//! Images of bundles, and of programs and projects of this host: their files over what their kind needs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use osvm_image::builder::{BUNDLE, BundleRequest, MAX_BUNDLE, Project};
use osvm_image::local::PROJECT;
use osvm_image::store::Hold;
use osvm_image::{Bundled, Config, Source, Stack};
use osvm_spec::Digest;

use super::{Builder, Layer, Part, SCRIPT_SECONDS, Work};
use crate::api::{ApiError, ErrorKind};
use crate::bundles::{self, GUEST, Kind, Manifest};
use crate::local;

/// By these uv runs a project as it is, and looks for nothing on a network.
const OF_UV: [&str; 3] = ["UV_NO_SYNC=1", "UV_OFFLINE=1", "UV_PYTHON_DOWNLOADS=never"];

/// What was put into a layer.
struct Unpacked {
    /// What people call it, if it has a name beside its path: a bundle has.
    label: Option<String>,
    kind: Kind,
    config: Config,
}

impl Builder {
    /// The image of the bundle, the program or the project at `path`. One that is there already will do while the file
    /// looks as it did then.
    pub async fn bundle(&self, path: &Path) -> Result<Digest, ApiError> {
        let bundled = Bundled::at(path).map_err(|error| ApiError::failed(&error))?;
        let source = Source::Bundle(bundled.clone());
        let before = self.store.current(&source);
        let hold = self.hold(&format!("bundle-{}", source.key())).await?;
        // Whoever held it meanwhile may have built it.
        if let Some(digest) = self.store.current(&source)
            && (!self.anew || before.as_ref() != Some(&digest))
        {
            return Ok(digest);
        }
        let needs = self.hold(&format!("bundle-needs-{}", source.key())).await?;
        let held = Arc::new(hold);
        let made = self.make(bundled, &held, &needs).await;
        // Of no more use, whatever came of it. What was not made can't be removed.
        let _ = (held.remove(), needs.remove());
        made
    }

    async fn make(
        &self,
        mut bundled: Bundled,
        files: &Arc<Hold>,
        needs: &Hold,
    ) -> Result<Digest, ApiError> {
        let unpacked = self.unpack(&bundled.path, Arc::clone(files)).await?;
        let mut layers = self.layers_below_bundle(unpacked.kind).await?;
        layers.push(files.path().to_owned());
        let origin = bundled.path.display().to_string();
        let origin = match &unpacked.label {
            Some(label) => format!("{origin} ({label})"),
            None => origin,
        };
        if unpacked.kind == Kind::Uv {
            let project = match &unpacked.label {
                Some(package) => Project { package, folder: GUEST.bundle, started_by_uv: true },
                None => Project { package: &origin, folder: PROJECT, started_by_uv: false },
            };
            self.install_needs(project, files.path(), needs).await?;
            layers.push(needs.path().to_owned());
        }
        self.tell("writing the disk");
        bundled.stack = Stack { origin, layers, config: unpacked.config };
        self.import(Source::Bundle(bundled)).await
    }

    /// Makes the layer of its files.
    async fn unpack(&self, path: &Path, hold: Arc<Hold>) -> Result<Unpacked, ApiError> {
        self.tell("reading its files");
        let path = path.to_owned();
        self.blocking(move |_| match bundles::is_bundle(&path) {
            true => unpack_bundle(&path, &hold),
            false => pack(&path, &hold),
        })
        .await
    }

    async fn layers_below_bundle(&self, kind: Kind) -> Result<Vec<PathBuf>, ApiError> {
        match kind {
            Kind::Node => self.layers_below(Part::Node).await,
            Kind::Python | Kind::Uv => self.layers_below(Part::Bytecode).await,
            Kind::Binary => Ok(vec![self.distribution(Layer::Runtime).await?]),
        }
    }

    /// Makes the layer of what a project depends on.
    async fn install_needs(
        &self,
        project: Project<'_>,
        files: &Path,
        hold: &Hold,
    ) -> Result<(), ApiError> {
        self.expect("uv");
        let label = project.package;
        let (image, layer) = (self.workshop().await?, read(label, files)?);
        self.tell(&format!("installing what {label} needs"));
        let registries = self.registries.for_scripts();
        let request = BundleRequest::new(project, &layer, registries, SCRIPT_SECONDS);
        let work = Work::python(image, BUNDLE, self.registries.hosts()?);
        self.times.timed("uv", work.run(&self.client, &request, hold, &self.say)).await
    }
}

fn unpack_bundle(path: &Path, hold: &Hold) -> Result<Unpacked, ApiError> {
    let mut bundle = bundles::open(path)?;
    let work = hold.downloads().map_err(|error| ApiError::failed(&error))?;
    let mut draft = hold.draft().map_err(|error| ApiError::failed(&error))?;
    let written = bundle.write_layer(&work, draft.file());
    written.map_err(|error| bundles::fault(path, &error))?;
    draft.finish().map_err(|error| ApiError::failed(&error))?;
    hold.forget_downloads().map_err(|error| ApiError::failed(&error))?;
    let manifest = bundle.manifest();
    let (kind, config) = (manifest.kind, config(manifest));
    Ok(Unpacked { label: Some(manifest.label()), kind, config })
}

/// The same of a program or a project.
fn pack(path: &Path, hold: &Hold) -> Result<Unpacked, ApiError> {
    let server = local::server(path)?;
    let mut draft = hold.draft().map_err(|error| ApiError::failed(&error))?;
    server.write_layer(draft.file()).map_err(|error| local::fault(&error))?;
    draft.finish().map_err(|error| ApiError::failed(&error))?;
    let folder = server.working_dir();
    let config = Config::new(server.command, Vec::new());
    let config = match folder {
        Some(folder) => config.within(folder),
        None => config,
    };
    Ok(Unpacked { label: None, kind: server.kind, config })
}

/// A layer that is sent into a VM.
fn read(label: &str, layer: &Path) -> Result<Vec<u8>, ApiError> {
    let size = File::open(layer).and_then(|file| file.metadata());
    let size = size.map_err(|error| ApiError::failed(&error))?.len();
    if size > MAX_BUNDLE {
        let limit = MAX_BUNDLE >> 20;
        let message =
            format!("{label} has over {limit} MiB, the most for what uv installs packages for");
        return Err(ApiError::new(ErrorKind::Failed, message));
    }
    std::fs::read(layer).map_err(|error| ApiError::failed(&error))
}

/// How the image's server is started: as the manifest says, where that needs nothing of a user.
fn config(manifest: &Manifest) -> Config {
    let start = manifest.start(&GUEST, &BTreeMap::new()).ok();
    let start = start.filter(|start| !start.secrets.iter().any(|secret| secret.required));
    let (command, env) = start.map(|start| (start.command, start.env)).unwrap_or_default();
    let env = env.into_iter().map(|(name, value)| format!("{name}={value}"));
    let of_uv = OF_UV.iter().filter(|_| manifest.kind == Kind::Uv).map(|&pair| pair.to_owned());
    Config::new(command, env.chain(of_uv).collect()).within(GUEST.bundle)
}
