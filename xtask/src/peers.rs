//! Other people's MCP clients with one server, by itself and in a microVM, over stdio (`osvm mcp run`) and over HTTP
//! (the gateway): MCP Inspector's command, the SDKs for TypeScript and Python, and mcp-conform. Writes docs/peers.md,
//! and fails where a client gets less, or something else, through osvm. Needs npm, pip and some minutes: no part of CI.

mod conform;
mod inspector;
mod kept;
mod page;
mod place;
mod row;
mod sdk;
mod step;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;

use crate::cache::Kept as _;
use crate::checkout;
use crate::fixture::{Fixture, osvm};
use crate::packages::{NODE, Npm, Pypi};
use crate::stage::{Stage, said};
use kept::Kept;
use place::Places;
use row::{Peer, Row};

/// The packages that are tried.
const INSPECTOR: (&str, &str) = ("@modelcontextprotocol/inspector", "2.12.0");
const TYPESCRIPT_1: (&str, &str) = ("@modelcontextprotocol/sdk", "1.32.2");
const TYPESCRIPT_2: (&str, &str) = ("@modelcontextprotocol/client", "2.4.0");
const PYTHON: (&str, &str) = ("mcp", "2.3.0");
const CONFORM: (&str, &str) = ("mcp-conform", "0.1.0");

/// Try other people's MCP clients with osvm, and write docs/peers.md
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// Only these, by a part of their names; the page is then left as it is
    names: Vec<String>,
    /// The command under trial [default: built anew]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Write the page anew, of what was found last
    #[arg(long)]
    page: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.page {
        let kept = Kept::read()?;
        ensure!(!kept.rows.is_empty(), "write the page: nothing was found yet, run without --page");
        return write(&kept);
    }
    let program = osvm(args.program.as_deref())?;
    let (npm, pypi) = bring()?;
    let fixture = Fixture::build()?;
    let stage = Stage::new(&program)?;
    let places = Places::new(&stage, &fixture)?;
    let mut rows = Vec::new();
    for peer in peers(&npm, &pypi)?.iter().filter(|peer| args.wants(peer.name())) {
        rows.extend(row::rows(&**peer, &places)?);
    }
    ensure!(!rows.is_empty(), "no peer has such a name");
    if args.names.is_empty() {
        let kept = Kept { about: stage.about(&versions(&pypi)?)?, rows };
        kept.write()?;
        write(&kept)?;
        return all_the_same(&kept.rows);
    }
    print!("{}", page::table(&rows));
    all_the_same(&rows)
}

impl Args {
    fn wants(&self, peer: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| peer.contains(name.as_str()))
    }
}

fn bring() -> Result<(Npm, Pypi)> {
    let (npm, pypi) = ([INSPECTOR, TYPESCRIPT_1, TYPESCRIPT_2], [PYTHON, CONFORM]);
    let versions = |of: &[(&str, &str)]| {
        of.iter().map(|(_, version)| format!("-{version}")).collect::<String>()
    };
    let folders =
        [format!("peers-npm{}-{NODE}", versions(&npm)), format!("peers-pypi{}", versions(&pypi))];
    Ok((Npm::bring(&folders[0], &npm)?, Pypi::bring(&folders[1], &pypi)?))
}

fn peers<'a>(npm: &'a Npm, pypi: &'a Pypi) -> Result<Vec<Box<dyn Peer + 'a>>> {
    Ok(vec![
        Box::new(inspector::Inspector::new(npm)),
        Box::new(sdk::Sdk::typescript_1(npm)?),
        Box::new(sdk::Sdk::typescript_2(npm)?),
        Box::new(sdk::Sdk::python(pypi)?),
        Box::new(conform::Conform::new(pypi)),
    ])
}

/// What the peers run on; their own versions are in their names.
fn versions(pypi: &Pypi) -> Result<[String; 2]> {
    let python = said(pypi.python().arg("--version"))?;
    Ok([format!("Node.js {NODE}"), python.trim().to_owned()])
}

fn all_the_same(rows: &[Row]) -> Result<()> {
    let worse: Vec<_> = rows.iter().flat_map(Row::worse).collect();
    ensure!(worse.is_empty(), "not through osvm as by itself: {}", worse.join("; "));
    Ok(())
}

fn write(kept: &Kept) -> Result<()> {
    let path = checkout().join("docs/peers.md");
    fs::write(&path, page::text(kept)).with_context(|| format!("write {}", path.display()))
}
