//! From what was written to what is run: flag before `OSVM_*` variable before file before default.

mod program;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Entry, Microvm, Tool};
use crate::containers::{self, ContainerError};
use crate::packages::PackageError;
use crate::{
    Access, Config, CpuTemplate, FolderRule, Hosts, Hypervisor, ImageRef, Isolation, Places,
    Resources, ResourcesError, SecretRule, ServerName, TemplateLevel, ToolLimits, ToolPolicy,
};
use program::{Program, Unclear};

/// One server, ready to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub name: ServerName,
    /// What people see.
    pub title: String,
    /// Whether the configuration has it; a VM can be launched under any name.
    pub registered: bool,
    /// Whether it starts only as the user has accepted it: it is registered with an image of its own, and nothing else
    /// was asked for instead.
    pub locked: bool,
    /// Never [`Isolation::None`].
    pub isolation: Isolation,
    /// Tools that are kept apart otherwise than the server, or reach other hosts.
    pub tools: BTreeMap<String, Apart>,
    pub tool_policy: ToolPolicy,
    pub resources: Resources,
    /// Empty for the image's entrypoint.
    pub command: Vec<String>,
    /// Words that follow the command, or the entrypoint.
    pub args: Vec<String>,
    /// Paths are absolute; `None` for the one that setup left.
    pub image: Option<ImageRef>,
    /// `None` for the one that setup left.
    pub kernel: Option<PathBuf>,
    pub hypervisor: Hypervisor,
    pub cpu_template: CpuTemplate,
    pub template: TemplateLevel,
    pub env: BTreeMap<String, String>,
    pub secrets: Vec<SecretRule>,
    pub hosts: Hosts,
    pub folders: Vec<Folder>,
    /// User inside the guest; `None` for the image's, or an unprivileged one.
    pub user: Option<String>,
    /// Folder inside the guest; `None` for the image's.
    pub working_dir: Option<String>,
    pub launch_timeout: Duration,
    pub call_timeout: Duration,
}

/// What holds for one tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    pub isolation: Isolation,
    /// In place of the server's.
    pub hosts: Option<Hosts>,
}

/// A folder of the host's, or a single file, that the server is lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    pub host: PathBuf,
    /// An absolute path in the guest.
    pub guest: String,
    pub access: Access,
}

/// What flags, or variables, say. Paths are absolute: whoever fills this knows the current folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<Hypervisor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateLevel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Added to the file's, and stronger than it, name by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Added to the file's, as the following are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretRule>,
    #[serde(skip_serializing_if = "Hosts::is_empty")]
    pub hosts: Hosts,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<Folder>,
}

