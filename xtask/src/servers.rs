//! Other people's servers, one after the other, as their READMEs name them: added, started in a VM, tools listed, one
//! call made. Writes the table of docs/servers.md. Takes an hour or more, and the registries of the world: no part
//! of CI.

mod catalogue;
mod table;
mod trial;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use crate::checkout;
use catalogue::Catalogue;
use table::Row;
use trial::Stage;

/// Try the servers of xtask/servers.toml, and write docs/servers.md
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Only these; the table then goes to standard output
    names: Vec<String>,
    /// The command under trial
    #[arg(long, default_value = "target/release/osvm")]
    program: PathBuf,
    /// Where images and base layers are kept; a new folder when absent
    #[arg(long)]
    home: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let catalogue = Catalogue::read(&checkout().join("xtask/servers.toml"))?;
    let stage = Stage::new(&args.program, args.home.as_deref())?;
    let chosen: Vec<_> =
        catalogue.servers.iter().filter(|server| args.wants(&server.name)).collect();
    ensure!(!chosen.is_empty(), "no server of xtask/servers.toml has such a name");
    let mut rows = Vec::new();
    for server in chosen {
        eprintln!("{}: {}", server.name, server.command_line());
        let row = Row::of(server, stage.attempt(server));
        eprintln!("{}", row.line());
        rows.push(row);
    }
    let text = table::page(&rows, &stage.about()?);
    if !args.names.is_empty() {
        println!("{text}");
        return Ok(());
    }
    let page = checkout().join("docs/servers.md");
    fs::write(&page, text).with_context(|| format!("write {}", page.display()))
}

impl Args {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|one| one == name)
    }
}
