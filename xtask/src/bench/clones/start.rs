//! One launch after the other, cold and as a clone in turns.

use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};

use crate::bench::bare::echo::Echo;
use crate::bench::client;
use crate::bench::images::{NODE, SERVER, fixtures};
use crate::bench::osvm::Osvm;
use crate::bench::processes::memory_kib;
use crate::bench::table::{Figure, median};

const DEMO: &str = "/usr/bin/osvm-demo";

/// What a clone may take, as a multiple of a bare VMM's and of its server's start in a guest that has run it before.
const OF_BARE: f64 = 1.5;
/// What a clone in which the server waits may take of a cold start.
const OF_COLD: f64 = 1.0 / 10.0;
/// What jail, daemon and agent may add to a clone, in milliseconds.
const ADDED: f64 = 15.0;

/// How long a rehearsal may be waited for: it comes when all has been quiet for a while.
const PATIENCE: Duration = Duration::from_secs(300);

/// The demo server, beside a bare VMM.
pub(super) fn demo(osvm: &Osvm, runs: usize) -> Result<Vec<Figure>> {
    let server = ["start", "--memory", "128"];
    let echo = {
        // A clone may not know what its template was booted with.
        launch(osvm, &server, "none")?;
        let (pid, run_dir) = osvm.vmm(server[0])?;
        let echo = Echo::of(pid, &run_dir)?;
        stop(osvm, &server)?;
        echo
    };
    // Its VM makes the template, too.
    let warm = in_warm_guest(osvm, runs)?;
    let (mut bare, mut cold, mut clones) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        bare.push(echo.clone()?);
        cold.push(once(osvm, &server, "none")?);
        clones.push(once(osvm, &server, "booted")?);
    }
    let floor = median(&bare) + median(&warm);
    let times = |which: fn(&Start) -> Duration| clones.iter().map(which).collect::<Vec<_>>();
    let cold: Vec<_> = cold.iter().map(|start| start.whole).collect();
    let whole = times(|start| start.whole);
    let until_agent = times(|start| start.agent.saturating_sub(start.prepared));
    let added = median(&times(|start| start.agent)).saturating_sub(median(&bare));
    let what = "demo server as a clone, to its first MCP reply";
    Ok(vec![
        Figure::times("a bare VMM's clone, to its first echo", &bare),
        Figure::times("demo server in a guest that has run it before, start to reply", &warm),
        Figure::millis("both together", floor),
        Figure::times("demo server cold, `launch` to its first MCP reply", &cold),
        Figure::times(&format!("{what}, beside both"), &whole).against(floor, OF_BARE),
        Figure::times(&format!("{what}, beside cold"), &whole).beside(median(&cold)),
        Figure::times("of that: until there is a VMM to start", &times(|start| start.prepared)),
        Figure::times("of that: until its agent has answered", &until_agent),
        Figure::times("of that: the server's start", &times(Start::of_server)),
        Figure::times("of that: the command", &times(Start::of_command)),
        Figure::millis("until the agent has answered, beyond the bare clone", added).at_most(ADDED),
    ])
}

