//! What the demo server says of its surroundings beside what the host knows.

use std::fs;
use std::path::Path;

use osvm_spec::ServerName;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::check::{Check, Group};
use super::stage::{Stage, text_of};
use crate::error::CliError;

const GROUP: Group = Group("what a server sees");

/// Asks the demo server, whose `variable` holds the secret.
pub(super) async fn checks(
    stage: &Stage,
    name: &ServerName,
    variable: &str,
) -> Result<Vec<Check>, CliError> {
    stage.say("what a server sees");
    let guest = Guest::read(&stage.call(name, "system_info", &json!({})).await?.result)?;
    let host = Host::read(Path::new("/proc"))?;
    let variable = stage.call(name, "env", &json!({ "name": variable })).await?;
    let reach = Reach {
        environment: text_of(&variable),
        host_file: read_host_file(stage, name).await?,
        written_on_host: write_in_guest(stage, name).await?,
    };
    Ok(all(&guest, &host, &reach, stage.secret()))
}

/// What the guest reads at the path of a file that the host has just made.
async fn read_host_file(stage: &Stage, name: &ServerName) -> Result<Option<String>, CliError> {
    let file = tempfile::NamedTempFile::new().map_err(|error| unwritable(&error))?;
    fs::write(file.path(), stage.secret()).map_err(|error| unwritable(&error))?;
    let answer = stage.call(name, "read_file", &json!({ "path": file.path() })).await?;
    Ok(Some(text_of(&answer)).filter(|_| !answer.is_error))
}

/// Whether a file that the guest wrote has appeared on the host.
async fn write_in_guest(stage: &Stage, name: &ServerName) -> Result<bool, CliError> {
    let path = Path::new("/tmp").join(format!("osvm-test-{}", stage.secret()));
    let arguments = json!({ "path": path, "content": stage.secret() });
    let answer = stage.call(name, "write_file", &arguments).await?;
    match answer.is_error {
        true => Err(CliError::failed(format!("the guest can't write: {}", text_of(&answer)))),
        false => Ok(path.exists()),
    }
}

fn unwritable(error: &std::io::Error) -> CliError {
    CliError::failed(format!("can't write a file for the guest to look for: {error}"))
}

/// The demo server's tool `system_info`, as far as the checks need it.
#[derive(Debug, Deserialize)]
struct Guest {
    kernel_release: String,
    kernel_command_line: String,
    boot_id: String,
    pid1: String,
    user: User,
    interfaces: Vec<String>,
    mounts: Vec<Mount>,
}

#[derive(Debug, Deserialize)]
struct User {
    uid: u32,
}

#[derive(Debug, Deserialize)]
struct Mount {
    target: String,
    r#type: String,
}

/// The same about this machine.
#[derive(Debug)]
struct Host {
    kernel_release: String,
    kernel_command_line: String,
    boot_id: String,
}

/// What came through the wall in either direction.
#[derive(Debug)]
struct Reach {
    /// The secret, which the server's environment should hold.
    environment: String,
    /// What a file of the host holds as the guest reads it.
    host_file: Option<String>,
    written_on_host: bool,
}

/// Every check, in the order they are shown.
fn all(guest: &Guest, host: &Host, reach: &Reach, secret: &str) -> Vec<Check> {
    vec![
        boot(guest, host),
        kernel(guest, host),
        init(guest),
        network(guest),
        mounts(guest),
        user(guest),
        command_line(guest, reach, secret),
        host_file(reach),
        guest_file(reach),
    ]
}

fn check(name: &'static str, passed: bool, evidence: String) -> Check {
    GROUP.check(name, passed, evidence)
}

fn boot(guest: &Guest, host: &Host) -> Check {
    let evidence = format!("boot id {} here, {} on the host", guest.boot_id, host.boot_id);
    check("another boot", guest.boot_id != host.boot_id, evidence)
}

/// Host and guest may well run the same release; they are never started with the same line.
fn kernel(guest: &Guest, host: &Host) -> Check {
    let other = guest.kernel_release != host.kernel_release
        || guest.kernel_command_line != host.kernel_command_line;
    let evidence = format!("{} here, {} on the host", guest.kernel_release, host.kernel_release);
    check("another kernel", other, evidence)
}

fn init(guest: &Guest) -> Check {
    let own = guest.pid1.starts_with("/.osvm/agent");
    check("the agent is process 1", own, guest.pid1.clone())
}

fn network(guest: &Guest) -> Check {
    let evidence = format!("interfaces: {}", guest.interfaces.join(", "));
    check("no network card", guest.interfaces == ["lo"], evidence)
}

/// File systems that live in the guest: in its memory, its kernel or on its read-only disk.
const OWN_FILE_SYSTEMS: &[&str] = &[
    "cgroup2", "devpts", "devtmpfs", "erofs", "mqueue", "overlay", "proc", "ramfs", "rootfs",
    "squashfs", "sysfs", "tmpfs",
];

