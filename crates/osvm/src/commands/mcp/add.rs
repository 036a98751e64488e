//! `osvm mcp add`

mod bundle;
mod settings;

use std::path::Path;

use osvm_spec::config::{Entry, Size, is_remote};
use osvm_spec::{FolderRule, Hosts, ImageRef, Isolation, ServerName, ToolPattern};

use super::vm_options::VmOptions;
use crate::config_file::ConfigFile;
use crate::error::{CliError, Kind};
use crate::{environment, images, output, registration};

/// Register a server
///
/// Writes the server to the configuration file, which keeps its comments. A package or an image of a registry is
/// brought first, packages in a microVM that reaches their registries and nothing else. What a bundle's manifest says
/// is worked out, and written down plainly. Such a server is then started, and its tools are noted in osvm.lock: what
/// changes later is refused until it is accepted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp add my-server --url stdio --isolation microvm
  osvm mcp add files --mount ~/work:/work -- npx -y @modelcontextprotocol/server-filesystem /work
  osvm mcp add git -- uvx mcp-server-git
  osvm mcp add git-log --tool 'git_log' --tool 'git_diff*' -- uvx mcp-server-git
  osvm mcp add notes --image ./notes.mcpb --set folder=~/notes
  osvm mcp add mine --image ./target/release/my-server -- --verbose
  osvm mcp add mine --image ./my-project
  osvm mcp add github -- docker run -i --rm -e GITHUB_PERSONAL_ACCESS_TOKEN ghcr.io/github/github-mcp-server
  osvm mcp add own --image ./rootfs --memory 512 -- /bin/server /data
  osvm mcp add files --image ./rootfs.cpio --command '/bin/server /data' --env LOG=debug")]
