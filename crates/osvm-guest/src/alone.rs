//! Tests that need a network and mounts of their own run in namespaces of their own: the test starts this executable
//! again inside, for itself alone.

/// Whether this is the inside, where the test goes on. Outside it has been run when this returns; where there are
/// no such namespaces it says that it was skipped.
#[expect(clippy::disallowed_methods, reason = "a test passes itself a word and runs itself")]
pub(crate) fn inside() -> bool {
    use std::process::Command;
    const WORD: &str = "OSVM_TEST_ALONE";
    if std::env::var_os(WORD).is_some() {
        return true;
    }
    let thread = std::thread::current();
    let test = thread.name().expect("a test's thread has its name");
    let unshare = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--net", "--mount", "--", command]);
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
