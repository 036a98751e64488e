//! The only place that reads environment variables.
#![expect(clippy::disallowed_methods, reason = "the front door reads the environment for all")]

pub(crate) mod base;
pub(crate) mod registries;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use osvm_daemon::shim::ProxySettings;
use osvm_daemon::{Home, Host, Idle, setup};
use osvm_spec::{
    ChoiceError, Config, ImageRef, Overrides, Places, Refusal, Resources, Server, ServerName,
};

use crate::error::CliError;

/// `OSVM_HOME` (default `~/.osvm`) and `OSVM_RUNTIME_DIR` (default `/tmp`).
pub(crate) fn home() -> Result<Home, CliError> {
    let root = match (variable("OSVM_HOME"), user_home()) {
        (Some(root), _) => PathBuf::from(root),
        (None, Some(user)) => user.join(".osvm"),
        (None, None) => {
            let error = CliError::failed("neither OSVM_HOME nor HOME is set");
            return Err(error.hint("export OSVM_HOME=/path/to/a/folder"));
        }
    };
    let runtime = variable("OSVM_RUNTIME_DIR").map_or_else(|| "/tmp".into(), PathBuf::from);
    Ok(Home::new(absolute(&root)?, absolute(&runtime)?))
}

/// What `~` stands for.
pub(crate) fn user_home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// The same, where nothing can be done without.
pub(crate) fn user_home_or_error() -> Result<PathBuf, CliError> {
    user_home().ok_or_else(|| CliError::failed("HOME is not set").hint("export HOME=/home/you"))
}

/// Where another program has what it keeps at `path` below the user's home: what it has below `.config` lies where
/// `XDG_CONFIG_HOME` says.
pub(crate) fn in_user_home(path: &str) -> Result<PathBuf, CliError> {
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    match config.zip(path.strip_prefix(".config/")) {
        Some((config, inside)) => Ok(config.join(inside)),
        None => Ok(user_home_or_error()?.join(path)),
    }
}

/// This program, as a client is to start it.
pub(crate) fn own_program() -> Result<String, CliError> {
    let path = std::env::current_exe()
        .map_err(|error| CliError::failed(format!("can't tell where osvm itself is: {error}")))?;
    path.into_os_string().into_string().map_err(|path| {
        CliError::failed(format!("the path of osvm itself is no UTF-8: {}", path.display()))
    })
}

/// Whether osvm's files are elsewhere than a client would look for them.
pub(crate) fn has_own_home() -> bool {
    let usual = user_home().map(|user| user.join(".osvm"));
    home().is_ok_and(|home| Some(home.root()) != usual.as_deref())
}

/// What the `OSVM_*` variables say about the VMs to be started.
pub(crate) fn overrides() -> Result<Overrides, CliError> {
    Ok(Overrides {
        memory_mb: parsed("OSVM_MEMORY_MB", memory)?,
        vcpus: parsed("OSVM_VCPUS", vcpus)?,
        image: path("OSVM_ROOTFS")?.map(|path| ImageRef::at(&path)),
        kernel: path("OSVM_KERNEL")?,
        hypervisor: parsed("OSVM_HYPERVISOR", choice)?,
        template: parsed("OSVM_TEMPLATE", choice)?,
        ..Overrides::default()
    })
}

/// The host's own proxies, by the variables that other programs read as well.
pub(crate) fn proxies() -> ProxySettings {
    let value = |name: &str| {
        let found = variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
        found.and_then(|value| value.into_string().ok()).unwrap_or_default()
    };
    let [http, https, all, no] = PROXIES.map(value);
    ProxySettings { http, https, all, no }
}

const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// What a daemon is started with: nothing that belongs to the command that happens to start it.
pub(crate) fn of_daemon() -> Vec<(OsString, OsString)> {
    const NAMES: [&str; 7] =
        ["PATH", "HOME", "XDG_CACHE_HOME", "TMPDIR", "TZ", "RUST_BACKTRACE", "LD_LIBRARY_PATH"];
    let is_ours = |name: &OsString| {
        name.to_str().is_some_and(|name| {
            let is_proxy = PROXIES.contains(&name.to_ascii_uppercase().as_str());
            is_proxy || NAMES.contains(&name) || name.starts_with("OSVM_")
        })
    };
    std::env::vars_os().filter(|(name, _)| is_ours(name)).collect()
}

/// A variable that holds a secret; `None` when it is not set, or empty.
pub(crate) fn secret(name: &str) -> Option<OsString> {
    variable(name)
}

