//! `cargo xtask tidy`: holds the workspace to its own rules: who may depend on whom, and how a
//! source file begins, is named and where it may be unsafe. Formatting and lints are cargo's.

mod arrows;
mod sources;
mod workspace;

use anyhow::{Result, bail};

/// Check the workspace against its own rules.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    let workspace = workspace::load()?;
    let mut faults = arrows::faults(&workspace.packages);
    let mut remarks = Vec::new();
    for package in &workspace.packages {
        let found = sources::inspect(crate::checkout(), package)?;
        faults.extend(found.faults);
        remarks.extend(found.remarks);
    }
    remarks.iter().for_each(|remark| println!("remark: {remark}"));
    faults.iter().for_each(|fault| println!("fault: {fault}"));
    match faults.len() {
        0 => Ok(()),
        count => bail!("the workspace breaks {count} of its rules"),
    }
}
