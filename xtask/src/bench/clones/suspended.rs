//! A VM that was suspended, from a call to its reply, beside a clone's start.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result};

use super::start;
use crate::bench::osvm::{Osvm, is_firecrackers};
use crate::bench::table::{Figure, median};
use crate::bench::timed;

/// What waking one may take, as a multiple of a clone's start.
const BY_QEMU: f64 = 4.0;
const BY_FIRECRACKER: f64 = 2.0;

const SERVER: [&str; 3] = ["asleep", "--memory", "256"];

/// What the server holds, in MiB.
const HELD: u64 = 60;

pub(super) fn figures(osvm: &Osvm, runs: usize) -> Result<Vec<Figure>> {
    let name = SERVER[0];
    let clones = (0..runs).map(|_| start::whole(osvm, &SERVER, "booted"));
    let clones: Vec<Duration> = clones.collect::<Result<_>>()?;
    start::launch(osvm, &SERVER, "booted")?;
    let echo = || timed(|| osvm.ok(&["mcp", "call", name, "echo", r#"{"text":"x"}"#]).map(drop));
    echo()?;
    osvm.ok(&["mcp", "microvm", "suspend", name])?;
    let idle = on_disk(osvm, name)?;
    echo()?;
    let held = format!(r#"{{"mib":{HELD},"keep":true}}"#);
    osvm.ok(&["mcp", "call", name, "allocate", &held])?;
    let (mut awake, mut suspended, mut woken) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        awake.push(echo()?);
        suspended.push(timed(|| osvm.ok(&["mcp", "microvm", "suspend", name]).map(drop))?);
        woken.push(echo()?);
    }
    osvm.ok(&["mcp", "microvm", "suspend", name])?;
    let full = on_disk(osvm, name)?;
    let target = if is_firecrackers(&osvm.vm(name)?) { BY_FIRECRACKER } else { BY_QEMU };
    start::stop(osvm, &SERVER)?;
    let what = format!("256 MiB with {HELD} MiB held by the demo server");
    Ok(vec![
        Figure::times("demo server with 256 MiB as a clone, to its first MCP reply", &clones),
        Figure::times(&format!("{what}: suspended"), &suspended),
        Figure::times("`osvm mcp call`, its VM awake", &awake),
        Figure::times("the same, its VM suspended, to the reply", &woken)
            .against(median(&clones), target),
        Figure::mib("on disk meanwhile, beyond the template", full),
        Figure::mib("the same of one that holds nothing", idle),
    ])
}

/// What a suspended VM takes there, in MiB. The template's files have other names as well.
fn on_disk(osvm: &Osvm, name: &str) -> Result<f64> {
    let vm = osvm.vm(name)?;
    let bed = osvm.home().join("suspended").join(vm["id"].as_str().context("no id")?);
    let mut blocks = 0;
    for file in fs::read_dir(bed)? {
        let file = file?.metadata()?;
        blocks += if file.is_file() { file.blocks() } else { 0 };
    }
    Ok((blocks * 512) as f64 / f64::from(1 << 20))
}
