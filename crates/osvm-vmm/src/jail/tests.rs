//! With the real shim, which is this very test program.

use std::ffi::OsString;
use std::fs::File;

use super::*;
use crate::Exit;
use crate::process::Spawn;

/// A jail whose shim is [`the_shim`].
pub(crate) fn jail() -> Jail {
    let words = ["--ignored", "--exact", "--test-threads=1", "jail::tests::the_shim", WORD];
    Jail {
        shim: std::env::current_exe().unwrap(),
        shim_args: words.map(OsString::from).to_vec(),
        proc: "/proc".into(),
    }
}

#[test]
#[ignore = "started by the other tests, with a socket to talk over"]
fn the_shim() {
    let args: Vec<_> = std::env::args().collect();
    let word = args.iter().position(|arg| arg == WORD).expect("started as the shim");
    let _ = enter(args[word + 1].parse().unwrap());
    panic!("the shim did not become the program");
}

fn shell(script: &str) -> (Spawn, tempfile::TempDir, File) {
    let dir = tempfile::tempdir().unwrap();
    let log = File::create(dir.path().join("log")).unwrap();
    let mut spawn = Spawn::new(Path::new("/bin/sh"), dir.path());
    spawn.args(["-c", script]);
    (spawn, dir, log)
}

fn cell() -> Cell {
    Cell { calls: Calls::Qemu, limits: Limits { file_size: Some(10_000) }, own_sandbox: false }
}

#[tokio::test]
async fn a_program_in_jail_is_limited_and_filtered_and_goes_on() {
    // A shell's own words only: it can start no other program.
    let script = "i=0; while [ $i -lt 300 ]; do echo 0123456789012345678901234567890123456789; \
                  i=$((i+1)); done >big 2>/dev/null; (echo forked) >fork; echo alive >small";
    let (spawn, dir, log) = shell(script);
    let process = spawn.start_in(&jail(), &cell(), log).await.unwrap();
    process.exited().await;
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    assert_eq!(read("big").len(), 10_000, "{}", read("log"));
    assert_eq!(read("fork"), "", "{}", read("log"));
}

#[tokio::test]
async fn what_is_seen_of_a_jailed_program_is_what_was_put_on() {
    let (spawn, _dir, log) = shell("read line </dev/zero");
    let process = spawn.start_in(&jail(), &cell(), log).await.unwrap();
    let standings = jail().look(process.pid(), &cell());
    let Err(JailError::Missing { layer: Layer::VmmSandbox, .. }) = standings else {
        panic!("a shell has no filter of its own: {standings:?}");
    };
    let none = Cell { own_sandbox: false, ..cell() };
    let seen = seen::look(Path::new(&format!("/proc/{}", process.pid())), &none);
    let on: Vec<_> = seen.iter().filter(|s| s.state == LayerState::On).map(|s| s.layer).collect();
    assert_eq!(on, [Layer::NoNewPrivs, Layer::Rlimits, Layer::Seccomp]);
}

#[tokio::test]
async fn a_program_that_can_not_be_run_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let log = File::create(dir.path().join("log")).unwrap();
    let spawn = Spawn::new(Path::new("/nowhere/vmm"), dir.path());
    let error = spawn.start_in(&jail(), &cell(), log).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(error.to_string(), "jail /nowhere/vmm");
    assert_eq!(source, "run /nowhere/vmm: No such file or directory (os error 2)");
}

#[tokio::test]
async fn a_shim_that_is_no_shim_is_told() {
    let (spawn, dir, log) = shell("true");
    let jail = Jail { shim: "/bin/true".into(), ..jail() };
    let error = spawn.start_in(&jail, &cell(), log).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("talk to the shim"), "{source}");
    drop(dir);
}

#[tokio::test]
async fn the_end_of_a_jailed_program_is_told() {
    let (spawn, _dir, log) = shell("exit 3");
    let process = spawn.start_in(&jail(), &cell(), log).await.unwrap();
    assert_eq!(process.exited().await, Exit::Code(3));
}
