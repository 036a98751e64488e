//! A hostile server, root in its VM, reaches for the host: its processes, devices, files, sockets and networks.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;

use osvm_daemon::api::VmStatus;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::check::{Check, Group, Seen, short};
use super::stage::Stage;
use crate::environment;

const GROUP: Group = Group("what a hostile server reaches");

/// Everything it was given: console, random numbers, balloon, disk, socket (virtio 1.2, section 5).
const OWN_DEVICES: [u32; 5] = [2, 3, 4, 5, 19];

/// Addresses outside of the guest: a cloud's metadata, the internet, usual private networks, and the gateway
/// that a VMM's own network would have.
const ADDRESSES: [&str; 9] = [
    "tcp:169.254.169.254:80",
    "tcp:1.1.1.1:443",
    "tcp:10.0.2.2:22",
    "tcp:192.168.1.1:80",
    "tcp:172.17.0.1:80",
    "udp:8.8.8.8:53",
    "udp:255.255.255.255:67",
    "icmp:8.8.8.8",
    "frame",
];

/// The hypervisor, the guest itself, the host, other VMs.
const CIDS: [u32; 6] = [0, 1, 2, 3, 4, 52];
/// Privileged, the agent's, and any.
const PORTS: [u32; 4] = [22, 1024, 5252, 40_000];