pub(crate) struct Args {
    /// 1 to 64 letters, digits, '-', '_' and '.'
    name: ServerName,
    /// How the server is reached
    #[arg(long, visible_alias = "server-url", default_value = "stdio", value_name = "stdio")]
    url: String,
    /// How strictly the server is kept apart: microvm, ephemeral (a microVM per call)
    #[arg(long, default_value_t, value_name = "MODE")]
    isolation: Isolation,
    #[command(flatten)]
    vm: VmOptions,
    /// Tool that may be called, and no other: a name, '*' stands for any characters; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    tool: Vec<ToolPattern>,
    /// Tool that may not be called, whatever is allowed; may be repeated
    #[arg(long, value_name = "NAME")]
    deny_tool: Vec<ToolPattern>,
    /// Command of the server, word by word; for a package, a program or a project, its arguments
    #[arg(last = true, value_name = "ARGV", conflicts_with = "command")]
    argv: Vec<String>,
    /// Another package beside the one that is run, or a narrower version of what it needs: 'mcp<2'; may be repeated
    #[arg(long, value_name = "PACKAGE")]
    with: Vec<String>,
    /// Setting of a bundle; one that the bundle keeps secret goes to a file of its own, and never to the configuration;
    /// may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the new server as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    check_url(&args.url)?;
    check_isolation(args.isolation)?;
    let file = ConfigFile::open()?;
    registration::refuse_taken(&file, &args.name)?;
    let (json, with) = (args.json, args.with.clone());
    let set = args.set.iter().map(|text| settings::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let lowered = bundle::lower(registration::lowered(packaged(entry(args)?, &with)?)?, set)?;
    let entry = &lowered.entry;
    warn(entry)?;
    registration::register(&file, entry, &lowered.secrets)?;
    if json {
        return output::json(&entry.shown());
    }
    output::line(format_args!("added {} to {}", entry.id, file.name()))?;
    lowered.tell()?;
    output::hint(format_args!("osvm mcp tools {}", entry.id));
    Ok(())
}

/// With further packages, which the command's own words would not tell.
fn packaged(entry: Entry, with: &[String]) -> Result<Entry, CliError> {
    if with.is_empty() {
        return Ok(entry);
    }
    let server = images::resolve(&entry)?;
    let Some(ImageRef::Package(mut install)) = server.image else {
        let message = "--with is for packages, and the server is none";
        return Err(
            CliError::usage(message).hint("osvm mcp add NAME --with 'mcp<2' -- uvx PACKAGE")
        );
    };
    for text in with {
        let package = install.ecosystem.package(text);
        install.with.push(package.map_err(|error| CliError::usage(error.to_string()))?);
    }
    let (image, command, env) = (Some(ImageRef::Package(install)), server.args, server.env);
    Ok(Entry { image, command, env, ..entry })
}

fn check_url(url: &str) -> Result<(), CliError> {
    match url {
        "stdio" => Ok(()),
        url if is_remote(url) => Err(CliError::usage(format!(
            "{url} is a remote server: it can't run in a microVM, and this version supports no \
             remote servers"
        ))
        .hint("--url stdio")),
        url => Err(CliError::usage(format!("url {url} is not understood")).hint("--url stdio")),
    }
}

fn check_isolation(isolation: Isolation) -> Result<(), CliError> {
    match isolation {
        Isolation::Microvm | Isolation::Ephemeral => Ok(()),
        Isolation::None => {
            let message = "isolation none: this version never runs a server on the host";
            Err(CliError::new(Kind::Refused, message).hint("--isolation microvm"))
        }
    }
}

fn entry(args: Args) -> Result<Entry, CliError> {
    let vm = args.vm;
    let line = vm.command.map(|words| words.0);
    Ok(Entry {
        isolation: args.isolation,
        command: line.unwrap_or(args.argv),
        image: vm.image.map(images::absolute).transpose()?,
        kernel: vm.kernel.map(|path| text(&path)).transpose()?,
        user: vm.user,
        env: vm.env.into_iter().collect(),
        secrets: vm.secret,
        hosts: Hosts { allow: vm.allow, allow_private: vm.allow_private },
        allow_tools: (!args.tool.is_empty()).then_some(args.tool),
        deny_tools: args.deny_tool,
        folders: vm.mount.into_iter().map(folder).collect::<Result<_, _>>()?,
        microvm_config: Size {
            memory_mb: vm.memory.and_then(|mib| u32::try_from(mib).ok()),
            vcpus: vm.vcpus.and_then(|count| u8::try_from(count).ok()),
        },
        ..Entry::new(args.name)
    })
}

fn folder(rule: FolderRule) -> Result<FolderRule, CliError> {
    let host = text(rule.host.as_ref())?;
    Ok(FolderRule { host, ..rule })
}

/// The path from the root, because the file is read from elsewhere.
fn text(path: &Path) -> Result<String, CliError> {
    let path = environment::absolute(path)?;
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| CliError::usage(format!("path {} is no UTF-8", path.display())))
}

/// READMEs name folders as arguments; in the VM there are none but those that are lent.
fn warn_of_folders(entry: &Entry) -> Result<(), CliError> {
    let server = images::resolve(entry)?;
    let is_lent = |path: &Path| server.folders.iter().any(|folder| path.starts_with(&folder.guest));
    let named = server.args.iter().filter(|arg| Path::new(arg).is_absolute());
    for path in named.filter(|arg| Path::new(arg).is_dir() && !is_lent(Path::new(arg))) {
        output::warning(format_args!(
            "{path} is a folder of this host, which the server does not see; --mount {path}:{path} lends it"
        ));
    }
    Ok(())
}

fn warn(entry: &Entry) -> Result<(), CliError> {
    let image = entry.image.iter().filter_map(images::path);
    let folders = entry.folders.iter().map(|folder| &folder.host);
    image.chain(&entry.kernel).chain(folders).for_each(|path| warn_if_missing(path));
    warn_of_folders(entry)
}

fn warn_if_missing(path: &str) {
    if !Path::new(path).exists() {
        output::warning(format_args!("{path} does not exist yet"));
    }
}