/// The folders that paths in the configuration start from.
pub(crate) fn expand(written: &str) -> Result<PathBuf, CliError> {
    let (user, home) = (user_home(), home()?);
    Ok(Places { home: user.as_deref(), base: home.root() }.expand(written))
}

/// Everything about a server, as the configuration and the overrides say it.
pub(crate) fn resolve(
    config: &Config,
    name: &ServerName,
    over: &Overrides,
) -> Result<Result<Server, Refusal>, CliError> {
    let (user, home) = (user_home(), home()?);
    Ok(config.resolve(name, over, &Places { home: user.as_deref(), base: home.root() }))
}

/// A written path seen from the current folder.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path)
        .map_err(|error| CliError::failed(format!("can't tell where {path:?} is: {error}")))
}

/// Where the user is.
pub(crate) fn current_folder() -> Option<String> {
    std::env::current_dir().ok()?.into_os_string().into_string().ok()
}

/// <https://no-color.org>, and terminals that say they are none.
pub(crate) fn wants_colour() -> bool {
    variable("NO_COLOR").is_none() && variable("TERM").is_none_or(|term| term != "dumb")
}

/// The machine as osvm's other rooms should see it.
pub(crate) fn host() -> Host {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Host {
        path: variable("PATH").unwrap_or_default(),
        own_programs: home().ok().map(|home| setup::programs_dir(&home)),
        user_home: user_home(),
        user_cache: cache.or_else(|| Some(user_home()?.join(".cache"))),
        proc: "/proc".into(),
        kvm: "/dev/kvm".into(),
        // This very executable, also when another one has been installed over it.
        shim: "/proc/self/exe".into(),
    }
}

/// `OSVM_FIRECRACKER_RELEASES`: where setup downloads from instead of the project's own place.
pub(crate) fn releases() -> Result<Option<String>, CliError> {
    parsed("OSVM_FIRECRACKER_RELEASES", |url| Ok(url.to_owned()))
}

/// `OSVM_LOG`: what the daemon logs, as the tracing crates write it.
pub(crate) fn log_filter() -> String {
    variable("OSVM_LOG").and_then(|filter| filter.into_string().ok()).unwrap_or("info".to_owned())
}

/// How long a VM that a call started may be idle, each in place of what is configured; 0 is forever:
/// `OSVM_IDLE_SUSPEND_SECONDS` with nothing to do, `OSVM_IDLE_STOP_SECONDS` unused, and `OSVM_SUSPENDED_STOP_SECONDS`
/// unused and suspended.
pub(crate) fn idle() -> Result<Idle, CliError> {
    Ok(Idle {
        suspend: seconds("OSVM_IDLE_SUSPEND_SECONDS")?,
        stop: seconds("OSVM_IDLE_STOP_SECONDS")?,
        stop_suspended: seconds("OSVM_SUSPENDED_STOP_SECONDS")?,
    })
}

/// `OSVM_REHEARSE_SECONDS`: how long nothing must have been going on before a server rehearses; 0 is for ever.
pub(crate) fn quiet() -> Result<Option<Duration>, CliError> {
    seconds("OSVM_REHEARSE_SECONDS")
}

fn seconds(variable: &str) -> Result<Option<Duration>, CliError> {
    let whole = |text: &str| text.parse().map_err(|_| "a whole number is needed".to_owned());
    Ok(parsed(variable, whole)?.map(Duration::from_secs))
}

/// An amount of memory in MiB that a VM can have.
pub(crate) fn memory(text: &str) -> Result<u64, String> {
    let mib = text.parse().map_err(|_| "a whole number of MiB is needed".to_owned())?;
    Resources::check_memory(mib).map(u64::from).map_err(|error| error.to_string())
}

/// A number of processors that a VM can have.
pub(crate) fn vcpus(text: &str) -> Result<u64, String> {
    let count = text.parse().map_err(|_| "a whole number is needed".to_owned())?;
    Resources::check_vcpus(count).map(u64::from).map_err(|error| error.to_string())
}

/// A word of a few.
pub(crate) fn choice<T: FromStr<Err = ChoiceError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: ChoiceError| error.to_string())
}

/// A variable that is a path.
fn path(name: &str) -> Result<Option<PathBuf>, CliError> {
    variable(name).map(|path| absolute(path.as_ref())).transpose()
}

/// An empty variable is as good as none.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn parsed<T>(name: &str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, CliError> {
    let Some(value) = variable(name) else { return Ok(None) };
    let text = value.to_str().ok_or_else(|| format!("{value:?} is no text"));
    let wrong = |error| CliError::usage(format!("variable {name}: {error}"));
    text.and_then(read).map(Some).map_err(wrong)
}
