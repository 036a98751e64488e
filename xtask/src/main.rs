//! The project's own chores, run as `cargo xtask <chore>`. One file per chore.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "chores start programs and read the environment")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "chores talk to a developer")]

mod bench;
mod cache;
mod conformance;
mod fixture;
mod kernel;
mod lab;
mod packages;
mod peers;
mod servers;
mod soak;
mod stage;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    Bench(bench::Args),
    Conformance(conformance::Args),
    Kernel(kernel::Args),
    Lab(lab::Args),
    Peers(peers::Args),
    Servers(servers::Args),
    Soak(soak::Args),
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    match Chore::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Chore {
    fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Bench(args) => bench::run(args)?,
            Self::Conformance(args) => conformance::run(args)?,
            Self::Kernel(args) => kernel::run(args)?,
            Self::Lab(args) => return lab::run(args),
            Self::Peers(args) => peers::run(args)?,
            Self::Servers(args) => servers::run(args)?,
            Self::Soak(args) => soak::run(args)?,
            Self::Tidy(args) => tidy::run(args)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The checkout that this program was built from.
fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout")
}
