//! Processes that try what is not there, under the real filter.

use osvm_wire::HOSTS_PORT;
use osvm_wire::grant::{FolderGrant, Grants, HostRequest, TriedPath};

use super::{Handover, Tries};
use crate::reach::Host;
use crate::reach::host::tests::{Accepted, direct};
use crate::talk::Talk;

async fn told(accepted: &mut Accepted) -> Vec<TriedPath> {
    let (port, stream) = accepted.recv().await.unwrap();
    assert_eq!(port, HOSTS_PORT);
    match Talk::new(stream).incoming.receive().await.unwrap() {
        Some(HostRequest::Tried { paths }) => paths,
        other => panic!("{other:?}"),
    }
}

/// So many paths below one of these. Whatever else this machine's shell looks for is left out.
async fn told_below(accepted: &mut Accepted, count: usize, folders: &[&str]) -> Vec<TriedPath> {
    let mut paths = Vec::new();
    while paths.len() < count {
        let all = told(accepted).await.into_iter();
        paths.extend(all.filter(|tried| folders.iter().any(|at| tried.path.starts_with(at))));
    }
    paths
}

fn tried(path: &str, found: u16, written: bool) -> TriedPath {
    TriedPath { path: path.to_owned(), found, written, named: false }
}

/// Runs a shell as sessions are run, and waits for it.
#[expect(clippy::disallowed_methods, reason = "the test's own process")]
fn run(tries: &Tries, script: &str) -> std::process::Output {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let handover = std::sync::Arc::new(Handover::new().unwrap());
    let entered = std::sync::Arc::clone(&handover);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::set_no_new_privs(true)?;
            entered.enter()
        })
    };
    let child = command.spawn().unwrap();
    tries.listen(handover.receive().unwrap());
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn paths_that_are_not_there_are_told_once_and_calls_go_on() {
    let host = Host::default();
    let (link, mut accepted) = direct();
    let _linked = host.linked(link);
    let tries = Tries::start(&Grants { record: true, ..Grants::default() }, host);
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let here = folder.path().display();
    let script = format!(
        "cat {here}/in/file {here}/in/file; echo x >{here}/out/file; \
         echo there >{here}/new; cat {here}/new; cat /etc/no/such/file"
    );
    let output = tokio::task::spawn_blocking({
        let tries = tries.clone();
        move || run(&tries, &script)
    });
    let output = output.await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "there\n", "{output:?}");
    let paths = told_below(&mut accepted, 3, &[&here.to_string()]).await;
    let expected = [
        tried(&format!("{here}/in/file"), 3, false),
        tried(&format!("{here}/out/file"), 3, true),
        tried(&format!("{here}/new"), 3, true),
    ];
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn lent_folders_are_told_of_by_themselves_and_arguments_by_name() {
    let host = Host::default();
    let (link, mut accepted) = direct();
    let _linked = host.linked(link);
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let at = folder.path().display().to_string();
    let folders = vec![FolderGrant { at: at.clone(), writable: true }];
    let tries = Tries::start(&Grants { record: true, folders, ..Grants::default() }, host);
    let words = ["/bin/server", "/nowhere/a/../b", "--root=/elsewhere", "/var", "x=/y"];
    tries.named_by(&words.map(str::to_owned));
    let script = format!("cat {at}/file; cat {at}/missing; echo x >{at}/file");
    tokio::task::spawn_blocking(move || run(&tries, &script)).await.unwrap();
    let paths = told_below(&mut accepted, 4, &[&at, "/nowhere", "/elsewhere"]).await;
    let named = |path: &str| TriedPath { named: true, ..tried(path, 0, false) };
    let expected =
        [named("/nowhere/b"), named("/elsewhere"), tried(&at, 3, false), tried(&at, 3, true)];
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn a_flood_is_neither_kept_nor_told_in_full() {
    let host = Host::default();
    let (link, mut accepted) = direct();
    let _linked = host.linked(link);
    let tries = Tries::start(&Grants { record: true, ..Grants::default() }, host);
    let words: Vec<_> = (0..10_000).map(|n| format!("/no-such-{n}/file")).collect();
    tries.named_by(&words);
    let mut count = 0;
    while count < 2048 {
        let paths = told(&mut accepted).await;
        assert!(paths.iter().map(|tried| tried.path.len()).sum::<usize>() <= 2048);
        count += paths.len();
    }
    assert_eq!(count, 2048);
}
