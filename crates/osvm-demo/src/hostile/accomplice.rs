//! Processes that the hostile server starts to do what would end itself. Each marks its progress with
//! `+` on standard output, which its starter counts, and says there why it went no further.

use std::io::{self, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use super::exhaust::MIB;

/// Small, so that what limits their number is the number and not the memory.
const STACK: usize = 16 << 10;

/// Rounds of the processor's work that make one mark.
const ROUNDS: u64 = 1 << 20;

/// What `osvm-demo accomplice WORK` does.
pub(crate) fn accomplice(work: &str) -> ExitCode {
    match work {
        "memory" => take_memory(),
        "processes" => multiply(),
        "threads" => start_threads(),
        "processor" => compute(),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Starts one, whose standard output is a pipe unless it is told another.
pub(super) fn start(work: &str, output: Stdio) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    #[expect(clippy::disallowed_methods, reason = "starting processes is what a bomb is made of")]
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["accomplice", work]).stdin(Stdio::null()).stdout(output);
    if is_server() {
        command.process_group(0);
    }
    command.spawn()
}

/// And not one of a bomb, which stays in the group of its first process.
fn is_server() -> bool {
    std::env::args().nth(1).as_deref() == Some("hostile")
}

fn mark() {
    let _ = io::stdout().write_all(b"+").and_then(|()| io::stdout().flush());
}

fn say(error: &io::Error) {
    let _ = write!(io::stdout(), "{error};").and_then(|()| io::stdout().flush());
}

/// A mark for each MiB, until the kernel or the allocator has had enough.
fn take_memory() {
    let mut blocks = Vec::new();
    loop {
        let mut block = Vec::new();
        if block.try_reserve_exact(MIB).is_err() {
            return say(&io::ErrorKind::OutOfMemory.into());
        }
        block.resize(MIB, 0xa5u8);
        blocks.push(block);
        mark();
    }
}

/// A mark for itself, then as many of its own kind as it can start.
fn multiply() {
    mark();
    loop {
        if let Err(error) = start("processes", Stdio::inherit()) {
            say(&error);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A mark for each thread.
fn start_threads() {
    let idle = || loop {
        std::thread::park();
    };
    loop {
        match std::thread::Builder::new().stack_size(STACK).spawn(idle) {
            Ok(_) => mark(),
            Err(error) => return say(&error),
        }
    }
}

/// A mark for each million rounds, until it is killed.
fn compute() {
    let mut state = 1u64;
    loop {
        for _ in 0..ROUNDS {
            state = std::hint::black_box(state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
        }
        mark();
    }
}
