//! What the machine says about itself, read from /proc. What can't be read is left out, not an error:
//! a locked-down guest is a finding, too.

use std::fmt;
use std::fs::read_to_string;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

/// The machine as this process sees it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct SystemInfo {
    kernel_release: Option<String>,
    kernel_version: Option<String>,
    kernel_command_line: Option<String>,
    boot_id: Option<String>,
    hostname: Option<String>,
    uptime_seconds: Option<f64>,
    pid1: Option<String>,
    user: User,
    cpus: Option<usize>,
    memory_kib: Option<u64>,
    interfaces: Option<Vec<String>>,
    mounts: Option<Vec<Mount>>,
}

/// Whose rights this process has.
#[derive(Debug, Default, PartialEq, Serialize)]
struct User {
    uid: Option<u32>,
    gid: Option<u32>,
    name: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Mount {
    target: String,
    source: String,
    r#type: String,
    options: String,
}

impl SystemInfo {
    /// Reads the tree at `proc` (usually `/proc`) and the user's name from `passwd`.
    pub(crate) fn read(proc: &Path, passwd: &Path) -> Self {
        let line = |name: &str| Some(read_to_string(proc.join(name)).ok()?.trim().to_owned());
        let text = |name: &str| read_to_string(proc.join(name)).ok();
        Self {
            kernel_release: line("sys/kernel/osrelease"),
            kernel_version: line("sys/kernel/version"),
            kernel_command_line: line("cmdline"),
            boot_id: line("sys/kernel/random/boot_id"),
            hostname: line("sys/kernel/hostname"),
            uptime_seconds: line("uptime").and_then(|uptime| first_word(&uptime)),
            pid1: pid1(proc),
            user: User::read(&proc.join("self/status"), passwd),
            cpus: text("stat").map(|stat| count_cpus(&stat)),
            memory_kib: text("meminfo").and_then(|info| first_word(field(&info, "MemTotal:")?)),
            interfaces: text("self/net/dev").map(|dev| interfaces(&dev)),
            mounts: text("self/mounts").map(|mounts| mounts.lines().filter_map(mount).collect()),
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("the keys are names of fields")
    }
}

impl User {
    fn read(status: &Path, passwd: &Path) -> Self {
        let status = read_to_string(status).unwrap_or_default();
        let effective = |name| field(&status, name)?.split_whitespace().nth(1)?.parse().ok();
        let uid = effective("Uid:");
        let name = uid.and_then(|uid| user_name(&read_to_string(passwd).ok()?, uid));
        Self { uid, gid: effective("Gid:"), name }
    }
}

/// The arguments of process 1, or its name where they are hidden.
fn pid1(proc: &Path) -> Option<String> {
    let arguments = std::fs::read(proc.join("1/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ").trim().to_owned();
    if !arguments.is_empty() {
        return Some(arguments);
    }
    Some(read_to_string(proc.join("1/comm")).ok()?.trim().to_owned())
}

/// What follows a name at the beginning of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

fn first_word<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.split_whitespace().next()?.parse().ok()
}

/// In `/proc/stat` a line `cpuN` stands for each processor, and a line `cpu` for all.
fn count_cpus(stat: &str) -> usize {
    let number = |line: &str| line.strip_prefix("cpu")?.bytes().next();
    stat.lines().filter_map(number).filter(u8::is_ascii_digit).count()
}

/// In `/proc/net/dev` the name stands before a colon, below two lines of headings.
fn interfaces(dev: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
    dev.lines().skip(2).filter_map(name).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let mut words = line.split(' ').map(str::to_owned);
    let (source, target) = (words.next()?, words.next()?);
    Some(Mount { target, source, r#type: words.next()?, options: words.next()? })
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

impl fmt::Display for SystemInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interfaces = self.interfaces.as_ref().map(|names| names.join(", "));
        let mut line = |label: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => writeln!(f, "{label:14}{value}"),
            None => writeln!(f, "{label:14}unknown"),
        };
        line("kernel", shown(&self.kernel_release))?;
        line("version", shown(&self.kernel_version))?;
        line("command line", shown(&self.kernel_command_line))?;
        line("boot id", shown(&self.boot_id))?;
        line("host name", shown(&self.hostname))?;
        line("uptime, s", shown(&self.uptime_seconds))?;
        line("process 1", shown(&self.pid1))?;
        line("user", Some(&self.user))?;
        line("processors", shown(&self.cpus))?;
        line("memory, KiB", shown(&self.memory_kib))?;
        line("interfaces", shown(&interfaces))?;
        self.mounts.iter().flatten().try_for_each(|mount| line("mount", Some(mount)))
    }
}

fn shown<T: fmt::Display>(value: &Option<T>) -> Option<&dyn fmt::Display> {
    value.as_ref().map(|value| value as &dyn fmt::Display)
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |id: Option<u32>| id.map_or("unknown".to_owned(), |id| id.to_string());
        write!(f, "uid {} gid {}", number(self.uid), number(self.gid))?;
        self.name.iter().try_for_each(|name| write!(f, " ({name})"))
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, source, r#type, options } = self;
        write!(f, "{target} {type} {source} ({options})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn read(root: &tempfile::TempDir) -> SystemInfo {
        SystemInfo::read(root.path(), &root.path().join("passwd"))
    }

    #[test]
    fn a_small_guest_is_described_in_full() {
        let root = tree(&[
            ("sys/kernel/osrelease", "6.12.90\n"),
            ("sys/kernel/version", "#1 SMP\n"),
            ("sys/kernel/random/boot_id", "0f-1\n"),
            ("sys/kernel/hostname", "vm\n"),
            ("cmdline", "console=ttyS0\n"),
            ("uptime", "12.5 3.0\n"),
            ("1/cmdline", "/init\0--quiet\0"),
            ("self/status", "Name:\tx\nUid:\t0\t1000\t0\t0\nGid:\t0\t1001\t0\t0\n"),
            ("stat", "cpu  1 2\ncpu0 1 2\ncpu1 1 2\nintr 5\n"),
            ("meminfo", "MemTotal:       262144 kB\nMemFree: 1 kB\n"),
            ("self/net/dev", "Inter-|\n face |\n    lo: 1 2\n  eth0: 3 4\n"),
            ("self/mounts", "overlay / overlay rw,relatime 0 0\nproc /proc proc rw 0 0\n"),
            ("passwd", "root:x:0:0::/:/bin/sh\nmcp:x:1000:1001::/:/bin/sh\n"),
        ]);
        let info = read(&root);
        assert_eq!(info.pid1.as_deref(), Some("/init --quiet"));
        assert_eq!(
            info.user,
            User { uid: Some(1000), gid: Some(1001), name: Some("mcp".to_owned()) }
        );
        assert_eq!((info.cpus, info.memory_kib), (Some(2), Some(262_144)));
        assert_eq!(info.interfaces, Some(vec!["lo".to_owned(), "eth0".to_owned()]));
        assert_eq!(info.uptime_seconds, Some(12.5));
        let text = info.to_string();
        assert!(text.contains("kernel        6.12.90\n"), "{text}");
        assert!(text.contains("mount         / overlay overlay (rw,relatime)\n"), "{text}");
        assert!(!text.contains("unknown"), "{text}");
    }

    #[test]
    fn a_tree_without_files_gives_nothing_but_no_error() {
        let info = read(&tree(&[]));
        assert_eq!(info, SystemInfo::default());
        assert!(info.to_string().contains("user          uid unknown gid unknown\n"));
    }

    #[test]
    fn half_written_files_are_left_out() {
        let root = tree(&[
            ("meminfo", "MemTotal:"),
            ("self/net/dev", ""),
            ("self/mounts", "proc /proc\n"),
            ("self/status", "Uid:\n"),
            ("1/cmdline", ""),
            ("1/comm", "systemd\n"),
        ]);
        let info = read(&root);
        assert_eq!((info.memory_kib, info.user.uid), (None, None));
        assert_eq!((info.interfaces, info.mounts), (Some(vec![]), Some(vec![])));
        assert_eq!(info.pid1.as_deref(), Some("systemd"));
    }
}
