//! `cargo xtask bench`: the figures of SPECIFICATION.md, each beside its floor, in one run.

mod bare;
mod client;
mod clones;
mod crowd;
mod folders;
mod gateway;
mod hosts;
mod images;
mod listing;
mod osvm;
mod pipe;
mod processes;
mod sandboxes;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use osvm::Osvm;
use table::{Figure, median};

/// Measure osvm on this machine
///
/// Builds the release, launches VMs in a home of its own, and prints a table. Times are medians;
/// what matters is the ratio to the floor measured in the same run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs of each measurement
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// VMs launched at once
    #[arg(long, default_value_t = 8)]
    many: usize,
    /// VMs that are there at once, for the memory that each costs; 0 leaves it out
    #[arg(long, default_value_t = 0, value_name = "N")]
    crowd: usize,
    /// Servers that are registered and listed at once, none of them running; 0 leaves it out
    #[arg(long, default_value_t = 0, value_name = "N")]
    listed: usize,
    /// Also measure what a guest's way to a host costs; needs root, for a network of its own
    #[arg(long)]
    hosts: bool,
    /// Also measure what a lent folder costs; needs QEMU, and builds a kernel for it
    #[arg(long)]
    folders: bool,
    /// Also measure what images cost: the start of a server of npm's, and the daemon's memory
    #[arg(long)]
    images: bool,
    /// Measure the gateway instead, beside others; needs npm and Python
    #[arg(long)]
    gateway: bool,
    /// Measure clones instead, beside cold starts and a bare VMM's clones
    #[arg(long)]
    clones: bool,
    /// Calls in a row that have a VM each, after which nothing may be left; 0 leaves it out
    #[arg(long, default_value_t = 0, value_name = "N", requires = "clones")]
    calls: usize,
    /// Leave out servers on Node, which take minutes to start where emulation is emulated
    #[arg(long)]
    without_node: bool,
    /// Measure what users would pick instead, beside clones: bare processes, bwrap and runsc, where they are on PATH
    #[arg(long, conflicts_with = "clones")]
    sandboxes: bool,
    /// The osvm to measure [default: the release that is now built]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// What a launch may take, as a multiple of a bare VMM's boot
    #[arg(long, default_value_t = 1.4, value_name = "RATIO")]
    launch_target: f64,
    /// Folder for the results as JSON
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.gateway {
        let figures = gateway::figures()?;
        print!("{}", table::text(&figures));
        return table::save(&figures, &args.out);
    }
    let program = args.program.clone().map_or_else(build, Ok)?;
    let osvm = Osvm::new(&program)?;
    if args.clones || args.sandboxes {
        // Of servers that are registered, too. Node takes its time on a busy machine.
        let configuration = "[microvm]\ntemplate = \"booted\"\nlaunch_timeout_seconds = 600\n";
        std::fs::write(osvm.home().join("isolation_config.toml"), configuration)?;
        let figures = match args.clones {
            true => clones::figures(&osvm, args)?,
            false => sandboxes::figures(&osvm, args.runs)?,
        };
        println!("{}\n", osvm.about()?);
        print!("{}", table::text(&figures));
        return table::save(&figures, &args.out);
    }
    let mut figures = Vec::new();
    figures.extend(launch(&osvm, args.runs, args.launch_target)?);
    figures.extend(call(&osvm, args.runs)?);
    figures.extend(memory(&osvm, 4)?);
    figures.extend(many(&osvm, args.many)?);
    figures.push(help(&osvm, args.runs)?);
    if args.crowd > 0 {
        figures.extend(crowd::figures(&osvm, args.crowd)?);
    }
    if args.listed > 0 {
        figures.extend(listing::figures(&osvm, args.listed, args.runs)?);
    }
    if args.images {
        figures.extend(images::figures(&osvm, args.runs)?);
    }
    if args.hosts {
        figures.extend(hosts::figures(&program, args.runs)?);
    }
    if args.folders {
        figures.extend(folders::figures(&program, args.runs)?);
    }
    print!("{}", table::text(&figures));
    table::save(&figures, &args.out)
}

fn build() -> Result<PathBuf> {
    built(&["--package", "osvm"], "osvm")
}

