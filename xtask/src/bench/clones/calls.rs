//! A call that has a VM of its own, beside the same call in a session of its own with a VM that runs.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::osvm::Osvm;
use crate::bench::pipe::Pipe;
use crate::bench::table::{Figure, median};
use crate::bench::timed;

/// What a VM of its own may make of a call.
const TARGET: f64 = 1.5;

pub(super) const ONCE: &str = "once";

pub(super) fn figures(osvm: &Osvm, runs: usize) -> Result<Vec<Figure>> {
    let running = "running";
    osvm.ok(&["mcp", "add", running, "--memory", "128"])?;
    osvm.ok(&["mcp", "microvm", "launch", running])?;
    add(osvm)?;
    // The first of each is told what is said without a server later on.
    in_session(osvm, running)?;
    in_session(osvm, ONCE)?;
    let (mut sessions, mut apart) = (Vec::new(), Vec::new());
    for _ in 0..runs * 4 {
        sessions.push(in_session(osvm, running)?);
        apart.push(in_session(osvm, ONCE)?);
    }
    let commands = (0..runs * 4).map(|_| timed(|| call(osvm))).collect::<Result<Vec<_>>>()?;
    osvm.ok(&["mcp", "microvm", "stop", running])?;
    let floor = median(&sessions);
    Ok(vec![
        Figure::times(
            "`run` with one call, in a VM that runs: a server's start and the call",
            &sessions,
        ),
        Figure::times("the same, in a VM of its own", &apart).against(floor, TARGET),
        Figure::times("`osvm mcp call` in a VM of its own, whole process", &commands).beside(floor),
    ])
}

/// The demo server, with a VM for each call.
pub(super) fn add(osvm: &Osvm) -> Result<()> {
    osvm.ok(&["mcp", "add", ONCE, "--isolation", "ephemeral", "--memory", "128"]).map(drop)
}

pub(super) fn call(osvm: &Osvm) -> Result<()> {
    osvm.ok(&["mcp", "call", ONCE, "echo", r#"{"text":"x"}"#]).map(drop)
}

/// From the start of the client's command to the reply to its call.
fn in_session(osvm: &Osvm, server: &str) -> Result<Duration> {
    let begin = Instant::now();
    let mut run = osvm.command(&["mcp", "run", server]);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut pipe = Pipe::open(&mut child)?;
    pipe.call()?;
    let took = begin.elapsed();
    drop(pipe);
    child.wait()?;
    Ok(took)
}
