//! Many clients at once with other people's servers, each in its VM, behind one gateway, for minutes: no answer may be
//! lost, doubled or somebody else's. Writes docs/soak.md, and fails where one is. Needs the registries of the world for
//! what is not in its home yet: no part of CI.

mod added;
mod client;
mod crowd;
mod kept;
mod ledger;
mod mark;
mod messages;
mod page;
mod tally;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use crate::cache::Kept as _;
use crate::checkout;
use crate::fixture::osvm;
use crate::servers::{Catalogue, Place, Server};
use crate::stage::Access;
use added::{Added, Seen};
use client::Door;
use crowd::{Asked, Crowd};
use kept::{Kept, Row, Times};
use tally::Tally;

/// Let many clients call many servers at once, and write docs/soak.md
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Only these servers; the page is then left as it is
    names: Vec<String>,
    /// The command under trial [default: built anew]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where images and base layers are kept
    #[arg(long, required_unless_present = "page")]
    home: Option<PathBuf>,
    /// How many clients, of both eras in turns
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..))]
    clients: u8,
    /// How long they call
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Write the page anew, of what was found last
    #[arg(long, conflicts_with_all = ["names", "program", "home"])]
    page: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(home) = args.home.as_ref().filter(|_| !args.page) else {
        let kept = Kept::read()?;
        ensure!(!kept.rows.is_empty(), "write the page: nothing was found yet, run without --page");
        return write(&kept);
    };
    let program = osvm(args.program.as_deref())?;
    let catalogue = Catalogue::read()?;
    let servers = args.chosen(&catalogue);
    ensure!(!servers.is_empty(), "xtask/servers.toml has nothing of these for many clients");
    let kept = args.soak(&Place::new(&program, home)?, &servers)?;
    kept.write()?;
    match args.names.is_empty() {
        true => write(&kept)?,
        false => print!("{}", page::text(&kept)),
    }
    no_fault(&kept)
}

impl Args {
    fn chosen<'c>(&self, catalogue: &'c Catalogue) -> Vec<&'c Server> {
        let is_named = |server: &Server| self.names.is_empty() || self.names.contains(&server.name);
        let servers = catalogue.servers.iter();
        servers.filter(|server| server.soak.is_some() && is_named(server)).collect()
    }

    fn soak(&self, place: &Place, servers: &[&Server]) -> Result<Kept> {
        let _added = Added::all(place, servers)?;
        let gateway = place.stage.gateway(Access::ByToken)?;
        let door = Door { url: format!("{}/mcp", gateway.url), token: place.stage.token()? };
        let asked: Vec<Asked<'_>> = servers
            .iter()
            .filter_map(|server| Some((server.name.as_str(), server.soak.as_ref()?)))
            .collect();
        let crowd = Crowd::gather(&door, self.clients.into(), asked, place.work())?;
        let long = Duration::try_from_secs_f64(self.minutes * 60.0).context("read --minutes")?;
        let run =
            crowd.run(long, || servers.iter().map(|server| Seen::of(place, server)).collect())?;
        let seen: Vec<Seen> = run.seen;
        let about = place.stage.about(&[])?;
        let rows = servers.iter().zip(seen).map(|(server, seen)| row(server, &run.tally, seen));
        Ok(Kept {
            about,
            clients: self.clients.into(),
            minutes: self.minutes,
            rows: rows.collect(),
            all: Times::of(&run.tally.all()),
            faults: run.faults,
        })
    }
}

fn row(server: &Server, tally: &Tally, seen: Seen) -> Row {
    let soak = server.soak.as_ref();
    Row {
        name: server.name.clone(),
        from: server.from.clone(),
        command: server.command_line(),
        version: seen.version,
        call: soak.map(|soak| soak.tool.clone()).unwrap_or_default(),
        times: Times::of(&tally.of(&server.name)),
        memory: seen.memory,
    }
}

impl Times {
    fn of(sorted: &[Duration]) -> Self {
        let seconds = |percent| tally::percentile(sorted, percent).as_secs_f64();
        Self { calls: sorted.len(), median: seconds(50), p99: seconds(99) }
    }
}

fn no_fault(kept: &Kept) -> Result<()> {
    let seen: Vec<_> = kept.faults.iter().map(page::told).collect();
    ensure!(seen.is_empty(), "{} faults: {}", seen.len(), seen.join("; "));
    let silent: Vec<_> = kept.rows.iter().filter(|row| row.times.calls == 0).collect();
    let silent: Vec<_> = silent.iter().map(|row| row.name.as_str()).collect();
    ensure!(silent.is_empty(), "never called: {}", silent.join(", "));
    Ok(())
}

fn write(kept: &Kept) -> Result<()> {
    let path = checkout().join("docs/soak.md");
    fs::write(&path, page::text(kept)).with_context(|| format!("write {}", path.display()))
}
