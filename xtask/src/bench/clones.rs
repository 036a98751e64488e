//! What clones cost: their starts beside cold ones and beside a bare VMM's clones, their memory, many of them at once, and
//! calls that have one each; and VMs that were suspended.

mod calls;
mod leak;
mod memory;
mod start;
mod suspended;

use anyhow::Result;

use super::osvm::Osvm;
use super::table::Figure;
use super::{Args, timed};

/// Many clones take at most this part of the time that as many cold starts take.
const OF_COLD: f64 = 1.0 / 8.0;

pub(super) fn figures(osvm: &Osvm, args: &Args) -> Result<Vec<Figure>> {
    let runs = args.runs;
    let mut figures = start::demo(osvm, runs)?;
    if !args.without_node {
        figures.extend(start::node(osvm, runs)?);
    }
    figures.extend(suspended::figures(osvm, runs)?);
    figures.push(memory::figure(osvm)?);
    figures.extend(at_once(osvm, args.many)?);
    figures.extend(calls::figures(osvm, runs)?);
    if args.calls > 0 {
        figures.extend(leak::figures(osvm, args.calls)?);
    }
    Ok(figures)
}

/// By `launch-many`, with a template that is there.
fn at_once(osvm: &Osvm, count: usize) -> Result<Vec<Figure>> {
    let number = count.to_string();
    let launch = |level| {
        let many = ["mcp", "microvm", "launch-many", &number, "--memory", "128"];
        let many = [&many[..], &["--template", level]].concat();
        let took = timed(|| osvm.ok(&many).map(drop))?;
        osvm.ok(&["mcp", "microvm", "stop", "--all"])?;
        anyhow::Ok(took)
    };
    let (cold, clones) = (launch("none")?, launch("booted")?);
    let what = format!("launch-many {count} --memory 128");
    Ok(vec![
        Figure::millis(&format!("{what}, cold"), cold),
        Figure::millis(&format!("{what}, clones"), clones).against(cold, OF_COLD),
    ])
}
