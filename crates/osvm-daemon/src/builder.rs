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
mod layers;
mod registries;
mod times;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use osvm_image::builder::{INSTALL, InstallRequest, Installed, Part};
use osvm_image::store::Hold;
use osvm_image::{Config, Progress, Source, Stack, Store};
use osvm_spec::Digest;
use osvm_spec::packages::{Ecosystem, Install};

use crate::api::ApiError;
use crate::client::Client;
use crate::images::{ImagesError, sources};
use crate::{Home, Host};
pub use base::{Base, BaseImage};
use layers::Layer;
pub use registries::{Files, Registries, Variables};
use times::Times;
use work::Work;

/// What people who wait for an image hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// What is being done.
    Step(&'a str),
    /// What came of it that was not expected.
    Warning(&'a str),
    /// How long all of it takes, as far as that is known.
    Expected(Duration),
}

pub type Say = Arc<dyn Fn(News<'_>) + Send + Sync>;

/// Makes images of packages, with the daemon's VMs.
pub struct Builder {
    client: Client,
    store: Store,
    registries: Registries,
    base: Base,
    times: Times,
    say: Say,
    anew: bool,
    /// Whether newer packages of the distribution were asked for in vain.
    outdated: AtomicBool,
}

/// How long packages' own scripts and builds may take.
const SCRIPT_SECONDS: u32 = 45 * 60;
/// A layer that became no image, such as for a full disk, is used by the next try for that long.
const SPARE: Duration = Duration::from_secs(60 * 60);

impl Builder {
    pub fn new(
        home: &Home,
        host: &Host,
        client: Client,
        registries: Registries,
        base: Base,
        say: Say,
    ) -> Result<Self, ApiError> {
        let store = Store::open(&home.images()).map_err(|error| ApiError::failed(&error))?;
        let times = Times::of(home, host.is_emulated());
        let outdated = AtomicBool::new(false);
        Ok(Self { client, store, registries, base, times, say, anew: false, outdated })
    }

    /// Images that are there already will not do any more.
    pub fn anew(self, anew: bool) -> Self {
        Self { anew, ..self }
    }

    /// The package's image.
    pub async fn build(&self, install: &Install) -> Result<Digest, ApiError> {
        let source = Source::Stack(sources::package(install));
        let before = self.store.last(&source);
        let hold = self.hold(&format!("package-{}", source.key())).await?;
        // Whoever held it meanwhile may have built it.
        if let Some(digest) = self.store.last(&source)
            && (!self.anew || before.as_ref() != Some(&digest))
            && self.store.inspect(&digest).is_ok()
        {
            return Ok(digest);
        }
        let spare = !self.anew && hold.age().is_some_and(|age| age < SPARE);
        let installed = match spare {
            true => installed(&hold)?,
            false => self.install(install, &hold).await?,
        };
        self.tell("writing the disk");
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

    /// Installs it into the layer that is held.
    async fn install(&self, install: &Install, hold: &Hold) -> Result<Installed, ApiError> {
        let part = install.ecosystem.as_str();
        self.expect(part);
        let image = self.workshop().await?;
        self.tell(&format!("installing {install}"));
        let registries = self.registries.for_scripts();
        let request = InstallRequest::new(install, registries, SCRIPT_SECONDS);
        let request = match self.registries.npmrc() {
            Some(npmrc) => request.with_npmrc(npmrc),
            None => request,
        };
        let work = Work::python(image, INSTALL, self.registries.hosts()?);
        self.times.timed(part, work.run(&self.client, &request, hold, &self.say)).await?;
        installed(hold)
    }

    /// Says how long it takes to make this, and what it needs that is not here.
    fn expect(&self, part: &'static str) {
        let parts = self.missing().map(Layer::name).chain([part]);
        if let Some(expected) = self.times.expected(parts) {
            (self.say)(News::Expected(expected));
        }
    }

    fn tell(&self, step: &str) {
        (self.say)(News::Step(step));
    }

    async fn import(&self, source: Source) -> Result<Digest, ApiError> {
        let say = Arc::clone(&self.say);
        let mut tell = move |step| {
            if step == Progress::Waiting {
                say(News::Step("waiting for another build of it"));
            }
        };
        let mut imported = move |store: &Store| store.import(&source, &mut tell);
        self.blocking(move |store| Ok(imported(store).map_err(ImagesError::Import)?.digest)).await
    }

    async fn hold(&self, name: &str) -> Result<Hold, ApiError> {
        let (name, say) = (name.to_owned(), Arc::clone(&self.say));
        let waiting = move || say(News::Step("waiting for another build"));
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

fn installed(hold: &Hold) -> Result<Installed, ApiError> {
    Installed::of(hold.path()).map_err(|error| ApiError::failed(&error))
}
