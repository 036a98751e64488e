//! Other people's servers, one after the other, as their READMEs name them: added, started in a VM, tools listed, one
//! call made. Writes the table of docs/servers.md. Takes an hour or more, and the registries of the world: no part
//! of CI.

mod catalogue;
mod outcomes;
mod page;
mod place;
mod trial;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use crate::checkout;
pub(crate) use catalogue::{Catalogue, Server, Soak};
use outcomes::Outcomes;
pub(crate) use place::{Made, Place};

/// Try the servers of xtask/servers.toml, and write docs/servers.md
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Only these, also if they were tried before; otherwise all that were not
    names: Vec<String>,
    /// The command under trial
    #[arg(long, default_value = "target/release/osvm")]
    program: PathBuf,
    /// Where images, base layers and what was seen are kept
    #[arg(long)]
    home: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let catalogue = Catalogue::read()?;
    let place = Place::new(&args.program, &args.home)?;
    let mut outcomes = Outcomes::of(&args.home)?;
    let is_chosen = |server: &&Server| match &args.names[..] {
        [] => !outcomes.has(&server.name),
        names => names.contains(&server.name),
    };
    let chosen: Vec<_> = catalogue.servers.iter().filter(is_chosen).collect();
    ensure!(args.names.is_empty() || !chosen.is_empty(), "xtask/servers.toml has none of these");
    for server in chosen {
        eprintln!("{}: {}", server.name, server.command_line());
        let outcome = trial::attempt(&place, server);
        eprintln!("{}", page::row(server, &outcome));
        outcomes.keep(&server.name, outcome)?;
    }
    let path = checkout().join("docs/servers.md");
    let about = place.stage.about(&[])?.join(", ");
    let text = page::text(&catalogue, &outcomes, &about);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
