//! Images of packages and bundles. They are installed in microVMs: what strangers' install scripts do, they do
//! there.
//!
//! ```text
//! base image ──────── apt, in a VM ──> distribution's packages (or by the host's own apt)
//! distribution's packages ── unpacked, not run ──> runtime layer, build layer
//! runtime ─────────────────────────────── VM ────> node layer, installers layer
//! build + node + installers ───────────── VM ────> package layer
//! runtime + node + package ──────────────────────> image
//! runtime + node + bundle ── unpacked, not run ──> image
//! runtime + node + project ─ packed, not run ────> image
//! ```
//!
//! All but the last four are made once, for all packages. A program of this host is packed as a project is. A bundle
//! whose dependencies uv installs has a layer more, made in a VM as a package's is.

mod base;
mod bundle;
mod registries;
mod work;

use std::path::PathBuf;
use std::sync::Arc;

use osvm_image::builder::{INSTALL, InstallRequest, Installed, Part, TOOLBOX, ToolboxRequest};
use osvm_image::store::Hold;
use osvm_image::{Config, Progress, Source, Stack, Store, debian};
use osvm_spec::Digest;
use osvm_spec::packages::{Ecosystem, Install};

use crate::Home;
use crate::api::ApiError;
use crate::client::Client;
use crate::images::ImagesError;
use crate::images::sources::{self, INSTALLS_HERE, TOOLS_HERE};
pub use base::{Base, BaseImage};
pub use registries::{Files, Registries, Variables};
use work::Work;

/// Hears what is being done, for people.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Makes images of packages, with the daemon's VMs.
pub struct Builder {
    client: Client,
    store: Store,
    registries: Registries,
    base: Base,
    say: Say,
}

/// Changes whenever layers that older versions have made are of no use.
const RECIPE: &str = "1";
/// How long packages' own scripts and builds may take.
const SCRIPT_SECONDS: u32 = 45 * 60;

impl Builder {
    pub fn new(
        home: &Home,
        client: Client,
        registries: Registries,
        base: Base,
        say: Say,
    ) -> Result<Self, ApiError> {
        let store = Store::open(&home.images()).map_err(|error| ApiError::failed(&error))?;
        Ok(Self { client, store, registries, base, say })
    }

    /// The package's image. One that is there already will do, unless it is wanted `anew`.
    pub async fn build(&self, install: &Install, anew: bool) -> Result<Digest, ApiError> {
        let source = Source::Stack(sources::package(install));
        let before = self.store.last(&source);
        let hold = self.hold(&format!("package-{}", source.key())).await?;
        // Whoever held it meanwhile may have built it.
        if let Some(digest) = self.store.last(&source)
            && (!anew || before.as_ref() != Some(&digest))
            && self.store.inspect(&digest).is_ok()
        {
            return Ok(digest);
        }
        let installed = self.install(install, &hold).await?;
        (self.say)("writing the disk");
        let own = match install.ecosystem {
            Ecosystem::Npm => Part::Node,
            Ecosystem::PyPi => Part::Bytecode,
        };
        let layers = self.layers_below(own).await?;
        let layers = layers.into_iter().chain([hold.path().to_owned()]).collect();
        let env = installed.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let packages = installed.pins(install.ecosystem);
        let config = Config::new(installed.entrypoint, env).with_packages(packages);
        let stack = Stack { layers, config, ..sources::package(install) };
        let digest = self.import(Source::Stack(stack)).await?;
        hold.remove().map_err(|error| ApiError::failed(&error))?;
        Ok(digest)
    }

    /// What a server's own layer is put on.
    async fn layers_below(&self, own: Part) -> Result<Vec<PathBuf>, ApiError> {
        let runtime = self.distribution("runtime", debian::RUNTIME.to_vec()).await?;
        Ok(vec![runtime, self.toolbox(own).await?])
    }