fn mounts(guest: &Guest) -> Check {
    let foreign = |mount: &&Mount| !OWN_FILE_SYSTEMS.contains(&mount.r#type.as_str());
    let shown = |mount: &Mount| format!("{} ({})", mount.target, mount.r#type);
    let foreign: Vec<_> = guest.mounts.iter().filter(foreign).map(shown).collect();
    let evidence = match foreign.as_slice() {
        [] => guest.mounts.iter().map(shown).collect::<Vec<_>>().join(", "),
        foreign => format!("not the guest's own: {}", foreign.join(", ")),
    };
    check("nothing of the host is mounted", foreign.is_empty(), evidence)
}

fn user(guest: &Guest) -> Check {
    check("an unprivileged user", guest.user.uid != 0, format!("uid {}", guest.user.uid))
}

/// Meaningful only while the secret did reach the server by its own way.
fn command_line(guest: &Guest, reach: &Reach, secret: &str) -> Check {
    let arrived = reach.environment.contains(secret);
    let absent = !guest.kernel_command_line.contains(secret);
    let evidence = match arrived {
        true => guest.kernel_command_line.clone(),
        false => "the server's environment did not arrive".to_owned(),
    };
    check("no user data on the kernel command line", arrived && absent, evidence)
}

fn host_file(reach: &Reach) -> Check {
    let evidence = match &reach.host_file {
        Some(text) => format!("the guest read {text:?}"),
        None => "a file made on the host does not exist here".to_owned(),
    };
    check("the host's files are out of reach", reach.host_file.is_none(), evidence)
}

fn guest_file(reach: &Reach) -> Check {
    let evidence = match reach.written_on_host {
        true => "a file written here appeared on the host",
        false => "a file written here did not appear on the host",
    };
    check("the guest's files stay in it", !reach.written_on_host, evidence.to_owned())
}

impl Guest {
    fn read(result: &RawValue) -> Result<Self, CliError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            structured_content: Guest,
        }
        serde_json::from_str::<Answer>(result.get())
            .map(|answer| answer.structured_content)
            .map_err(|error| {
                CliError::failed(format!("the guest does not describe itself: {error}"))
            })
    }
}

impl Host {
    /// `proc` is usually `/proc`.
    fn read(proc: &Path) -> Result<Self, CliError> {
        let line = |name: &str| {
            let path = proc.join(name);
            let text = fs::read_to_string(&path).map_err(|error| {
                CliError::failed(format!("can't read {}: {error}", path.display()))
            })?;
            Ok::<_, CliError>(text.trim().to_owned())
        };
        Ok(Self {
            kernel_release: line("sys/kernel/osrelease")?,
            kernel_command_line: line("cmdline")?,
            boot_id: line("sys/kernel/random/boot_id")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cret";

    fn guest() -> Guest {
        let json = r#"{"structuredContent":{"kernel_release":"6.12.1","kernel_command_line":
            "console=ttyS0","boot_id":"guest","pid1":"/.osvm/agent","user":{"uid":1000},
            "interfaces":["lo"],"mounts":[{"target":"/","source":"overlay","type":"overlay"}]}}"#;
        Guest::read(&RawValue::from_string(json.to_owned()).unwrap()).unwrap()
    }

    fn host() -> Host {
        Host {
            kernel_release: "6.1.0".into(),
            kernel_command_line: "root=/dev/sda1".into(),
            boot_id: "host".into(),
        }
    }

    fn reach() -> Reach {
        Reach { environment: SECRET.into(), host_file: None, written_on_host: false }
    }

    fn failed(guest: &Guest, host: &Host, reach: &Reach) -> Vec<&'static str> {
        let checks = all(guest, host, reach, SECRET);
        checks.iter().filter(|check| !check.passed).map(|check| check.name).collect()
    }

    #[test]
    fn a_guest_of_its_own_passes() {
        assert!(failed(&guest(), &host(), &reach()).is_empty());
    }

    #[test]
    fn a_process_on_the_host_fails_everything_it_can() {
        let json = r#"{"structuredContent":{"kernel_release":"6.1.0","kernel_command_line":
            "root=/dev/sda1","boot_id":"host","pid1":"/sbin/init","user":{"uid":0},
            "interfaces":["lo","eth0"],"mounts":[{"target":"/","source":"/dev/sda1","type":"ext4"}]}}"#;
        let bare = Guest::read(&RawValue::from_string(json.to_owned()).unwrap()).unwrap();
        let all = Reach {
            environment: SECRET.into(),
            host_file: Some("x".into()),
            written_on_host: true,
        };
        assert_eq!(failed(&bare, &host(), &all).len(), 8, "all but the command line's secret");
    }

    #[test]
    fn a_secret_on_the_command_line_fails() {
        let told = Guest { kernel_command_line: format!("x={SECRET}"), ..guest() };
        let name = "no user data on the kernel command line";
        assert_eq!(failed(&told, &host(), &reach()), [name]);
        let silent = Reach { environment: String::new(), ..reach() };
        assert_eq!(failed(&guest(), &host(), &silent), [name], "a check of nothing proves nothing");
    }

    #[test]
    fn a_guest_that_hides_what_is_asked_is_no_proof() {
        let json = r#"{"structuredContent":{"boot_id":null}}"#;
        assert!(Guest::read(&RawValue::from_string(json.to_owned()).unwrap()).is_err());
    }
}
