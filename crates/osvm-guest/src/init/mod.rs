//! From the kernel's first jump into user space to a served link. Everything in here happens once, in this
//! order, and any failure ends the VM with a line on the console: a VM that is half up helps nobody.
//!
//! 1. `/dev`, so that there is a console; from here on people can see what happens.
//! 2. `/proc`, `/sys`, the kernel's modules.
//! 3. The root that servers see: the disk under an overlay, or the initramfs itself.
//! 4. `/tmp` and the like, `lo`, control groups.
//! 5. The link, as soon as its device is there.

mod cmdline;
mod devices;
mod memory;
mod modules;
mod mounts;
mod root;

use std::panic;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use self::mounts::SCRATCH;
use crate::agent::{Agent, Settings};
use crate::console::{chain, say};
use crate::link;
use crate::machine::{Vm, power};
use crate::netlink;
use crate::process;

use self::cmdline::Root;
use self::devices::Devices;

/// How long a device may take to appear. Emulated machines under load are slow.
const DEVICE_WITHIN: Duration = Duration::from_secs(60);

/// How long a session lives that nobody attaches.
const EXPIRE_AFTER: Duration = Duration::from_secs(600);

/// Why the VM did not come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("failed to {act}")]
    Act {
        act: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{what} did not appear within {} s", .after.as_secs())]
    NoDevice { what: &'static str, after: Duration },
    #[error("command line says osvm.root={0}, which is neither disk nor initramfs")]
    UnknownRoot(String),
    #[error("disk holds no squashfs, erofs or ext4 file system")]
    UnknownDisk,
}

impl InitError {
    pub(crate) fn act<E: Into<std::io::Error>>(act: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Act { act: act.into(), source: source.into() }
    }
}

/// Brings the VM up and serves its link. Returns only if the VM could not even be ended.
pub fn run() {
    if std::process::id() != 1 {
        say(format_args!("this is the first process of an osvm microVM, not a command"));
        return;
    }
    panic::set_hook(Box::new(|panic| {
        say(format_args!("{panic}"));
        power::off();
    }));
    if let Err(error) = come_up() {
        say(format_args!("{}", chain(&error)));
    }
    power::off();
}

fn come_up() -> Result<(), InitError> {
    mounts::devices()?;
    say(format_args!("up"));
    mounts::kernel_views()?;
    memory::prepare_for_shortage(Path::new("/proc"), Path::new("/sys"));
    let mut devices = Devices::listen()?;
    modules::load(Path::new("/.osvm/modules"))?;
    if cmdline::root(Path::new("/proc/cmdline"))? == Root::Disk {
        devices
            .wait_for("the disk", DEVICE_WITHIN, || Path::new("/dev/vda").exists().then_some(()))?;
        root::switch_to_disk(Path::new("/dev/vda"))?;
    } else {
        root::use_initramfs()?;
    }
    mounts::writable()?;
    netlink::loopback_up().map_err(InitError::act("set lo up"))?;
    prepare_etc(Path::new("/etc"));
    let groups = mounts::control_groups();
    mounts::seal_sys()?;
    let transport = devices.wait_for("a link to the host", DEVICE_WITHIN, link::find)?;
    serve(groups, transport)
}

fn serve(groups: Option<PathBuf>, transport: link::Transport) -> Result<(), InitError> {
    let settings = Settings {
        proc: "/proc".into(),
        etc: Some("/etc".into()),
        groups,
        as_init: true,
        expire_after: EXPIRE_AFTER,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(InitError::act("start the runtime"))?.block_on(async {
        let agent = Agent::start(settings, Vm).map_err(InitError::act("start the agent"))?;
        link::serve(transport, agent).await.map_err(InitError::act("serve the link"))
    })
}

/// What programs expect of every machine and images often lack.
fn prepare_etc(etc: &Path) {
    if let Err(error) = process::name_unprivileged(etc) {
        say(format_args!("failed to name the unprivileged user: {error}"));
    }
    let hosts = etc.join("hosts");
    let text = "127.0.0.1 localhost\n::1 localhost\n";
    if !hosts.exists()
        && let Err(error) = std::fs::write(hosts, text)
    {
        say(format_args!("failed to name localhost: {error}"));
    }
}
