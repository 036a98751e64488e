//! With the real shim and real prisoners: both are this very test program.
#![expect(clippy::disallowed_methods, reason = "the tests start programs, as this room does")]

mod prisoner;
mod shared;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;
use crate::process::{KillGuard, Spawn};
use crate::{Exit, VmmError};

/// A jail whose shim is [`the_shim`].
pub(crate) async fn jail() -> Jail {
    let args = this_program("jail::tests::the_shim").into_iter().chain([WORD.into()]).collect();
    Jail::with_shim(&std::env::current_exe().unwrap(), args, Path::new("/proc")).await
}

/// Arguments with which this program runs one test that waits to be called.
fn this_program(test: &str) -> Vec<OsString> {
    ["--ignored", "--exact", "--nocapture", "--test-threads=1", test].map(OsString::from).to_vec()
}

#[test]
#[ignore = "started by the other tests, with a socket to talk over"]
fn the_shim() {
    let args: Vec<_> = std::env::args().collect();
    let word = args.iter().position(|arg| arg == WORD).expect("started as the shim");
    let code = enter(args[word + 1].parse().unwrap(), shared::the_server);
    assert_eq!(code, std::process::ExitCode::SUCCESS);
}

/// Runs `program` in a jail that holds nothing else.
async fn run(
    program: &Path,
    args: &[OsString],
) -> Result<(KillGuard, tempfile::TempDir), VmmError> {
    run_in(&jail().await, program, args).await
}

async fn run_in(
    jail: &Jail,
    program: &Path,
    args: &[OsString],
) -> Result<(KillGuard, tempfile::TempDir), VmmError> {
    let dir = tempfile::tempdir().unwrap();
    let log = File::create(dir.path().join("log")).unwrap();
    let mut spawn = Spawn::new(program, dir.path());
    spawn.args(args);
    Ok((spawn.start_in(jail, &cell(program), log).await?, dir))
}

fn cell(program: &Path) -> Cell {
    Cell {
        id: "one".to_owned(),
        calls: Calls::Qemu,
        shares: Shares { memory_bytes: 256 << 20, processors: 1 },
        file_size: Some(10_000),
        needs: Needs::of(program, &[]).unwrap(),
        lent: Vec::new(),
        devices: vec!["null".to_owned()],
        folder: None,
        unfiltered: None,
    }
}

fn shell(script: &str) -> Vec<OsString> {
    ["-c", script].map(OsString::from).to_vec()
}

fn source(error: &VmmError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

#[tokio::test]
async fn what_is_seen_of_a_jailed_program_is_what_was_put_on() {
    let shell = shell("read line </dev/null; while :; do :; done");
    let (process, _dir) = run(Path::new("/bin/sh"), &shell).await.unwrap();
    let jail = jail().await;
    let seen = jail.look(process.pid(), &cell(Path::new("/bin/sh")));
    let Err(JailError::Missing { layer: Layer::VmmSandbox, .. }) = seen else {
        panic!("a shell has no filter of its own, and everything else: {seen:?}");
    };
    let seen = seen::Process::read(Path::new("/proc"), process.pid());
    let user = jail.user_of("one");
    for Standing { layer, state } in jail.standings() {
        let is_on = seen.lacks(*layer, Marks { id: "one", user }).is_none();
        assert_eq!(is_on, *state == LayerState::On && *layer != Layer::VmmSandbox, "{layer}");
    }
}

#[tokio::test]
async fn a_file_at_its_limit_grows_no_more_and_the_writer_goes_on() {
    // Its standard error is the only file that it has.
    let script = "i=0; while [ $i -lt 300 ]; do echo 0123456789012345678901234567890123456789 >&2; \
                  i=$((i+1)); done; exit 5";
    let (process, dir) = run(Path::new("/bin/sh"), &shell(script)).await.unwrap();
    assert_eq!(process.exited().await, Exit::Code(5));
    assert_eq!(fs::metadata(dir.path().join("log")).unwrap().len(), 10_000);
}

#[tokio::test]
async fn a_program_that_can_not_be_run_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("vmm");
    fs::write(&program, "no program").unwrap();
    let jail = jail().await;
    let log = File::create(folder.path().join("log")).unwrap();
    let mut cell = cell(Path::new("/bin/sh"));
    cell.needs.program = program.clone();
    let error = Spawn::new(&program, folder.path()).start_in(&jail, &cell, log).await.unwrap_err();
    assert_eq!(error.to_string(), format!("jail {}", program.display()));
    assert_eq!(
        source(&error),
        format!("run {}: Permission denied (os error 13)", program.display())
    );
}

