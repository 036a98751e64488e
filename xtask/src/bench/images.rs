//! What images cost: the start of a server of npm's beside the same by hand, and the daemon's memory.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::osvm::Osvm;
use super::table::{Figure, median};
use crate::checkout;

pub(super) const NODE: &str = "/usr/bin/node";
pub(super) const SERVER: &str =
    "/app/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
/// Another server of the same image, which leaves the guest's processor and memory to whoever is started by hand.
const SHELL: &str = r#"while read -r line; do
    id=${line#*'"id":'}; id=${id%%,*}
    case $line in
    *'"initialize"'*) echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"shell\",\"version\":\"0\"}}}" ;;
    *'"tools/list"'*) echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"tools\":[]}}" ;;
    esac
done"#;
const BUSYBOX: &str = "/bin/busybox";
const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"0"}}}"#;

/// Names in the large image, and bytes of its one large file.
const FOLDERS: usize = 1_000;
const FILES: usize = 300;
const LARGE: usize = 400 << 20;

pub(super) fn figures(osvm: &Osvm, runs: usize) -> Result<Vec<Figure>> {
    let mut figures = start(osvm, runs)?;
    figures.extend(memory(osvm)?);
    Ok(figures)
}

/// From nothing to the first reply, and in a guest that is there and has not seen Node yet, from Node's start to the same.
fn start(osvm: &Osvm, runs: usize) -> Result<Vec<Figure>> {
    let image = fixtures()?.join("everything/root").display().to_string();
    osvm.ok(&["image", "build", &image])?;
    let tools = tempfile::Builder::new().prefix("bench-tools-").tempdir()?;
    fs::copy(BUSYBOX, tools.path().join("busybox")).context("copy a static busybox")?;
    let lent = format!("{}:/tools", tools.path().display());
    let add = |name, words: &[&str]| {
        let options = ["mcp", "add", name, "--image", &image, "--memory", "512", "--mount", &lent];
        osvm.ok(&[&options, &["--"][..], words].concat())
    };
    add("npm", &[NODE, SERVER, "stdio"])?;
    add("shell", &["/tools/busybox", "sh", "-c", SHELL])?;
    let (mut launched, mut by_hand) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let begin = Instant::now();
        osvm.ok(&["mcp", "microvm", "launch", "npm"])?;
        launched.push(begin.elapsed());
        osvm.ok(&["mcp", "microvm", "stop", "npm"])?;
        osvm.ok(&["mcp", "microvm", "launch", "shell"])?;
        by_hand.push(first_reply(
            osvm.command(&["mcp", "microvm", "exec", "shell", "--", NODE, SERVER, "stdio"]),
        )?);
        osvm.ok(&["mcp", "microvm", "stop", "shell"])?;
    }
    let (launched, by_hand) = (median(&launched), median(&by_hand));
    Ok(vec![
        Figure::millis("server-everything by hand: Node in a guest, to its first reply", by_hand),
        Figure::millis("the same by `launch`, from nothing", launched).against(by_hand, 1.5),
    ])
}

fn first_reply(mut command: Command) -> Result<Duration> {
    let begin = Instant::now();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut stdin = child.stdin.take().context("open its input")?;
    writeln!(stdin, "{HELLO}")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("open its output")?).read_line(&mut line)?;
    let took = begin.elapsed();
    ensure!(line.contains("\"result\""), "the server by hand answered {line:?}");
    drop(stdin);
    child.wait()?;
    Ok(took)
}

/// The most that the daemon has ever had, with an image of many names and many bytes made for it.
fn memory(osvm: &Osvm) -> Result<Vec<Figure>> {
    let root = osvm.home().join("large");
    for folder in 0..FOLDERS {
        let folder = root.join(format!("folder-{folder}"));
        fs::create_dir_all(&folder)?;
        (0..FILES)
            .try_for_each(|file| fs::write(folder.join(format!("a-file-of-many-{file}")), "x"))?;
    }
    write_noise(&root.join("large"))?;
    let image = root.display().to_string();
    // It has no server: the daemon makes its image and ends there.
    let launched = osvm
        .command(&["mcp", "microvm", "launch", "large", "--image", &image, "--command", "/none"])
        .output()?;
    let said = String::from_utf8_lossy(&launched.stderr).into_owned();
    ensure!(said.contains("/none"), "launch of a large image: {said}");
    fs::remove_dir_all(&root)?;
    let names = FOLDERS * FILES;
    let what = format!("daemon, at most, with an image of {names} names and 400 MiB");
    Ok(vec![Figure::mib(&what, osvm.daemon_peak()? as f64).at_most(64.0)])
}

/// Bytes that are not made smaller.
fn write_noise(path: &Path) -> Result<()> {
    let mut state = 1_u64;
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    for _ in 0..LARGE / 8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        file.write_all(&(state ^ (state >> 33)).to_le_bytes())?;
    }
    Ok(file.flush()?)
}

pub(super) fn fixtures() -> Result<PathBuf> {
    let made = Command::new(checkout().join("scripts/fixtures")).output().context("fixtures")?;
    ensure!(made.status.success(), "make fixtures: {}", String::from_utf8_lossy(&made.stderr));
    let text = String::from_utf8(made.stdout)?;
    Ok(Path::new(text.trim_end().lines().last().context("find the fixtures")?).to_owned())
}