/// Why a server is not run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("microVMs are switched off by the configuration, and a server never runs without one")]
    Off,
    #[error("server {0} is disabled")]
    Disabled(ServerName),
    #[error("server {0} has isolation none, and this version never runs a server on the host")]
    Host(ServerName),
    #[error("server {name}: {why}")]
    Package { name: ServerName, why: PackageError },
    #[error("server {name}: {why}")]
    Container { name: ServerName, why: ContainerError },
    #[error("server {name} {has}, and can't wait in a template")]
    Waiting { name: ServerName, has: &'static str },
    #[error("two folders are mounted at {0}")]
    FolderTwice(String),
    #[error("{0}")]
    Resources(#[from] ResourcesError),
}

impl Config {
    /// Everything about the server `name`, which need not be registered.
    pub fn resolve(
        &self,
        name: &ServerName,
        over: &Overrides,
        places: &Places<'_>,
    ) -> Result<Server, Refusal> {
        let registered = self.server(name);
        let entry = registered.cloned().unwrap_or_else(|| Entry::new(name.clone()));
        allowed(&self.microvm, &entry)?;
        let entry = lower(Entry {
            image: over.image.clone().or(entry.image),
            command: over.command.clone().unwrap_or(entry.command),
            ..entry
        })?;
        let resources = resources(&self.microvm, &entry, over)?;
        let expand = |written: Option<&String>| written.map(|path| places.expand(path));
        let kernel = entry.kernel.as_ref().or(self.microvm.kernel_path.as_ref());
        let program = Program {
            image: entry.image.map(|image| image.expanded(places)),
            words: entry.command,
        };
        let program = program.lower().map_err(|why| Refusal::unclear(name, why))?;
        let is_as_registered = over.image.is_none() && over.command.is_none();
        let default = || Some(ImageRef::at(&places.expand(self.microvm.rootfs_path.as_ref()?)));
        let env = program.env.into_iter().chain(entry.env).chain(over.env.clone());
        let server = Server {
            title: entry.name.unwrap_or_else(|| name.to_string()),
            name: entry.id,
            registered: registered.is_some(),
            locked: entry.locked
                && registered.is_some()
                && is_as_registered
                && program.image.is_some(),
            isolation: entry.isolation,
            tool_policy: ToolPolicy {
                allowed: entry.allow_tools,
                denied: entry.deny_tools,
                calls_per_minute: entry.calls_per_minute,
                limits: limits(&entry.tools),
            },
            tools: entry.tools.into_iter().map(apart).collect(),
            resources,
            command: program.command,
            args: program.args,
            image: program.image.or_else(default),
            kernel: over.kernel.clone().or_else(|| expand(kernel)),
            hypervisor: over.hypervisor.unwrap_or(self.microvm.hypervisor),
            cpu_template: self.microvm.cpu_template,
            template: over.template.or(entry.template).unwrap_or(self.microvm.template),
            env: env.collect(),
            secrets: SecretRule::merge(entry.secrets, &over.secrets),
            hosts: entry.hosts.and(over.hosts.clone()),
            folders: folders(&entry.folders, &over.folders, places)?,
            user: over.user.clone().or(entry.user),
            working_dir: entry.working_dir,
            launch_timeout: self.microvm.launch_timeout,
            call_timeout: self.microvm.call_timeout,
        };
        server.may_wait()?;
        Ok(server)
    }
}

fn lower(entry: Entry) -> Result<Entry, Refusal> {
    let name = entry.id.clone();
    let lowered = containers::lower(entry).map_err(|why| Refusal::Container { name, why })?;
    Ok(lowered.0)
}

fn apart(tool: Tool) -> (String, Apart) {
    (tool.name, Apart { isolation: tool.isolation, hosts: tool.hosts })
}

fn limits(tools: &[Tool]) -> BTreeMap<String, ToolLimits> {
    let limits = |tool: &Tool| ToolLimits {
        denied: tool.denied,
        confirm: tool.confirm,
        max_result_bytes: tool.max_result_bytes,
        timeout: tool.timeout_seconds.map(Duration::from_secs),
        calls_per_minute: tool.calls_per_minute,
    };
    tools.iter().map(|tool| (tool.name.clone(), limits(tool))).collect()
}

/// One folder at each place.
fn folders(
    written: &[FolderRule],
    more: &[Folder],
    places: &Places<'_>,
) -> Result<Vec<Folder>, Refusal> {
    let expand = |rule: &FolderRule| Folder {
        host: places.expand(&rule.host),
        guest: rule.guest.clone(),
        access: rule.access,
    };
    let all: Vec<_> = written.iter().map(expand).chain(more.iter().cloned()).collect();
    let is_taken =
        |(at, folder): &(usize, &Folder)| all[..*at].iter().any(|o| o.guest == folder.guest);
    match all.iter().enumerate().find(is_taken) {
        Some((_, twice)) => Err(Refusal::FolderTwice(twice.guest.clone())),
        None => Ok(all),
    }
}

fn allowed(microvm: &Microvm, entry: &Entry) -> Result<(), Refusal> {
    if !microvm.enabled {
        return Err(Refusal::Off);
    }
    if !entry.enabled {
        return Err(Refusal::Disabled(entry.id.clone()));
    }
    match entry.isolation {
        Isolation::None => Err(Refusal::Host(entry.id.clone())),
        Isolation::Microvm | Isolation::Ephemeral => Ok(()),
    }
}

fn resources(
    microvm: &Microvm,
    entry: &Entry,
    over: &Overrides,
) -> Result<Resources, ResourcesError> {
    let size = entry.microvm_config;
    let memory = size.memory_mb.unwrap_or(microvm.default_memory_mb);
    let vcpus = size.vcpus.unwrap_or(microvm.default_vcpus);
    Resources::new(over.memory_mb.unwrap_or(memory.into()), over.vcpus.unwrap_or(vcpus.into()))
}

impl Server {
    /// A process in a template has begun without what its VM is given afterwards.
    fn may_wait(&self) -> Result<(), Refusal> {
        let given = [
            ("has secrets", !self.secrets.is_empty()),
            ("is lent folders", !self.folders.is_empty()),
            ("reaches hosts", !self.hosts.is_empty()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((has, _)) if self.template == TemplateLevel::Started => {
                Err(Refusal::Waiting { name: self.name.clone(), has })
            }
            _ => Ok(()),
        }
    }

    /// How strictly this tool is kept apart.
    pub fn isolation_of(&self, tool: &str) -> Isolation {
        self.tools.get(tool).map_or(self.isolation, |apart| apart.isolation)
    }

    /// The hosts of this tool alone, if it has its own.
    pub fn hosts_of(&self, tool: &str) -> Option<&Hosts> {
        self.tools.get(tool)?.hosts.as_ref()
    }
}

impl Overrides {
    /// These, and where they are silent, the weaker ones.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        Self {
            memory_mb: self.memory_mb.or(weaker.memory_mb),
            vcpus: self.vcpus.or(weaker.vcpus),
            command: self.command.or(weaker.command),
            image: self.image.or(weaker.image),
            kernel: self.kernel.or(weaker.kernel),
            hypervisor: self.hypervisor.or(weaker.hypervisor),
            template: self.template.or(weaker.template),
            user: self.user.or(weaker.user),
            env: weaker.env.into_iter().chain(self.env).collect(),
            secrets: SecretRule::merge(weaker.secrets, &self.secrets),
            hosts: weaker.hosts.and(self.hosts),
            folders: weaker.folders.into_iter().chain(self.folders).collect(),
        }
    }
}

