//! With a real relay process, which has given everything up, and real connections: both in a network that the
//! tests make for themselves, with public addresses, name servers and proxies of its own.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests start programs, and tell them by variables"
)]

mod flow;
mod guest;
mod names;
mod net;
mod proxies;
mod screens;

use std::env;
use std::os::fd::AsFd;
use std::process::Command;

use super::{ProxySettings, Settings, Sources};

/// Addresses that count as public, and are this network's own.
const NETWORK: &str = "ip link set lo up \
    && ip addr add 203.0.113.7/32 dev lo \
    && ip addr add 203.0.113.8/32 dev lo \
    && ip addr add 2001:db8::7/128 dev lo nodad \
    && exec \"$0\" \"$@\"";

/// Tells the tests that wait for it that the network is not the machine's own.
const INSIDE: &str = "RELAY_NETWORK";

/// What the relay process of a test is told by.
const FOLDER: &str = "RELAY_FOLDER";
const PROXY: &str = "RELAY_PROXY";
const IDLE: &str = "RELAY_IDLE";

/// Runs all tests that wait for it, those of the folder beside this file, one after the other.
#[test]
fn guests_reach_what_they_may_and_nothing_else() {
    let mut command = in_a_network();
    if !command.arg("true").status().is_ok_and(|status| status.success()) {
        return eprintln!("skipped: unshare and ip make no network here");
    }
    let mut command = in_a_network();
    command.arg(env::current_exe().unwrap()).env(INSIDE, "made");
    command.args(["--ignored", "--test-threads=1", "--skip", "the_relay_process"]);
    let output = command.arg("hosts::tests::").output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!shown.contains(" 0 passed"), "{shown}");
}

fn in_a_network() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", NETWORK]);
    command
}

#[test]
#[ignore = "started by the other tests, with a control socket as its input"]
fn the_relay_process() {
    let folder = std::path::PathBuf::from(env::var_os(FOLDER).unwrap());
    let proxy = env::var(PROXY).unwrap();
    let idle = env::var(IDLE).unwrap().parse().unwrap();
    let settings = Settings {
        sources: Sources { resolv_conf: folder.join("resolv.conf"), hosts: folder.join("hosts") },
        proxies: ProxySettings { http: proxy.clone(), https: proxy, ..Default::default() },
        idle: std::time::Duration::from_millis(idle),
    };
    let control = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    super::serve(control, &settings).unwrap();
}
