//! From a name and a request's overrides to a plan, by the configuration as it is at this moment.

use std::sync::Arc;

use osvm_fleet::{Plan, Purpose, Rootfs, StartedBy};
use osvm_spec::{Config, ImageRef, Overrides, Places, Secrets, Server, ServerName};

use super::Daemon;
use crate::ConfigFile;
use crate::api::{ApiError, ErrorKind};
use crate::images::is_made;

impl Daemon {
    /// The server as configuration and request describe it, registered or not.
    pub(super) fn resolve(&self, name: &ServerName, over: &Overrides) -> Result<Server, ApiError> {
        let config = self.config()?;
        self.resolve_in(&config, name, over)
    }

    pub(super) fn resolve_in(
        &self,
        config: &Config,
        name: &ServerName,
        over: &Overrides,
    ) -> Result<Server, ApiError> {
        let places = Places { home: self.host.user_home.as_deref(), base: self.home.root() };
        config.resolve(name, over, &places).map_err(|refusal| {
            let kind = match refusal {
                osvm_spec::Refusal::Resources(_) => ErrorKind::Usage,
                _ => ErrorKind::Refused,
            };
            let error = ApiError::new(kind, refusal.to_string());
            match refusal.hint() {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }

    /// A server that must be registered.
    pub(super) fn registered(
        &self,
        config: &Config,
        name: &ServerName,
        over: &Overrides,
    ) -> Result<Server, ApiError> {
        let server = self.resolve_in(config, name, over)?;
        if server.registered {
            return Ok(server);
        }
        let error = ApiError::new(ErrorKind::NoSuch, format!("no server is called {name}"));
        Err(match config.nearest(name) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error.hint("osvm mcp list"),
        })
    }

    /// Refuses what would start a server without a secret of its own.
    pub(super) fn plan(
        &self,
        server: Server,
        secrets: Secrets,
        started_by: StartedBy,
    ) -> Result<Plan, ApiError> {
        if let Some(rule) = server.secrets.iter().find(|rule| !secrets.has(&rule.name)) {
            let message = format!("server {} was not given its secret {}", server.name, rule.name);
            return Err(ApiError::new(ErrorKind::Usage, message));
        }
        let rootfs = self.rootfs(&server)?;
        Ok(Plan {
            locked: server.locked.then(|| server.name.clone()),
            name: server.name,
            resources: server.resources,
            hypervisor: server.hypervisor,
            cpu_template: server.cpu_template,
            template: server.template,
            kernel: server.kernel.unwrap_or_else(|| self.home.default_kernel()),
            rootfs,
            purpose: Purpose::Serve,
            command: server.command,
            args: server.args,
            env: server.env.into_iter().collect(),
            secrets,
            hosts: server.hosts,
            folders: server.folders,
            user: server.user,
            working_dir: server.working_dir,
            start_timeout: server.launch_timeout,
            started_by,
            record: false,
            server: None,
            once: false,
        })
    }

    /// What is not on this host must have been brought before: the daemon has no network. What was accepted is kept
    /// to, whatever has been made of the same reference since.
    fn rootfs(&self, server: &Server) -> Result<Rootfs, ApiError> {
        let image = match &server.image {
            None => return Ok(Rootfs::Path(self.home.default_rootfs())),
            Some(ImageRef::Path(path)) if !is_made(path.as_ref()) => {
                return Ok(Rootfs::Path(path.into()));
            }
            Some(ImageRef::Digest(digest)) => return Ok(Rootfs::Image(digest.clone())),
            Some(image) => image,
        };
        let accepted = self.images.accepted(&self.greeter.0.lock, server);
        let accepted = accepted.map_err(|error| ApiError::failed(&error))?;
        accepted.or_else(|| self.images.of(image)).map(Rootfs::Image).ok_or_else(|| {
            let message = format!("image {image} has not been made here");
            let words = osvm_spec::command::join(&[image.to_string()]);
            ApiError::new(ErrorKind::NoSuch, message).hint(format!("osvm image build {words}"))
        })
    }

    pub(super) fn config(&self) -> Result<Arc<Config>, ApiError> {
        Ok(self.config.current()?)
    }
}

/// VMs that start at the same time, unless configured. A boot waits as often as it works: with one
/// for each processor a third of the machine stays idle.
pub(super) fn parallel_launches(config: &ConfigFile) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    config
        .current()
        .ok()
        .and_then(|config| config.microvm.max_parallel_launches)
        .unwrap_or(4 * processors)
}
