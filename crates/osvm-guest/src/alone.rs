//! Tests that need a network, mounts or processes of their own run in namespaces: the test starts this executable
//! again inside, for itself alone.

/// As [`inside_with`], with a network and mounts.
pub(crate) fn inside() -> bool {
    inside_with(&["--net", "--mount"])
}

/// As [`inside_with`], as the first process of all.
pub(crate) fn inside_as_init() -> bool {
    inside_with(&["--pid", "--fork", "--kill-child"])
}

/// Whether this is the inside, where the test goes on. Outside it has been run when this returns; where there are
/// no such namespaces it says that it was skipped.
#[expect(clippy::disallowed_methods, reason = "a test passes itself a word and runs itself")]
fn inside_with(namespaces: &[&str]) -> bool {
    use std::process::Command;
    const WORD: &str = "OSVM_TEST_ALONE";
    if std::env::var_os(WORD).is_some() {
        return true;
    }
    let thread = std::thread::current();
    let test = thread.name().expect("a test's thread has its name");
    let unshare = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.arg("--map-root-user").args(namespaces).args(["--", command]);
        unshare
    };
    if !unshare("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped {test}: no namespaces of its own");
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let mut again = unshare(own.to_str().unwrap());
    let status = again.env(WORD, "1").args([test, "--exact", "--nocapture"]).status().unwrap();
    assert!(status.success(), "{test}, run alone: {status}");
    false
}