impl Refusal {
    fn unclear(name: &ServerName, why: Unclear) -> Self {
        let name = name.clone();
        match why {
            Unclear::Package(why) => Self::Package { name, why },
            Unclear::Container(why) => Self::Container { name, why },
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Off => Some("set enabled = true under [microvm]".to_owned()),
            Self::Disabled(name) => Some(format!("osvm mcp enable {name}")),
            Self::Host(_) => Some("set isolation_mode = \"microvm\"".to_owned()),
            Self::Waiting { .. } => Some("template = \"booted\", or --template booted".to_owned()),
            Self::Package { why, .. } => why.hint().map(str::to_owned),
            Self::Container { why, .. } => why.hint().map(str::to_owned),
            Self::FolderTwice(_) | Self::Resources(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Denial;

    fn name(text: &str) -> ServerName {
        text.parse().unwrap()
    }

    fn resolve(text: &str, over: &Overrides) -> Result<Server, Refusal> {
        let places = Places { home: Some(Path::new("/home/u")), base: Path::new("/home/u/.osvm") };
        Config::parse(text, "f").unwrap().resolve(&name("s"), over, &places)
    }

    #[test]
    fn flag_beats_variable_beats_file_beats_default() {
        let defaults = "[microvm]\ndefault_memory_mb = 300\ndefault_vcpus = 3\n";
        let server = "[[servers]]\nid = \"s\"\nmicrovm_config = { memory_mb = 400 }";
        let file = &format!("{defaults}{server}");
        let flag = Overrides { memory_mb: Some(600), ..Overrides::default() };
        let variable = Overrides { memory_mb: Some(500), vcpus: Some(2), ..Overrides::default() };
        let memory = |over: &Overrides, file| resolve(file, over).unwrap().resources.memory_mib();
        assert_eq!(memory(&Overrides::default(), ""), 256);
        assert_eq!(memory(&Overrides::default(), defaults), 300);
        assert_eq!(memory(&Overrides::default(), file), 400);
        assert_eq!(memory(&variable, file), 500);
        let both = flag.or(variable);
        assert_eq!((memory(&both, file), both.vcpus), (600, Some(2)));
        assert_eq!(resolve(file, &Overrides::default()).unwrap().resources.vcpus(), 3);
    }

    #[test]
    fn what_is_registered_with_an_image_of_its_own_is_locked_unless_it_says_otherwise() {
        let server = "[[servers]]\nid = \"s\"\n";
        let locked = |more: &str, over: &Overrides| {
            resolve(&format!("{server}{more}"), over).unwrap().locked
        };
        let usual = Overrides::default();
        assert!(locked("image = \"/x\"", &usual));
        assert!(locked("command = [\"npx\", \"-y\", \"a\"]", &usual));
        assert!(!locked("image = \"/x\"\nlocked = false", &usual));
        assert!(!locked("command = [\"/bin/a\"]", &usual), "it has no image of its own");
        let other = Overrides { image: Some("/y".parse().unwrap()), ..Overrides::default() };
        assert!(!locked("image = \"/x\"", &other));
        assert!(!resolve("", &other).unwrap().locked, "it is not registered");
    }

    #[test]
    fn environments_add_up_and_the_stronger_wins_name_by_name() {
        let env = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let flag = Overrides { env: env(&[("A", "flag")]), ..Overrides::default() };
        let variable =
            Overrides { env: env(&[("A", "var"), ("B", "var")]), ..Overrides::default() };
        let file = "[[servers]]\nid = \"s\"\nenv = { A = \"file\", C = \"file\" }";
        let server = resolve(file, &flag.or(variable)).unwrap();
        assert_eq!(server.env, env(&[("A", "flag"), ("B", "var"), ("C", "file")]));
    }

    #[test]
    fn paths_of_the_file_expand_and_the_servers_own_image_wins() {
        let file = "[microvm]\nrootfs_path = \"~/base.cpio\"\nkernel_path = \"k\"\n";
        let server = resolve(file, &Overrides::default()).unwrap();
        assert_eq!(server.image.unwrap().to_string(), "/home/u/base.cpio");
        assert_eq!(server.kernel.as_deref(), Some(Path::new("/home/u/.osvm/k")));
        let file = format!("{file}[[servers]]\nid = \"s\"\nimage = \"/mine\"");
        let server = resolve(&file, &Overrides::default()).unwrap();
        assert_eq!(server.image.unwrap().to_string(), "/mine");
    }

    #[test]
    fn a_name_nobody_registered_gets_the_defaults() {
        let server = resolve("", &Overrides::default()).unwrap();
        assert!(!server.registered && server.command.is_empty() && server.image.is_none());
        assert_eq!(server.isolation, Isolation::Microvm);
    }

    #[test]
    fn what_must_not_run_is_refused() {
        let refused = |file| resolve(file, &Overrides::default()).unwrap_err();
        assert_eq!(refused("[microvm]\nenabled = false"), Refusal::Off);
        let disabled = "[[servers]]\nid = \"s\"\nenabled = false";
        assert_eq!(refused(disabled), Refusal::Disabled(name("s")));
        let host = "[[servers]]\nid = \"s\"\nisolation_mode = \"none\"";
        assert_eq!(refused(host), Refusal::Host(name("s")));
    }

    #[test]
    fn what_is_given_to_a_vm_only_later_keeps_a_server_from_waiting_in_a_template() {
        let server = "[[servers]]\nid = \"s\"\n";
        let started = Overrides { template: Some(TemplateLevel::Started), ..Overrides::default() };
        let given = [
            ("secrets = [\"KEY\"]", "has secrets"),
            ("mount = [\"/a:/b\"]", "is lent folders"),
            ("allow = [\"example.com\"]", "reaches hosts"),
        ];
        for (given, has) in given {
            let refusal = resolve(&format!("{server}{given}"), &started).unwrap_err();
            assert_eq!(refusal, Refusal::Waiting { name: name("s"), has });
            assert!(refusal.hint().unwrap().contains("booted"));
            let written =
                resolve(&format!("{server}template = \"started\"\n{given}"), &Overrides::default());
            assert_eq!(written, Err(refusal));
            assert!(
                resolve(&format!("{server}template = \"booted\"\n{given}"), &Overrides::default())
                    .is_ok()
            );
        }
        let over = Overrides { secrets: vec!["KEY".parse().unwrap()], ..started.clone() };
        assert!(resolve(server, &over).is_err());
        assert_eq!(resolve(server, &started).unwrap().template, TemplateLevel::Started);
    }

    #[test]
    fn flags_are_held_to_the_same_limits() {
        let over = Overrides { memory_mb: Some(8), ..Overrides::default() };
        assert_eq!(resolve("", &over), Err(ResourcesError::Memory(8).into()));
    }

    #[test]
    fn a_tool_has_its_own_isolation_or_its_servers() {
        let file =
            "[[servers]]\nid = \"s\"\n[[servers.tools]]\nname = \"rm\"\nisolation = \"ephemeral\"";
        let server = resolve(file, &Overrides::default()).unwrap();
        assert_eq!(server.isolation_of("rm"), Isolation::Ephemeral);
        assert_eq!(server.isolation_of("ls"), Isolation::Microvm);
    }

    #[test]
    fn what_is_said_of_tools_comes_together() {
        let file = "[[servers]]\nid = \"s\"\nallow_tools = [\"read_*\", \"rm\"]\ndeny_tools = [\"*_all\"]\n\
                    [[servers.tools]]\nname = \"rm\"\ndenied = true\n\
                    [[servers.tools]]\nname = \"read_log\"\ntimeout_seconds = 3";
        let policy = resolve(file, &Overrides::default()).unwrap().tool_policy;
        let denied = ["rm", "read_all", "write"].map(|tool| policy.denial(tool));
        assert_eq!(denied, [Denial::Denied, Denial::Denied, Denial::NotAllowed].map(Some));
        assert_eq!(policy.denial("read_log"), None);
        assert_eq!(policy.limits_of("read_log").timeout, Some(Duration::from_secs(3)));
    }
}
