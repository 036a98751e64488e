//! What `add` and the launching commands say about a VM in the same words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use osvm_spec::{
    Folder, FolderRule, HostRule, Hosts, Hypervisor, ImageRef, Overrides, SecretRule,
    TemplateLevel, command, config,
};

use crate::error::CliError;
use crate::{environment, images};

#[derive(Debug, clap::Args)]
pub(crate) struct VmOptions {
    /// Memory of the VM in MiB
    #[arg(long, value_name = "MIB", value_parser = environment::memory)]
    pub(crate) memory: Option<u64>,
    /// Processors of the VM
    #[arg(long, value_name = "COUNT", value_parser = environment::vcpus)]
    pub(crate) vcpus: Option<u64>,
    /// Command of the server, split as a shell would
    #[arg(long, value_name = "LINE", value_parser = split)]
    pub(crate) command: Option<Words>,
    /// What the server is in: a path (folder, archive, container image, MCPB bundle, program, project) that begins with
    /// '.', '/' or '~', an image of a registry (docker.io/mcp/time), a package (npm:NAME, pypi:NAME), or a digest
    #[arg(long, visible_alias = "rootfs", value_name = "REF", value_parser = images::reference)]
    pub(crate) image: Option<ImageRef>,
    /// Kernel, instead of the one that setup left
    #[arg(long, value_name = "PATH")]
    pub(crate) kernel: Option<PathBuf>,
    /// Variable of the server's environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Secret of the server's environment, read anew for each session; NAME=env:VARIABLE, NAME=file:PATH
    /// and NAME=keyring:SERVICE/ACCOUNT say where from [default: the variable NAME]; may be repeated
    #[arg(long, value_name = "NAME[=SOURCE]")]
    pub(crate) secret: Vec<SecretRule>,
    /// Host that the server may reach: a name, *.NAME, an address or a network; may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow: Vec<HostRule>,
    /// The same for a host on a private network
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow_private: Vec<HostRule>,
    /// Folder or file that the server is lent, read-only unless said otherwise; may be repeated
    #[arg(long, value_name = "HOST:GUEST[:ro|:rw|:rw-all]")]
    pub(crate) mount: Vec<FolderRule>,
    /// User the server runs as inside the VM: a name or a number
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
}

/// The same for commands that start a VM at once.
#[derive(Debug, clap::Args)]
pub(crate) struct LaunchOptions {
    #[command(flatten)]
    vm: VmOptions,
    /// VMM to use: auto, firecracker, qemu
    #[arg(long, value_name = "VMM", value_parser = environment::choice::<Hypervisor>)]
    hypervisor: Option<Hypervisor>,
    /// What the VM begins as: none (it boots), booted (a clone), started (with its server)
    #[arg(long, value_name = "LEVEL", value_parser = environment::choice::<TemplateLevel>)]
    template: Option<TemplateLevel>,
}

/// The words of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl LaunchOptions {
    /// These flags, and where they are silent, the environment's variables.
    pub(crate) fn overrides(self) -> Result<Overrides, CliError> {
        let vm = self.vm;
        let absolute = |path: Option<PathBuf>| path.map(|p| environment::absolute(&p)).transpose();
        let flags = Overrides {
            memory_mb: vm.memory,
            vcpus: vm.vcpus,
            command: vm.command.map(|words| words.0),
            image: vm.image.map(images::absolute).transpose()?,
            kernel: absolute(vm.kernel)?,
            hypervisor: self.hypervisor,
            template: self.template,
            user: vm.user,
            env: vm.env.into_iter().collect::<BTreeMap<_, _>>(),
            secrets: vm.secret,
            hosts: Hosts { allow: vm.allow, allow_private: vm.allow_private },
            folders: vm.mount.into_iter().map(folder).collect::<Result<_, _>>()?,
        };
        Ok(flags.or(environment::overrides()?))
    }
}

/// As seen from the current folder.
fn folder(rule: FolderRule) -> Result<Folder, CliError> {
    let host = environment::absolute(rule.host.as_ref())?;
    Ok(Folder { host, guest: rule.guest, access: rule.access })
}

fn split(line: &str) -> Result<Words, String> {
    command::split(line).map(Words).map_err(|error| error.to_string())
}

fn variable(pair: &str) -> Result<(String, String), String> {
    match pair.split_once('=') {
        Some((name, value)) if config::is_variable(name) => Ok((name.into(), value.into())),
        _ => Err("KEY=VALUE is needed".to_owned()),
    }
}
