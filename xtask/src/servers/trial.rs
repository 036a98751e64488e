//! One server, from its name to its answer, by the command alone.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::catalogue::Server;
use super::outcomes::Outcome;
use super::place::Place;

/// Of a server that asks for none itself, in MiB.
const MEMORY: u32 = 512;

pub(super) fn attempt(place: &Place, server: &Server) -> Outcome {
    let mut outcome = Outcome::default();
    let ended = go(place, server, &mut outcome);
    place.remove(server);
    Outcome { failure: ended.err().map(|error| format!("{error:#}")), ..outcome }
}

fn go(place: &Place, server: &Server, outcome: &mut Outcome) -> Result<()> {
    let made = place.prepare(server)?;
    let name = server.name.as_str();
    outcome.add = Some(timed(|| place.add(server, &made, MEMORY))?.1);
    outcome.disk = disk(place, name)?;
    let _ = place.stage.command(&["mcp", "microvm", "stop", name]).output();
    let (listed, start) = timed(|| place.osvm(&["mcp", "tools", name, "--json"]))?;
    outcome.start = Some(start);
    outcome.tools = serde_json::from_str::<Value>(&listed)?.as_array().map(Vec::len);
    outcome.memory = place.memory(name)?;
    let (answer, call) =
        timed(|| place.osvm(&["mcp", "call", name, &server.tool, &server.arguments]))?;
    outcome.call = Some(call);
    ensure!(answer.contains(&server.answer), "{} answered {answer:?}", server.tool);
    Ok(())
}

/// Of the server's image, in MiB.
fn disk(place: &Place, name: &str) -> Result<Option<u64>> {
    let size = place.image(name)?["size_bytes"].as_u64();
    Ok(size.map(|bytes| bytes >> 20))
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed()))
}
