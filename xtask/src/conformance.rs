//! The official MCP conformance suite against the same server twice: by itself, and in a VM behind osvm's gateway;
//! and its client scenarios against `osvm mcp call`. Writes docs/conformance.md, and fails when anything that passes
//! by itself fails behind osvm. Needs npm and some minutes: no part of CI.

mod clients;
mod kept;
mod page;
mod servers;
mod suite;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use crate::cache::Kept as _;
use crate::fixture::{Fixture, osvm};
use crate::{checkout, stage::Stage};
use clients::Caller;
use kept::Kept;
use suite::Suite;

/// Run the official MCP conformance suite against osvm, and write docs/conformance.md
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The command under trial [default: built anew]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Write the page anew, of what was found last
    #[arg(long)]
    page: bool,
    /// Be the client of one scenario, for the suite: call, through a relay in a VM, the server that is at this address
    #[arg(long, hide = true, value_name = "RELAY")]
    call: Option<PathBuf>,
    #[arg(hide = true, requires = "call")]
    url: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.page {
        let kept = Kept::read()?;
        ensure!(
            !kept.servers.is_empty(),
            "write the page: nothing was found yet, run without --page"
        );
        return write(&kept);
    }
    let program = osvm(args.program.as_deref())?;
    if let (Some(relay), Some(url)) = (&args.call, &args.url) {
        return Caller::new(program, relay, url)?.call();
    }
    let fixture = Fixture::build()?;
    let suite = Suite::bring()?;
    let stage = Stage::new(&program)?;
    let mut kept = Kept::read()?;
    kept.about = stage.about(&suite::versions())?;
    kept.servers = servers::run(&suite, &fixture, &stage)?;
    kept.clients = clients::run(&suite, &fixture, &stage)?;
    kept.write()?;
    write(&kept)?;
    let worse = servers::worse(&kept.servers);
    ensure!(worse.is_empty(), "passes by itself and not behind osvm: {}", worse.join("; "));
    Ok(())
}

fn write(kept: &Kept) -> Result<()> {
    let path = checkout().join("docs/conformance.md");
    fs::write(&path, page::text(kept)).with_context(|| format!("write {}", path.display()))
}
