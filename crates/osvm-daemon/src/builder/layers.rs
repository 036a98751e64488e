//! Layers that are made once, for all packages, and made again when they are old.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use osvm_image::builder::{Part, TOOLBOX, ToolboxRequest};
use osvm_image::store::Hold;
use osvm_image::{Source, Stack, debian};
use osvm_spec::Digest;

use super::{Base, Builder, News, Work};
use crate::api::ApiError;
use crate::images::sources::{self, INSTALLS_HERE, TOOLS_HERE};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// Packages of the distribution, which servers run on.
    Runtime,
    /// The same, with what packages are built with.
    Build,
    /// Programs that the distribution has too old, or not at all.
    Toolbox(Part),
}

/// What is made of packages in a VM needs these.
pub(super) const WORKSHOP: [Layer; 4] = [
    Layer::Build,
    Layer::Toolbox(Part::Node),
    Layer::Toolbox(Part::Installers),
    Layer::Toolbox(Part::Bytecode),
];

/// Changes whenever layers that older versions have made are of no use.
const RECIPE: &str = "2";
/// The distribution mends its packages. After that long they are asked for again, and
const OLD: Duration = Duration::from_secs(30 * DAY);
/// after that long for an image that is wanted anew.
const OLD_FOR_ANEW: Duration = Duration::from_secs(DAY);
const DAY: u64 = 24 * 60 * 60;

impl Layer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Build => "build",
            Self::Toolbox(Part::Node) => "node",
            Self::Toolbox(Part::Installers) => "installers",
            Self::Toolbox(Part::Bytecode) => "bytecode",
        }
    }
}

impl Builder {
    /// What a server's own layer is put on.
    pub(super) async fn layers_below(&self, own: Part) -> Result<Vec<PathBuf>, ApiError> {
        Ok(vec![self.distribution(Layer::Runtime).await?, self.toolbox(own).await?])
    }

    /// The image in which packages are installed.
    pub(super) async fn workshop(&self) -> Result<Digest, ApiError> {
        let mut layers = Vec::new();
        for layer in WORKSHOP {
            layers.push(match layer {
                Layer::Toolbox(part) => self.toolbox(part).await?,
                distribution => self.distribution(distribution).await?,
            });
        }
        self.own_image(INSTALLS_HERE, layers).await
    }

    /// Those that are to be made before anything can be installed.
    pub(super) fn missing(&self) -> impl Iterator<Item = Layer> {
        let all = [Layer::Runtime].into_iter().chain(WORKSHOP);
        all.filter(|layer| !self.store.layer(&self.file(*layer)).exists())
    }

    async fn own_image(&self, origin: &str, layers: Vec<PathBuf>) -> Result<Digest, ApiError> {
        self.import(Source::Stack(Stack { layers, ..sources::stack(origin) })).await
    }

    /// Its name among the store's.
    fn file(&self, layer: Layer) -> String {
        self.base.name(&format!("{}{}-{RECIPE}", sources::BASE, layer.name()))
    }

    /// Files of packages of the distribution. Old ones will do where there are no newer ones to be had.
    pub(super) async fn distribution(&self, layer: Layer) -> Result<PathBuf, ApiError> {
        let hold = Arc::new(self.hold(&self.file(layer)).await?);
        let path = hold.path().to_owned();
        let old = if self.anew { OLD_FOR_ANEW } else { OLD };
        let age = hold.age();
        let outdated = self.outdated.load(Relaxed);
        if age.is_some_and(|age| age < old || outdated) {
            return Ok(path);
        }
        let made = self.times.timed(layer.name(), self.unpack_distribution(layer, hold)).await;
        match made {
            Err(error) if age.is_some() => {
                self.outdated.store(true, Relaxed);
                let message = format!("packages of the distribution stay old: {}", error.message);
                (self.say)(News::Warning(&message));
                Ok(path)
            }
            made => made.map(|()| path),
        }
    }

    async fn unpack_distribution(&self, layer: Layer, hold: Arc<Hold>) -> Result<(), ApiError> {
        let packages = match layer {
            Layer::Build => [debian::RUNTIME, debian::BUILD].concat(),
            _ => debian::RUNTIME.to_vec(),
        };
        let (say, name) = (Arc::clone(&self.say), layer.name());
        let tell = move |step: &str| say(News::Step(&format!("base image ({name}): {step}")));
        let work = hold.downloads().map_err(|error| ApiError::failed(&error))?;
        if let Base::Image(base) = &self.base {
            self.download_in(base, &packages, &work, &tell).await?;
        }
        let base = self.base.clone();
        self.blocking(move |_| {
            let mut tell = |step: &str| tell(step);
            let downloaded = base.downloaded(&packages, &work, &mut tell)?;
            let layer = work.join("layer");
            let made = debian::layer(&packages, downloaded, &work, &layer, &mut tell);
            made.map_err(|error| ApiError::failed(&error))?;
            let kept = hold.put(&layer).and_then(|()| hold.forget_downloads());
            kept.map_err(|error| ApiError::failed(&error))
        })
        .await
    }

    /// Pinned, so it stays as it is; but compiled files are of those sources only that they were made of.
    async fn toolbox(&self, part: Part) -> Result<PathBuf, ApiError> {
        let runtime = self.distribution(Layer::Runtime).await?;
        let layer = Layer::Toolbox(part);
        let hold = self.hold(&self.file(layer)).await?;
        let path = hold.path().to_owned();
        if path.exists() && !(part == Part::Bytecode && hold.is_older_than(&runtime)) {
            return Ok(path);
        }
        let image = self.own_image(TOOLS_HERE, vec![runtime]).await?;
        let (arch, registries) = (std::env::consts::ARCH, self.registries.for_scripts());
        let request = ToolboxRequest { part, arch, registries };
        let work = Work::python(image, TOOLBOX, self.registries.hosts()?);
        let made = work.run(&self.client, &request, &hold, &self.say);
        self.times.timed(layer.name(), made).await?;
        Ok(path)
    }
}
