//! What a guest's way to a host costs, in a network of the benchmark's own: a small request over a connection that is
//! kept, the same over a new one each time, and a large download. One client, measured in the guest and on the host,
//! and beside the link's bare round trip: a name that is absent in a lent folder. The guest keeps nothing of such a
//! name, so each time one small message goes to a process of the host's and back, on the way that connections take.

mod network;
mod server;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::client;
use super::osvm::Osvm;
use super::table::Figure;
use network::Network;

/// Where the server is. The address is one for documentation, which counts as public.
const AT: &str = "203.0.113.7:8080";

/// What a request may cost beyond the link's bare round trip and the same request on the host, in milliseconds.
const OVERHEAD: f64 = 1.0;

pub(super) fn figures(program: &Path, runs: usize) -> Result<Vec<Figure>> {
    let network = Network::new()?;
    network.enter(|| server::start(AT))?;
    let folder = tempfile::tempdir()?;
    let measure = folder.path().join("client");
    client::compile("xtask/src/bench/hosts/client.rs", &measure)?;
    let osvm = Osvm::within(program, network.pid())?;
    let mount = format!("{}:/bench", folder.path().display());
    osvm.ok(&["mcp", "microvm", "launch", "hosts", "--allow", AT, "--mount", &mount])?;

    let here = |what: &str, count: usize| {
        let mut command = network.command(&measure);
        told(command.args([what, AT, &count.to_string()]))
    };
    let there = |what: &str, at: &str, count: usize| {
        let exec = ["mcp", "microvm", "exec", "hosts", "--", "/bench/client"];
        told(&mut osvm.command(&[&exec[..], &[what, at, &count.to_string()]].concat()))
    };
    let both = |what: &str, count: usize| {
        Ok::<_, anyhow::Error>([here(what, count)?, there(what, AT, count)?])
    };
    let link = there("absent", "/bench/absent", runs * 40)?;
    let [kept, new, download] =
        [both("kept", runs * 40)?, both("new", runs * 20)?, both("download", runs)?];
    Ok(vec![
        Figure::millis("link: a name looked up in a lent folder, from the guest", link),
        Figure::millis("request on a kept connection, on the host", kept[0]),
        Figure::millis("the same from the guest", kept[1]),
        Figure::millis(
            "of that the relay's share, beyond the link and the host",
            beyond(kept, link),
        )
        .at_most(OVERHEAD),
        Figure::millis("request on a new connection, on the host", new[0]),
        Figure::millis("the same from the guest", new[1]),
        // It is asked for, and then used.
        Figure::millis(
            "of that the relay's share, beyond twice the link and the host",
            beyond(new, link * 2),
        ),
        Figure::millis("download of 32 MiB, on the host", download[0]),
        Figure::millis("the same from the guest", download[1]).beside(download[0]),
    ])
}

fn beyond([here, there]: [Duration; 2], link: Duration) -> Duration {
    there.saturating_sub(here + link)
}

/// What a client tells that is run so.
fn told(client: &mut Command) -> Result<Duration> {
    let output = client.output().context("run the client")?;
    ensure!(output.status.success(), "client: {}", String::from_utf8_lossy(&output.stderr));
    client::told(&String::from_utf8(output.stdout)?)
}