#[tokio::test]
async fn a_shim_that_is_no_shim_starts_nothing() {
    let jail = Jail::with_shim(Path::new("/bin/true"), Vec::new(), Path::new("/proc")).await;
    let error = run_in(&jail, Path::new("/bin/sh"), &[]).await.err().unwrap();
    assert!(source(&error).contains("without which no VMM may run"), "{}", source(&error));
}

#[tokio::test]
async fn a_shim_that_is_killed_before_it_tells_whom_it_has_started_starts_nothing() {
    let mut jail = jail().await;
    jail.shim = "/bin/sh".into();
    // Whom it has started holds the socket open.
    jail.shim_args = shell("sleep 8 & kill -9 $$");
    let error = run_in(&jail, Path::new("/bin/sh"), &[]).await.err().unwrap();
    assert_eq!(source(&error), JailError::Silent.to_string());
}

#[tokio::test]
async fn a_layer_that_must_be_on_and_can_not_be_had_ends_the_start() {
    let mut jail = jail().await;
    let landlock = jail.standings.iter_mut().find(|s| s.layer == Layer::Landlock).unwrap();
    landlock.state = LayerState::impossible("this kernel has no Landlock");
    let error = run_in(&jail, Path::new("/bin/sh"), &[]).await.err().unwrap();
    let told = "be sure of files by Landlock, without which no VMM may run: impossible here: this \
                kernel has no Landlock";
    assert_eq!(source(&error), told);
}

#[tokio::test]
async fn the_end_of_a_jailed_program_is_told() {
    let (process, _dir) = run(Path::new("/bin/sh"), &shell("exit 3")).await.unwrap();
    assert_eq!(process.exited().await, Exit::Code(3));
}

#[tokio::test]
async fn a_prisoner_gets_nowhere() {
    prisoner::visit(&jail().await).await;
}

#[test]
fn a_prisoner_of_an_ordinary_user_gets_nowhere() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: an ordinary user runs this, so the test before was this one");
    }
    assert_as_ordinary_user("jail::tests::an_ordinary_users_prisoner");
}

#[tokio::test]
#[ignore = "started by the test above, as an ordinary user"]
async fn an_ordinary_users_prisoner() {
    assert!(!rustix::process::geteuid().is_root());
    prisoner::visit(&jail().await).await;
}

/// Where user namespaces are forbidden, the layers that every user has must do alone.
#[test]
fn a_prisoner_without_namespaces_gets_nowhere() {
    match rustix::process::geteuid().is_root() {
        true => assert_as_ordinary_user("jail::tests::a_prisoner_of_the_required_layers"),
        false => assert_passes(
            &mut Command::new(std::env::current_exe().unwrap()),
            "jail::tests::a_prisoner_of_the_required_layers",
        ),
    }
}

#[tokio::test]
#[ignore = "started by the test above, as an ordinary user"]
async fn a_prisoner_of_the_required_layers() {
    prisoner::visit(&jail_of_required_layers().await).await;
}

async fn jail_of_required_layers() -> Jail {
    let mut jail = jail().await;
    for standing in &mut jail.standings {
        if !standing.layer.is_required() {
            standing.state = LayerState::off("the test is without it");
        }
    }
    jail
}

/// Root in a container, say, where neither namespaces nor another user are to be had.
#[tokio::test]
async fn a_program_that_stays_root_has_no_capability() {
    let loops = shell("while :; do :; done");
    let jail = jail_of_required_layers().await;
    let (process, _dir) = run_in(&jail, Path::new("/bin/sh"), &loops).await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
}

/// In a copy that everybody may read and run.
fn assert_as_ordinary_user(test: &str) {
    use std::os::unix::process::CommandExt;
    const ORDINARY: u32 = 54_321;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    assert_passes(Command::new(program).uid(ORDINARY).gid(ORDINARY).current_dir("/"), test);
}

fn assert_passes(program: &mut Command, test: &str) {
    let ended = program.args(this_program(test)).stdin(Stdio::null()).output().unwrap();
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(ended.status.success() && said[0].contains("1 passed"), "{}\n{}", said[0], said[1]);
}
