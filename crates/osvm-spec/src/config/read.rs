//! From text to [`Config`]: which keys there are and what each may be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml_edit::Document;

use super::error::Source;
use super::gateway::GATEWAY_KEYS;
use super::rights::per_minute;
use super::section::Section;
use super::{
    Audit, Builds, Config, ConfigError, Entry, Gateway, Microvm, Problem, Size, Tool, Url,
};
use crate::{Hosts, ImageRef, Isolation, Resources, ResourcesError, TemplateLevel};

pub(super) fn file(text: &str, name: &str) -> Result<Config, ConfigError> {
    let source = Source { file: name, text };
    let document = Document::parse(text).map_err(|error| syntax(source, &error))?;
    let top = Section::open(source, document.as_table(), 0, "the file", FILE_KEYS)?;
    let microvm = top.table("microvm", "[microvm]", MICROVM_KEYS)?.map(|s| microvm(&s));
    let builds = top.table("builds", "[builds]", BUILD_KEYS)?.map(|s| builds(&s));
    let audit = top.table("audit", "[audit]", AUDIT_KEYS)?.map(|s| audit(&s));
    let gateway = top.table("gateway", "[gateway]", GATEWAY_KEYS)?.map(|s| Gateway::read(&s));
    let servers = top.tables("servers", "[[servers]]", SERVER_KEYS)?;
    Ok(Config {
        microvm: microvm.transpose()?.unwrap_or_default(),
        builds: builds.transpose()?.unwrap_or_default(),
        audit: audit.transpose()?.unwrap_or_default(),
        gateway: gateway.transpose()?.unwrap_or_default(),
        servers: entries(&servers)?,
    })
}

const FILE_KEYS: &[&str] = &["microvm", "builds", "audit", "gateway", "servers"];
pub(super) const BUILD_KEYS: &[&str] = &["base_image", "base_hosts"];
pub(super) const AUDIT_KEYS: &[&str] = &["bodies", "required"];

pub(super) const MICROVM_KEYS: &[&str] = &[
    "enabled",
    "default_memory_mb",
    "default_vcpus",
    "rootfs_path",
    "kernel_path",
    "hypervisor",
    "cpu_template",
    "template",
    "idle_suspend_minutes",
    "idle_stop_minutes",
    "suspended_stop_minutes",
    "max_parallel_launches",
    "launch_timeout_seconds",
    "call_timeout_seconds",
];
pub(super) const SERVER_KEYS: &[&str] = &[
    "id",
    "name",
    "url",
    "isolation_mode",
    "enabled",
    "command",
    "image",
    "kernel",
    "user",
    "working_dir",
    "microvm_config",
    "template",
    "env",
    "secrets",
    "allow",
    "allow_private",
    "locked",
    "shared",
    "mount",
    "allow_tools",
    "deny_tools",
    "calls_per_minute",
    "tools",
];
pub(super) const SIZE_KEYS: &[&str] = &["memory_mb", "vcpus"];
pub(super) const TOOL_KEYS: &[&str] = &[
    "name",
    "isolation",
    "allow",
    "allow_private",
    "denied",
    "confirm",
    "max_result_bytes",
    "timeout_seconds",
    "calls_per_minute",
];

/// Of a result; what is longer can't be read from a server anyway.
const MOST_RESULT_BYTES: u64 = 64 << 20;

const DAY_MINUTES: u64 = 24 * 60;
const DAY_SECONDS: u64 = DAY_MINUTES * 60;

fn syntax(source: Source<'_>, error: &toml_edit::TomlError) -> ConfigError {
    let at = error.span().map_or(source.text.len(), |span| span.start);
    source.fault(at, Problem::Syntax(error.message().to_owned()))
}