    /// Installs it into the layer that is held.
    async fn install(&self, install: &Install, hold: &Hold) -> Result<Installed, ApiError> {
        let image = self.workshop().await?;
        (self.say)(&format!("installing {install}"));
        let registries = self.registries.for_scripts();
        let request = InstallRequest::new(install, registries, SCRIPT_SECONDS);
        let request = match self.registries.npmrc() {
            Some(npmrc) => request.with_npmrc(npmrc),
            None => request,
        };
        let work = Work::python(image, INSTALL, self.registries.hosts()?);
        work.run(&self.client, &request, hold, &self.say).await?;
        Installed::of(hold.path()).map_err(|error| ApiError::failed(&error))
    }

    /// The image in which packages are installed.
    async fn workshop(&self) -> Result<Digest, ApiError> {
        let layers = vec![
            self.distribution("build", [debian::RUNTIME, debian::BUILD].concat()).await?,
            self.toolbox(Part::Node).await?,
            self.toolbox(Part::Installers).await?,
            self.toolbox(Part::Bytecode).await?,
        ];
        self.own_image(INSTALLS_HERE, layers).await
    }

    async fn own_image(&self, origin: &str, layers: Vec<PathBuf>) -> Result<Digest, ApiError> {
        self.import(Source::Stack(Stack { layers, ..sources::stack(origin) })).await
    }

    /// Files of packages of the distribution.
    async fn distribution(
        &self,
        what: &str,
        packages: Vec<&'static str>,
    ) -> Result<PathBuf, ApiError> {
        let hold = self.hold(&self.base.name(&format!("debian-{what}-{RECIPE}"))).await?;
        let path = hold.path().to_owned();
        if path.exists() {
            return Ok(path);
        }
        let (say, what) = (Arc::clone(&self.say), what.to_owned());
        let say: Say = Arc::new(move |step: &str| say(&format!("base image ({what}): {step}")));
        let work = hold.downloads().map_err(|error| ApiError::failed(&error))?;
        if let Base::Image(base) = &self.base {
            self.download_in(base, &packages, &work, &say).await?;
        }
        let base = self.base.clone();
        self.blocking(move |_| {
            let mut say = |step: &str| say(step);
            let downloaded = base.downloaded(&packages, &work, &mut say)?;
            let made = debian::layer(&packages, downloaded, &work, hold.path(), &mut say);
            made.map_err(|error| ApiError::failed(&error))?;
            hold.forget_downloads().map_err(|error| ApiError::failed(&error))
        })
        .await?;
        Ok(path)
    }

    /// Programs that the distribution has too old, or not at all.
    async fn toolbox(&self, part: Part) -> Result<PathBuf, ApiError> {
        let hold = self.hold(&self.base.name(&format!("toolbox-{}-{RECIPE}", name(part)))).await?;
        let path = hold.path().to_owned();
        if !path.exists() {
            let runtime = self.distribution("runtime", debian::RUNTIME.to_vec()).await?;
            let image = self.own_image(TOOLS_HERE, vec![runtime]).await?;
            let (arch, registries) = (std::env::consts::ARCH, self.registries.for_scripts());
            let request = ToolboxRequest { part, arch, registries };
            let work = Work::python(image, TOOLBOX, self.registries.hosts()?);
            work.run(&self.client, &request, &hold, &self.say).await?;
        }
        Ok(path)
    }

    async fn import(&self, source: Source) -> Result<Digest, ApiError> {
        let say = Arc::clone(&self.say);
        let mut tell = move |step| {
            if step == Progress::Waiting {
                say("waiting for another build of it");
            }
        };
        let mut imported = move |store: &Store| store.import(&source, &mut tell);
        self.blocking(move |store| Ok(imported(store).map_err(ImagesError::Import)?.digest)).await
    }

    async fn hold(&self, name: &str) -> Result<Hold, ApiError> {
        let (name, say) = (name.to_owned(), Arc::clone(&self.say));
        let waiting = move || say("waiting for another build");
        self.blocking(move |store| {
            store.hold(&name, waiting).map_err(|error| ApiError::failed(&error))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|error| Err(ApiError::failed(&error)))
    }
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Node => "node",
        Part::Installers => "installers",
        Part::Bytecode => "bytecode",
    }
}
