//! What the gateway costs by itself: the same server as a host process, alone and behind the gateway and its peers. A
//! call is one of the demo server's `echo`. Peers are brought by npm and pip, in the versions that are named here.

mod client;
mod peers;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::built;
use super::pipe::Pipe;
use super::table::{Figure, median};
use client::Client;
use peers::Serving;

/// How long clients call, when there are several.
const LONG: Duration = Duration::from_secs(4);
/// Calls of one client, and of these the first ones, which are not counted.
const CALLS: usize = 600;
const WARM: usize = 100;
const TURNS: usize = 5;
/// Sessions that are open and idle.
const SESSIONS: usize = 64;

/// What the gateway may add to a call of one client, in milliseconds at the median.
const ADDED: f64 = 0.3;
/// What it may have as many calls a second as the best of its peers: at least twice.
const AS_FAST: f64 = 0.5;
/// What an idle session may take, in KiB.
const SESSION: f64 = 100.0;

pub(super) fn figures() -> Result<Vec<Figure>> {
    let server = built(&["--package", "osvm-demo"], "osvm-demo")?;
    let gateway = built(&["--package", "osvm-mcp", "--example", "gateway"], "examples/gateway")?;
    let mut candidates = vec![("osvm's gateway", Serving::ours(&gateway, &server)?)];
    for peer in peers::all()? {
        candidates.push((peer.name, peer.serve(&server)?));
    }
    // In turns, so that a busy moment is everybody's.
    let (mut alones, mut ones) = (Vec::new(), vec![Vec::new(); candidates.len()]);
    for _ in 0..TURNS {
        alones.push(alone(&server)?);
        for (one, (name, serving)) in ones.iter_mut().zip(&candidates) {
            one.push(one_client(serving).with_context(|| format!("measure {name}"))?);
        }
    }
    let alone = median(&alones);
    let mut figures = vec![Figure::millis("a call of the server alone, over its pipes", alone)];
    let mut best = Duration::MAX;
    let mut ours = Vec::new();
    for (number, (name, serving)) in candidates.iter().enumerate() {
        let added = median(&ones[number]).saturating_sub(alone);
        let figure = Figure::millis(&format!("{name} adds to it, with one client"), added);
        figures.push(if number == 0 { figure.at_most(ADDED) } else { figure });
        for clients in [8, 32] {
            let each = crowd(serving, clients).with_context(|| format!("measure {name}"))?;
            let what = format!("time per call of {name}, with {clients} clients");
            if number == 0 {
                ours.push((what, clients, each));
                continue;
            }
            figures.push(Figure::millis(&what, each));
            if clients == 32 {
                best = best.min(each);
            }
        }
    }
    for (what, clients, each) in ours {
        let figure = Figure::millis(&what, each);
        figures.push(if clients == 32 { figure.against(best, AS_FAST) } else { figure });
    }
    let session = memory(&candidates[0].1)?;
    figures
        .push(Figure::kib("memory of the gateway for an idle session", session).at_most(SESSION));
    Ok(figures)
}

fn alone(server: &Path) -> Result<Duration> {
    let mut child = Command::new(server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut pipe = Pipe::open(&mut child)?;
    let times = calls(CALLS, || pipe.call());
    child.kill()?;
    child.wait()?;
    Ok(median(&times?))
}

fn one_client(serving: &Serving) -> Result<Duration> {
    let mut client = Client::open(&serving.url)?;
    Ok(median(&calls(CALLS, || client.call())?))
}

fn calls(count: usize, mut call: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 0..count {
        let begin = Instant::now();
        call()?;
        if number >= WARM {
            times.push(begin.elapsed());
        }
    }
    Ok(times)
}

/// Time per call of all clients together.
fn crowd(serving: &Serving, clients: usize) -> Result<Duration> {
    let open = (0..clients).map(|_| Client::open(&serving.url));
    let open = open.collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    let running = open.into_iter().map(|mut client| {
        thread::spawn(move || {
            let mut count = 0;
            while begin.elapsed() < LONG {
                client.call()?;
                count += 1;
            }
            Ok::<u32, anyhow::Error>(count)
        })
    });
    let running: Vec<_> = running.collect();
    let mut count = 0;
    for client in running {
        count += client.join().expect("a client does not panic")?;
    }
    Ok(begin.elapsed() / count.max(1))
}

/// What each of many sessions adds to the process, in KiB.
fn memory(serving: &Serving) -> Result<f64> {
    let first = Client::open(&serving.url)?;
    let before = serving.resident_kib()?;
    let clients = (0..SESSIONS).map(|_| Client::open(&serving.url));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let after = serving.resident_kib()?;
    drop((first, clients));
    Ok(after.saturating_sub(before) as f64 / SESSIONS as f64)
}