/// `server-everything` on Node.
pub(super) fn node(osvm: &Osvm, runs: usize) -> Result<Vec<Figure>> {
    let image = fixtures()?.join("everything/root").display().to_string();
    osvm.ok(&["image", "build", &image])?;
    let command = format!("{NODE} {SERVER} stdio");
    let server = ["node", "--image", &image, "--memory", "512", "--command", &command];
    let levels = ["booted", "started"];
    // The first makes the template.
    levels.iter().try_for_each(|level| whole(osvm, &server, level).map(drop))?;
    let (mut cold, mut clones, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    let before = templates(osvm);
    for _ in 0..runs {
        cold.push(whole(osvm, &server, "none")?);
        clones.push(whole(osvm, &server, "booted")?);
        waiting.push(whole(osvm, &server, "started")?);
    }
    let memory = unique(osvm, &server)?;
    wait_for("a rehearsal", || templates(osvm) > before)?;
    let warm = (0..runs).map(|_| whole(osvm, &server, "booted")).collect::<Result<Vec<_>>>()?;
    let memory_warm = unique(osvm, &server)?;
    let clone = "`server-everything` as a clone, the same";
    let of_clone = "memory of such a clone that no other has, VMM included";
    Ok(vec![
        Figure::times("`server-everything` cold, `launch` to its first MCP reply", &cold),
        Figure::times(clone, &clones).beside(median(&cold)),
        Figure::mib(of_clone, memory),
        Figure::times(&format!("{clone}, after its rehearsal"), &warm).beside(median(&clones)),
        Figure::mib(&format!("{of_clone}, after its rehearsal"), memory_warm),
        Figure::times(&format!("{clone}, with `template = \"started\"`"), &waiting)
            .against(median(&cold), OF_COLD),
    ])
}

fn templates(osvm: &Osvm) -> usize {
    let all = fs::read_dir(osvm.home().join("templates")).into_iter().flatten().flatten();
    all.filter(|entry| entry.path().join("template.json").exists()).count()
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !is_there() {
        ensure!(begin.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Of a clone's memory, in MiB, when two of them are ready: what a single one shares with nobody may be its template's.
fn unique(osvm: &Osvm, server: &[&str]) -> Result<f64> {
    let named = |name| [&[name], &server[1..]].concat();
    let both = ["one", "other"].map(named);
    both.iter().try_for_each(|server| launch(osvm, server, "booted"))?;
    let vms = osvm.vms()?;
    let kib = vms.iter().map(|vm| memory_kib(&vm["pid"].to_string(), "Private_"));
    let kib = kib.sum::<Result<u64>>()?;
    both.iter().try_for_each(|server| stop(osvm, server))?;
    Ok(kib as f64 / 1024.0 / both.len() as f64)
}

/// The server, again and again, in one guest.
fn in_warm_guest(osvm: &Osvm, runs: usize) -> Result<Vec<Duration>> {
    let folder = tempfile::Builder::new().prefix("bench-starts-").tempdir()?;
    client::compile("xtask/src/bench/clones/starts.rs", &folder.path().join("starts"))?;
    let lent = format!("{}:/bench", folder.path().display());
    let server = ["warm", "--memory", "128", "--mount", &lent];
    launch(osvm, &server, "booted")?;
    let exec = ["mcp", "microvm", "exec", server[0], "--", "/bench/starts"];
    let told = osvm.ok(&[&exec[..], &[&(runs * 4).to_string(), DEMO]].concat())?;
    stop(osvm, &server)?;
    client::times(&told)
}

/// What a launch took: all of it, and by the daemon's clock since it was asked.
struct Start {
    whole: Duration,
    prepared: Duration,
    agent: Duration,
    ready: Duration,
}

impl Start {
    fn of_server(&self) -> Duration {
        self.ready.saturating_sub(self.agent)
    }

    fn of_command(&self) -> Duration {
        self.whole.saturating_sub(self.ready)
    }
}

fn once(osvm: &Osvm, server: &[&str], level: &str) -> Result<Start> {
    let begin = Instant::now();
    launch(osvm, server, level)?;
    let whole = begin.elapsed();
    let vm = osvm.vm(server[0])?;
    stop(osvm, server)?;
    let at = |name: &str| {
        let millis = vm["timings"][name].as_u64();
        millis.map(Duration::from_millis).with_context(|| format!("read a VM's {name}"))
    };
    Ok(Start {
        whole,
        prepared: at("prepared_ms")?,
        agent: at("agent_ms")?,
        ready: at("ready_ms")?,
    })
}

pub(super) fn whole(osvm: &Osvm, server: &[&str], level: &str) -> Result<Duration> {
    Ok(once(osvm, server, level)?.whole)
}

pub(super) fn launch(osvm: &Osvm, server: &[&str], level: &str) -> Result<()> {
    let launch = ["mcp", "microvm", "launch"];
    osvm.ok(&[&launch[..], server, &["--template", level]].concat()).map(drop)
}

pub(super) fn stop(osvm: &Osvm, server: &[&str]) -> Result<()> {
    osvm.ok(&["mcp", "microvm", "stop", server[0]]).map(drop)
}
