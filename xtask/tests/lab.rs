//! The lab itself, as whoever calls it sees it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test starts programs and fails by panicking"
)]

use std::path::Path;
use std::process::{Command, Output};

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).arg("lab").args(arguments).output().unwrap()
}

#[test]
fn the_commands_exit_status_is_the_labs() {
    for (command, status) in
        [(["true"].as_slice(), 0), (&["false"], 1), (&["sh", "-c", "exit 7"], 7)]
    {
        let ended = lab(&[&["--"], command].concat());
        assert_eq!(ended.status.code(), Some(status), "{command:?}: {ended:?}");
    }
}

#[test]
fn a_command_finds_kvm_its_surroundings_and_a_way_to_bring_results_back() {
    let folder = tempfile::tempdir().unwrap();
    let script = "test -w /dev/kvm && pwd && echo aside >&2 && touch $RESULTS/made /lost";
    let share = folder.path().to_str().unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["lab", "--write", share, "--", "sh", "-c", script])
        .env("RESULTS", share)
        .current_dir("/usr")
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout, b"/usr\n");
    // The first lab of a machine says before that it fetches a kernel.
    assert!(ended.stderr.ends_with(b"aside\n"), "{ended:?}");
    assert!(folder.path().join("made").exists());
    assert!(!Path::new("/lost").exists());
}

#[test]
fn a_lab_ends_at_its_deadline() {
    let ended = lab(&["--deadline", "1", "--", "sleep", "1000"]);
    assert_eq!(ended.status.code(), Some(124), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("hint: --deadline"), "{ended:?}");
}