fn microvm(section: &Section<'_>) -> Result<Microvm, ConfigError> {
    let usual = Microvm::default();
    let memory = size_part(section, "default_memory_mb", Resources::check_memory)?;
    let vcpus = size_part(section, "default_vcpus", Resources::check_vcpus)?;
    let seconds = |key, usual| {
        let found = section.number_within(key, 1, DAY_SECONDS)?;
        Ok(found.map_or(usual, Duration::from_secs))
    };
    let idle = |key, usual| {
        let found = section.number_within(key, 0, 365 * DAY_MINUTES)?;
        Ok(found.map_or(usual, for_minutes))
    };
    let parallel = section.number_within("max_parallel_launches", 1, 1024)?;
    Ok(Microvm {
        enabled: section.flag("enabled")?.unwrap_or(usual.enabled),
        default_memory_mb: memory.unwrap_or(usual.default_memory_mb),
        default_vcpus: vcpus.unwrap_or(usual.default_vcpus),
        rootfs_path: section.text("rootfs_path")?,
        kernel_path: section.text("kernel_path")?,
        hypervisor: section.parsed("hypervisor")?.unwrap_or(usual.hypervisor),
        cpu_template: section.parsed("cpu_template")?.unwrap_or(usual.cpu_template),
        template: section
            .checked("template", section.parsed("template")?, for_all)?
            .unwrap_or(usual.template),
        idle_suspend: idle("idle_suspend_minutes", usual.idle_suspend)?,
        idle_stop: idle("idle_stop_minutes", usual.idle_stop)?,
        suspended_stop: idle("suspended_stop_minutes", usual.suspended_stop)?,
        max_parallel_launches: parallel.and_then(|count| usize::try_from(count).ok()),
        launch_timeout: seconds("launch_timeout_seconds", usual.launch_timeout)?,
        call_timeout: seconds("call_timeout_seconds", usual.call_timeout)?,
    })
}

fn builds(section: &Section<'_>) -> Result<Builds, ConfigError> {
    let image = section.parsed("base_image")?;
    Ok(Builds {
        base_image: section.checked("base_image", image, with_apt)?,
        base_hosts: section.all("base_hosts")?,
    })
}

fn audit(section: &Section<'_>) -> Result<Audit, ConfigError> {
    Ok(Audit {
        bodies: section.flag("bodies")?.unwrap_or_default(),
        required: section.flag("required")?.unwrap_or_default(),
    })
}

fn with_apt(image: ImageRef) -> Result<ImageRef, Problem> {
    match image {
        ImageRef::Package(_) => Err(Problem::Base(image.to_string())),
        image => Ok(image),
    }
}

/// Each server whose process's copies may have its randomness in common is named.
fn for_all(template: TemplateLevel) -> Result<TemplateLevel, Problem> {
    match template {
        TemplateLevel::Started => Err(Problem::StartedForAll),
        other => Ok(other),
    }
}

/// Zero is forever.
fn for_minutes(minutes: u64) -> Option<Duration> {
    (minutes > 0).then(|| Duration::from_secs(minutes * 60))
}

fn size_part<T>(
    section: &Section<'_>,
    key: &str,
    check: fn(u64) -> Result<T, ResourcesError>,
) -> Result<Option<T>, ConfigError> {
    section.checked(key, section.number(key)?, check)
}

fn entries(sections: &[Section<'_>]) -> Result<Vec<Entry>, ConfigError> {
    let mut lines = BTreeMap::new();
    let once = |section: &Section<'_>| {
        let entry = entry(section)?;
        match lines.insert(entry.id.clone(), section.line("id")) {
            Some(first_line) => {
                Err(section.fault("id", Problem::DuplicateServer { name: entry.id, first_line }))
            }
            None => Ok(entry),
        }
    };
    sections.iter().map(once).collect()
}

fn entry(section: &Section<'_>) -> Result<Entry, ConfigError> {
    let isolation = section.parsed("isolation_mode")?.unwrap_or_default();
    let size = section.table("microvm_config", "microvm_config", SIZE_KEYS)?;
    Ok(Entry {
        id: section.required("id", section.parsed("id")?)?,
        name: section.checked("name", section.text("name")?, |text| printable("name", text))?,
        url: section.checked("url", section.text("url")?, |text| url(&text))?.unwrap_or_default(),
        isolation,
        enabled: section.flag("enabled")?.unwrap_or(true),
        locked: section.flag("locked")?.unwrap_or(true),
        shared: section.flag("shared")?.unwrap_or_default(),
        command: section.command("command")?.unwrap_or_default(),
        image: section.parsed("image")?,
        kernel: section.text("kernel")?,
        user: section.checked("user", section.text("user")?, |text| printable("user", text))?,
        working_dir: section.checked("working_dir", section.text("working_dir")?, absolute)?,
        microvm_config: size.map(|s| self::size(&s)).transpose()?.unwrap_or_default(),
        template: section.parsed("template")?,
        env: environment(section)?,
        secrets: section.all("secrets")?.unwrap_or_default(),
        hosts: hosts(section)?.unwrap_or_default(),
        folders: section.all("mount")?.unwrap_or_default(),
        allow_tools: section.all("allow_tools")?,
        deny_tools: section.all("deny_tools")?.unwrap_or_default(),
        calls_per_minute: per_minute(section, "calls_per_minute")?,
        tools: tools(section, isolation)?,
    })
}