/// A program of the release, where cargo has put it.
fn built(what: &[&str], program: &str) -> Result<PathBuf> {
    let built = Command::new("cargo").args(["build", "--release"]).args(what).status()?;
    ensure!(built.success(), "build {program}");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Ok(target.join("release").join(program))
}

/// `launch` to the first MCP reply, against a bare VMM with the same kernel and initramfs to its
/// first user-space line.
fn launch(osvm: &Osvm, runs: usize, target: f64) -> Result<Vec<Figure>> {
    let (mut floors, mut launches) = (Vec::new(), Vec::new());
    let machine = {
        osvm.ok(&["mcp", "microvm", "launch", "bench"])?;
        let (pid, run_dir) = osvm.vmm("bench")?;
        let machine = bare::Machine::of(pid, &run_dir)?;
        osvm.ok(&["mcp", "microvm", "stop", "bench"])?;
        machine
    };
    for _ in 0..runs {
        floors.push(machine.boot()?);
        launches.push(timed(|| osvm.ok(&["mcp", "microvm", "launch", "bench"]).map(drop))?);
        osvm.ok(&["mcp", "microvm", "stop", "bench"])?;
    }
    let (floor, launch) = (median(&floors), median(&launches));
    Ok(vec![
        Figure::millis("bare VMM to its first user-space line", floor),
        Figure::millis("launch to first MCP reply", launch).against(floor, target),
    ])
}

/// A whole `call` process with a VM that is up, and what of it is the guest's part: the time of the
/// same request on a connection that is open already.
fn call(osvm: &Osvm, runs: usize) -> Result<Vec<Figure>> {
    osvm.ok(&["mcp", "microvm", "launch", "bench"])?;
    let echo = ["mcp", "call", "bench", "echo", r#"{"text":"x"}"#];
    let calls: Vec<_> =
        (0..runs * 8).map(|_| timed(|| osvm.ok(&echo).map(drop))).collect::<Result<_>>()?;
    let guest = osvm.conversation("talk", runs * 8)?;
    osvm.ok(&["mcp", "microvm", "stop", "bench"])?;
    let (call, guest) = (median(&calls), median(&guest));
    Ok(vec![
        Figure::millis("the same request in an open `run` session", guest),
        Figure::millis("`osvm mcp call`, whole process", call).at_most(100.0),
        Figure::millis("of that osvm's own share", call.saturating_sub(guest)).at_most(10.0),
    ])
}

/// The daemon alone, and with VMs.
fn memory(osvm: &Osvm, count: usize) -> Result<Vec<Figure>> {
    let idle = osvm.daemon_resident()?;
    let names: Vec<_> = (0..count).map(|n| format!("memory-{n}")).collect();
    for name in &names {
        osvm.ok(&["mcp", "microvm", "launch", name, "--memory", "128"])?;
    }
    let busy = osvm.daemon_resident()?;
    osvm.ok(&["mcp", "microvm", "stop", "--all"])?;
    let each = busy.saturating_sub(idle) as f64 / count as f64;
    Ok(vec![
        Figure::mib("daemon, resident, after the runs above", idle as f64).at_most(20.0),
        Figure::mib("more for each running VM", each).at_most(1.0),
    ])
}

/// `launch-many` against the processor time of the same launches, spread over the processors.
fn many(osvm: &Osvm, count: usize) -> Result<Vec<Figure>> {
    let processors = std::thread::available_parallelism()?.get();
    let args = ["mcp", "microvm", "launch-many", &count.to_string(), "--memory", "128"];
    let took = timed(|| osvm.ok(&args).map(drop))?;
    let floor = osvm.cpu_of_all()? / u32::try_from(processors).context("count processors")?;
    osvm.ok(&["mcp", "microvm", "stop", "--all"])?;
    let floor_name = format!("processor time of {count} launches over {processors} processors");
    let what = format!("launch-many {count} --memory 128");
    Ok(vec![Figure::millis(&floor_name, floor), Figure::millis(&what, took).against(floor, 1.2)])
}

fn help(osvm: &Osvm, runs: usize) -> Result<Figure> {
    let times: Vec<_> =
        (0..runs * 4).map(|_| timed(|| osvm.ok(&["--help"]).map(drop))).collect::<Result<_>>()?;
    Ok(Figure::millis("`osvm --help`", median(&times)).at_most(20.0))
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