#[derive(Debug, Deserialize)]
struct Look {
    processes: Vec<Process>,
    interfaces: Vec<String>,
    routes: Vec<String>,
    routes6: Vec<String>,
    block_devices: Vec<String>,
    pci_devices: Vec<String>,
    virtio_devices: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct Process {
    pid: u32,
    command: String,
}

/// Attempts and their outcomes, by target.
type Outcomes = Map<String, Value>;

pub(super) async fn checks(stage: &Stage, demo: &VmStatus, hostile: &VmStatus) -> Vec<Check> {
    stage.say("what a hostile server reaches");
    let look = stage
        .attempt(hostile, "look", json!({}))
        .await
        .and_then(|seen| serde_json::from_value::<Look>(seen).map_err(|error| error.to_string()));
    let vsock =
        CIDS.iter().flat_map(|cid| PORTS.iter().map(move |port| format!("vsock:{cid}:{port}")));
    vec![
        GROUP.judge("no process of the host", &look, processes),
        GROUP.judge("no device but its own", &look, devices),
        GROUP.judge("no network interface and no route", &look, network),
        files(stage, demo, hostile).await,
        sockets(stage, demo, hostile).await,
        loopback(stage, hostile).await,
        GROUP.judge(
            "no address outside",
            &reach(stage, hostile, ADDRESSES.map(str::to_owned).into()).await,
            none_reached,
        ),
        GROUP.judge(
            "no vsock port of the host or of other VMs",
            &reach(stage, hostile, vsock.collect()).await,
            none_reached,
        ),
    ]
}

async fn reach(stage: &Stage, hostile: &VmStatus, targets: Vec<String>) -> Seen<Outcomes> {
    let asked = targets.len();
    let seen = stage.attempt(hostile, "reach", json!({ "targets": targets })).await?;
    all_of(asked, seen)
}

/// One outcome for each attempt: less would prove less.
fn all_of(asked: usize, seen: Value) -> Seen<Outcomes> {
    match seen {
        Value::Object(outcomes) if outcomes.len() == asked => Ok(outcomes),
        other => Err(format!("of {asked} attempts came back: {}", short(&other.to_string()))),
    }
}

fn processes(look: &Look) -> (bool, String) {
    let own = |process: &&Process| {
        let command = &process.command;
        command.starts_with('[')
            || command == "/.osvm/agent"
            || command.starts_with("/usr/bin/osvm-demo hostile")
    };
    let foreign: Vec<_> = look.processes.iter().filter(|process| !own(process)).collect();
    let agent = look.processes.iter().any(|process| process.pid == 1);
    let evidence = match foreign.first() {
        None => format!("{} processes: kernel threads, the agent, itself", look.processes.len()),
        Some(process) => format!("process {} is {}", process.pid, process.command),
    };
    (agent && foreign.is_empty(), evidence)
}

fn devices(look: &Look) -> (bool, String) {
    let Look { virtio_devices, pci_devices, block_devices, .. } = look;
    let own = virtio_devices.iter().all(|kind| OWN_DEVICES.contains(kind));
    let evidence = format!(
        "virtio kinds {virtio_devices:?}, PCI devices {pci_devices:?}, block devices {block_devices:?}"
    );
    // It has at least the one that carries this answer.
    let passed = own && !virtio_devices.is_empty() && pci_devices.is_empty();
    (passed && block_devices.iter().all(|name| name == "vda"), evidence)
}

fn network(look: &Look) -> (bool, String) {
    let Look { interfaces, routes, routes6, .. } = look;
    let out = routes6.iter().find(|route| !route.ends_with(" lo"));
    let evidence = match routes.first().or(out) {
        Some(route) => format!("interfaces {}, route {route}", interfaces.join(", ")),
        None => format!("interfaces {}, no route", interfaces.join(", ")),
    };
    (interfaces == &["lo"] && routes.is_empty() && out.is_none(), evidence)
}

/// Files that exist on this host, by the names they have here.
async fn files(stage: &Stage, demo: &VmStatus, hostile: &VmStatus) -> Check {
    let name = "no file of the host or of other VMs";
    let made = tempfile::NamedTempFile::new().map_err(|error| error.to_string());
    let seen = match made.and_then(|file| {
        fs::write(file.path(), stage.secret()).map_err(|error| error.to_string()).map(|()| file)
    }) {
        Err(error) => Err(error),
        Ok(file) => {
            let secret = file.path().display().to_string();
            let run_dir = demo.run_dir.display();
            let home = environment::home().map(|home| home.root().display().to_string());
            let home = home.unwrap_or_default();
            let paths = vec![
                secret.clone(),
                format!("/proc/1/root{secret}"),
                format!("/proc/1/cwd{secret}"),
                format!("{run_dir}/state.json"),
                format!("{run_dir}/logs/console.log"),
                format!("{home}/run/daemon.log"),
                format!("/proc/{}/environ", std::process::id()),
                "/etc/shadow".to_owned(),
                "/etc/hostname".to_owned(),
                "/dev/kvm".to_owned(),
                "/dev/sda".to_owned(),
            ];
            let asked = paths.len();
            let seen = stage.attempt(hostile, "read", json!({ "paths": paths })).await;
            seen.and_then(|seen| all_of(asked, seen))
        }
    };
    GROUP.judge(name, &seen, none_reached)
}

async fn sockets(stage: &Stage, demo: &VmStatus, hostile: &VmStatus) -> Check {
    let inside = |name: &str| demo.run_dir.join(name);
    let daemon = environment::home().map(|home| home.socket()).unwrap_or_default();
    let paths: Vec<PathBuf> =
        vec![inside("link.sock"), inside("qmp.sock"), inside("v.sock"), inside("api.sock"), daemon];
    let targets = paths.iter().map(|path| format!("unix:{}", path.display())).collect();
    let seen = reach(stage, hostile, targets).await;
    GROUP.judge("no socket of the host or of other VMs", &seen, none_reached)
}

/// Listeners of our own, which would know of anybody.
async fn loopback(stage: &Stage, hostile: &VmStatus) -> Check {
    let listen = || {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let targets =
            vec![format!("tcp:{}", tcp.local_addr()?), format!("udp:{}", udp.local_addr()?)];
        Ok((tcp, udp, targets))
    };
    let listening: std::io::Result<_> = listen();
    let seen = match listening {
        Err(error) => Err(error.to_string()),
        Ok((tcp, udp, targets)) => reach(stage, hostile, targets).await.map(|outcomes| {
            let heard = [tcp.accept().is_ok(), udp.recv(&mut [0; 16]).is_ok()];
            (outcomes, heard)
        }),
    };
    GROUP.judge("the host's loopback is another one", &seen, |(outcomes, heard)| {
        let connected =
            outcomes.iter().any(|(to, got)| to.starts_with("tcp") && got.get("got").is_some());
        let evidence = format!("{}; heard on the host: {}", told(outcomes), heard.contains(&true));
        (!connected && !heard.contains(&true), evidence)
    })
}

fn none_reached(outcomes: &Outcomes) -> (bool, String) {
    let reached = outcomes.iter().find(|(_, outcome)| outcome.get("error").is_none());
    match reached {
        Some((target, got)) => (false, format!("{target}: {}", short(&got.to_string()))),
        None => (!outcomes.is_empty(), told(outcomes)),
    }
}

/// The targets, by what became of them.
fn told(outcomes: &Outcomes) -> String {
    let mut by_outcome = std::collections::BTreeMap::<String, Vec<&str>>::new();
    for (target, outcome) in outcomes {
        let words = outcome.get("error").or(outcome.get("got")).and_then(Value::as_str);
        by_outcome.entry(words.unwrap_or("nothing").to_owned()).or_default().push(target);
    }
    let lines = by_outcome.iter().map(|(outcome, targets)| match targets.as_slice() {
        [first, .., last] if targets.len() > 4 => {
            format!("{first} to {last} ({}): {outcome}", targets.len())
        }
        targets => format!("{}: {outcome}", targets.join(", ")),
    });
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look() -> Look {
        let json = json!({
            "processes": [{ "pid": 1, "command": "/.osvm/agent" }, { "pid": 2, "command": "[kthreadd]" }],
            "interfaces": ["lo"], "routes": [], "routes6": ["00 00 lo"], "block_devices": [],
            "pci_devices": [], "virtio_devices": [3, 4],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_guest_of_its_own_passes() {
        assert!(processes(&look()).0 && devices(&look()).0 && network(&look()).0);
    }

    #[test]
    fn each_thing_of_the_host_fails() {
        let init = Process { pid: 7, command: "/sbin/init".to_owned() };
        assert!(!processes(&Look { processes: vec![init], ..look() }).0);
        assert!(!devices(&Look { virtio_devices: vec![3, 1], ..look() }).0, "a network card");
        assert!(!devices(&Look { virtio_devices: vec![3, 9], ..look() }).0, "a folder");
        assert!(!devices(&Look { virtio_devices: vec![], ..look() }).0, "nothing was seen");
        assert!(!devices(&Look { block_devices: vec!["sda".into()], ..look() }).0);
        assert!(!devices(&Look { pci_devices: vec!["0000:00:02.0".into()], ..look() }).0);
        assert!(!network(&Look { interfaces: vec!["lo".into(), "eth0".into()], ..look() }).0);
        assert!(!network(&Look { routes: vec!["eth0 00000000".into()], ..look() }).0);
        assert!(!network(&Look { routes6: vec!["00 eth0".into()], ..look() }).0);
    }

    #[test]
    fn one_target_that_is_reached_fails_and_so_does_an_outcome_that_is_missing() {
        let refused = json!({ "a": { "error": "refused" }, "b": { "error": "refused" } });
        let Value::Object(refused) = refused else { panic!("an object") };
        assert_eq!(none_reached(&refused), (true, "a, b: refused".to_owned()));
        let mut reached = refused.clone();
        reached.insert("b".to_owned(), json!({ "got": "connected" }));
        assert!(!none_reached(&reached).0);
        assert!(!none_reached(&Outcomes::new()).0, "nothing was tried");
        assert!(all_of(3, Value::Object(refused)).is_err());
    }
}