fn size(section: &Section<'_>) -> Result<Size, ConfigError> {
    Ok(Size {
        memory_mb: size_part(section, "memory_mb", Resources::check_memory)?,
        vcpus: size_part(section, "vcpus", Resources::check_vcpus)?,
    })
}

fn tools(section: &Section<'_>, server: Isolation) -> Result<Vec<Tool>, ConfigError> {
    let mut seen = BTreeSet::new();
    let once = |inner: &Section<'_>| {
        let tool = tool(inner, server)?;
        match seen.insert(tool.name.clone()) {
            true => Ok(tool),
            false => Err(inner.fault("name", Problem::DuplicateTool(tool.name))),
        }
    };
    section.tables("tools", "[[servers.tools]]", TOOL_KEYS)?.iter().map(once).collect()
}

fn tool(section: &Section<'_>, server: Isolation) -> Result<Tool, ConfigError> {
    let name = section.required("name", section.text("name")?)?;
    let hosts = hosts(section)?;
    let (denied, confirm) = (section.flag("denied")?, section.flag("confirm")?);
    let max_result_bytes = section.number_within("max_result_bytes", 1, MOST_RESULT_BYTES)?;
    let timeout_seconds = section.number_within("timeout_seconds", 1, DAY_SECONDS)?;
    let calls_per_minute = per_minute(section, "calls_per_minute")?;
    let is_limited = max_result_bytes.or(timeout_seconds).is_some() || calls_per_minute.is_some();
    // Anything else that is said of a tool is reason enough to name it.
    let is_named = hosts.is_some() || denied.or(confirm).is_some() || is_limited;
    let said = section.parsed("isolation")?.or(is_named.then_some(server));
    let isolation = section.required("isolation", said)?;
    match isolation < server {
        true => {
            Err(section
                .fault("isolation", Problem::Looser { tool: name, asked: isolation, server }))
        }
        false => Ok(Tool {
            name,
            isolation,
            hosts,
            denied: denied.unwrap_or_default(),
            confirm: confirm.unwrap_or_default(),
            max_result_bytes,
            timeout_seconds,
            calls_per_minute,
        }),
    }
}

/// `None` when nothing is said about them, which an empty list does.
fn hosts(section: &Section<'_>) -> Result<Option<Hosts>, ConfigError> {
    let (allow, private) = (section.all("allow")?, section.all("allow_private")?);
    let said = allow.is_some() || private.is_some();
    let hosts =
        Hosts { allow: allow.unwrap_or_default(), allow_private: private.unwrap_or_default() };
    Ok(said.then_some(hosts))
}

fn environment(section: &Section<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let env = section.map("env")?;
    match env.keys().find(|name| !is_variable(name)) {
        Some(bad) => Err(section.fault("env", Problem::Variable(bad.clone()))),
        None => Ok(env),
    }
}

/// What `execve` can carry as a variable's name.
pub fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn url(text: &str) -> Result<Url, Problem> {
    match text {
        "stdio" => Ok(Url::Stdio),
        text if is_remote(text) => Err(Problem::Remote(text.to_owned())),
        text => Err(Problem::Url(text.to_owned())),
    }
}

/// Whether a server's address is one on a network.
pub fn is_remote(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn printable(key: &str, text: String) -> Result<String, Problem> {
    match text.chars().any(char::is_control) {
        true => Err(Problem::Control(key.to_owned())),
        false => Ok(text),
    }
}

fn absolute(path: String) -> Result<String, Problem> {
    match path.starts_with('/') {
        true => Ok(path),
        false => Err(Problem::RelativeDir(path)),
    }
}
