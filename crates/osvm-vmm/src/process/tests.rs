//! With real processes: what is promised here is promised by the kernel.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use rustix::process::getsid;

use super::*;

fn shell(script: &str) -> (Spawn, tempfile::TempDir, File) {
    let dir = tempfile::tempdir().unwrap();
    let log = File::create(dir.path().join("log")).unwrap();
    let mut spawn = Spawn::new(Path::new("/bin/sh"), dir.path());
    spawn.args(["-c", script]);
    (spawn, dir, log)
}

fn started(script: &str) -> (Process, tempfile::TempDir) {
    let (spawn, dir, log) = shell(script);
    (spawn.start(log).unwrap().release(), dir)
}

#[tokio::test]
async fn a_child_is_a_session_of_its_own_and_its_end_is_told() {
    let (process, _dir) = started("exec sleep 1000");
    let pid = Pid::from_raw(process.pid() as i32);
    assert_eq!(getsid(pid).unwrap(), pid.unwrap());
    assert_eq!(process.try_exited(), None);
    process.kill().unwrap();
    assert_eq!(process.exited().await, Exit::Signal(9));
    assert_eq!(process.exited().await, Exit::Signal(9), "told again");
    process.terminate().unwrap();
}

#[tokio::test]
async fn a_child_that_ends_at_once_tells_its_status() {
    let (process, _dir) = started("exit 3");
    assert_eq!(process.exited().await, Exit::Code(3));
}

#[tokio::test]
async fn a_kill_for_memory_is_told_as_that() {
    for (events, exit) in [
        ("low 0\noom 3\noom_kill 0\n", Exit::Signal(9)),
        ("low 0\noom 3\noom_kill 2\n", Exit::OutOfMemory),
    ] {
        let (process, dir) = started("exec sleep 1000");
        let file = dir.path().join("memory.events");
        std::fs::write(&file, events).unwrap();
        process.watch_memory(file);
        process.kill().unwrap();
        assert_eq!(process.exited().await, exit);
    }
}

#[tokio::test]
async fn a_process_is_found_again_until_it_ends() {
    let (process, _dir) = started("exec sleep 1000");
    let found = Process::find(process.identity()).unwrap();
    found.terminate().unwrap();
    assert_eq!(process.exited().await, Exit::Signal(15));
    let gone = Process::find(process.identity());
    assert!(matches!(gone, Err(ProcessError::Gone { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_process_tells_its_time_on_a_processor_while_it_runs() {
    let (busy, _dir) = started("while :; do :; done");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while busy.cpu_time() < Some(Duration::from_millis(20)) {
        assert!(std::time::Instant::now() < deadline, "{:?}", busy.cpu_time());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(busy.is_runnable());
    // It had none without wanting one.
    assert!(busy.wanted_time() >= Some(Duration::from_millis(10)), "{:?}", busy.wanted_time());
    busy.kill().unwrap();
    busy.exited().await;
    assert_eq!((busy.cpu_time(), busy.wanted_time()), (None, None));
    assert!(!busy.is_runnable());
}

#[tokio::test]
async fn a_recycled_pid_is_another_process() {
    let (process, _dir) = started("exec sleep 1000");
    let Identity { pid, start_time } = process.identity();
    let earlier = Process::find(Identity { pid, start_time: start_time - 1 });
    assert!(matches!(earlier, Err(ProcessError::Gone { .. })), "{earlier:?}");
    process.kill().unwrap();
}

#[tokio::test]
async fn the_end_of_a_process_that_is_not_our_child_is_told() {
    let (parent, dir) = started("sleep 1000 & echo $! > pid.new; mv pid.new pid");
    assert_eq!(parent.exited().await, Exit::Code(0));
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
    let start_time = stat::read(Path::new("/proc"), pid).unwrap().unwrap().start_time;
    let orphan = Process::find(Identity { pid, start_time }).unwrap();
    orphan.kill().unwrap();
    assert_eq!(orphan.exited().await, Exit::Unknown);
}

#[tokio::test]
async fn a_child_gets_the_descriptors_it_was_given_and_no_others() {
    let mut given = tempfile::tempfile().unwrap();
    given.write_all(b"given").unwrap();
    let other = tempfile::tempfile().unwrap();
    let (given_fd, other_fd) = (given.as_raw_fd(), other.as_raw_fd());
    let script = format!("cat /proc/self/fd/{given_fd} > copy; test ! -e /proc/self/fd/{other_fd}");
    let (mut spawn, dir, log) = shell(&script);
    assert_eq!(spawn.inherit(given.into()), given_fd);
    assert_eq!(spawn.start(log).unwrap().exited().await, Exit::Code(0));
    assert_eq!(std::fs::read(dir.path().join("copy")).unwrap(), b"given");
}

#[tokio::test]
async fn a_child_gets_nothing_of_our_environment() {
    let (process, dir) = started("cat /proc/$$/environ > environment");
    assert_eq!(process.exited().await, Exit::Code(0));
    assert_eq!(std::fs::read(dir.path().join("environment")).unwrap(), b"");
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    let (process, _dir) = started("exec sleep 1000");
    drop(KillGuard::new(process.clone()));
    assert_eq!(process.exited().await, Exit::Signal(9));
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let spawn = Spawn::new(Path::new("/nowhere/vmm"), dir.path());
    let error = spawn.start(File::create(dir.path().join("log")).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "run /nowhere/vmm");
}
