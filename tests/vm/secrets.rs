//! Secrets: in the server's environment, and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::json;

use crate::osvm::{Osvm, eventually};

/// What no file has by chance, nor a process of another test.
static PLANTED: LazyLock<String> =
    LazyLock::new(|| format!("xyzzy-planted-4f9a7c21-{}", std::process::id()));

const SERVER: &str = "[[servers]]\nid = \"keeper\"\nsecrets = [\"TOKEN\"]\n";

fn token(osvm: &Osvm) -> String {
    osvm.call("keeper", "env", &json!({ "name": "TOKEN" })).trim().to_owned()
}

/// Every file below a folder that has the planted secret in it.
fn holders(folder: &Path) -> Vec<String> {
    let files = walk(folder);
    assert!(!files.is_empty(), "nothing to look through in {}", folder.display());
    let holds = |path: &String| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(PLANTED.len()).any(|window| window == PLANTED.as_bytes())
    };
    files.into_iter().filter(holds).collect()
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(walk(&entry.path())),
            kind if kind.is_file() => found.push(entry.path().display().to_string()),
            _ => {}
        }
    }
    found
}

/// Processes that show it in their command lines, or in environments that can be read.
fn showers() -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let others = processes.filter(|entry| entry.file_name().to_str() != Some(&own));
    let shown =
        others.flat_map(|entry| [entry.path().join("cmdline"), entry.path().join("environ")]);
    let holds = |path: &std::path::PathBuf| {
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).contains(&*PLANTED)
    };
    shown.filter(holds).map(|path| path.display().to_string()).collect()
}

#[test]
fn a_secret_reaches_the_server_and_no_file_no_process_and_no_answer() {
    let osvm = Osvm::with_config(SERVER).env("TOKEN", &PLANTED);
    assert_eq!(token(&osvm), *PLANTED);
    assert_eq!(showers(), Vec::<String>::new(), "while it runs");
    for command in [
        &["mcp", "show", "keeper"][..],
        &["mcp", "show", "keeper", "--json"],
        &["mcp", "list", "--json"],
        &["mcp", "microvm", "status"],
        &["mcp", "microvm", "status", "--json"],
        &["mcp", "microvm", "logs", "keeper", "--source", "agent"],
        &["mcp", "microvm", "logs", "keeper", "--source", "console"],
        &["mcp", "microvm", "logs", "keeper", "--source", "vmm"],
    ] {
        let ended = osvm.run(command).expect(0);
        assert!(!format!("{ended:?}").contains(&*PLANTED), "{command:?}: {ended:?}");
    }
    osvm.run(&["mcp", "call", "keeper", "exit", r#"{"code":3}"#]);
    osvm.crash_daemon();
    assert_eq!(token(&osvm), *PLANTED, "a server process that a later daemon starts");
    assert_eq!(holders(osvm.runtime()), Vec::<String>::new());
    assert_eq!(holders(osvm.home()), Vec::<String>::new());
    osvm.ok(&["mcp", "microvm", "stop", "keeper"]);
    assert_eq!(holders(osvm.home()), Vec::<String>::new(), "after its end");
}

#[test]
fn a_server_whose_start_fails_does_not_tell_its_secret() {
    let config = format!("{SERVER}command = \"/no/such/server\"\n");
    let osvm = Osvm::with_config(&config).env("TOKEN", &PLANTED);
    let ended = osvm.run(&["mcp", "tools", "keeper"]).expect(1);
    assert!(!format!("{ended:?}").contains(&*PLANTED), "{ended:?}");
    osvm.assert_nothing_left();
    assert_eq!(holders(osvm.home()), Vec::<String>::new());
}

#[test]
fn a_secret_that_is_not_there_is_named_and_nothing_is_started() {
    let osvm = Osvm::with_config(SERVER);
    osvm.run(&["mcp", "tools", "keeper"]).expect(1).says(&["secret TOKEN", "export TOKEN="]);
    osvm.assert_nothing_left();
}

#[test]
fn the_secret_is_that_of_the_call_and_not_that_of_the_daemon() {
    let osvm = Osvm::with_config(SERVER);
    let with = |value: &str, args: &[&str]| {
        let output = osvm.command(args).env("TOKEN", value).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let call = ["mcp", "call", "keeper", "env", r#"{"name":"TOKEN"}"#];
    assert_eq!(with("first", &call), "first");
    assert_eq!(with("second", &call), "second", "a new value is a new server process");
    osvm.run(&call).expect(1).says(&["variable TOKEN is not set"]);
}

#[test]
fn a_secret_from_a_file_that_others_can_read_is_refused() {
    let osvm =
        Osvm::with_config("[[servers]]\nid = \"keeper\"\nsecrets = [\"TOKEN=file:token\"]\n");
    let file = osvm.home().join("token");
    fs::write(&file, format!("{}\n", *PLANTED)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = osvm.run(&["mcp", "tools", "keeper"]).expect(1);
    refused.says(&["secret TOKEN", "mode 0640", "chmod 600"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(token(&osvm), *PLANTED);
}

#[test]
fn a_secret_named_by_a_flag_is_given_as_well() {
    let osvm = Osvm::new().env("ELSEWHERE", &PLANTED);
    osvm.ok(&["mcp", "microvm", "launch", "keeper", "--secret", "TOKEN=env:ELSEWHERE"]);
    assert_eq!(token(&osvm), *PLANTED);
    osvm.run(&["mcp", "call", "keeper", "exit", r#"{"code":3}"#]);
    eventually("a server process started anew has it, too", || token(&osvm) == *PLANTED);
    let wrong = osvm.run(&["mcp", "microvm", "launch", "other", "--secret", "TOKEN=hunter2"]);
    let wrong = wrong.expect(2);
    assert!(wrong.stderr.contains("secret TOKEN"), "{wrong:?}");
}

/// A desktop's keyring in a session of its own, with one item in it, and a command that reads it.
const KEYRING: &str = r#"
printf x | gnome-keyring-daemon --unlock --components=secrets >/dev/null
printf %s "$0" | secret-tool store --label=osvm service github.com username me
exec "$@"
"#;

#[test]
fn a_secret_comes_from_the_desktops_keyring() {
    let rule = "TOKEN=keyring:github.com/me";
    let osvm =
        Osvm::with_config(&format!("[[servers]]\nid = \"keeper\"\nsecrets = [\"{rule}\"]\n"));
    let call = ["mcp", "call", "keeper", "env", r#"{"name":"TOKEN"}"#];
    let mut command = osvm.command(&call);
    let program = command.get_program().to_owned();
    command.env_remove("DBUS_SESSION_BUS_ADDRESS");
    let variables: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let output = std::process::Command::new("dbus-run-session")
        .args(["--", "sh", "-c", KEYRING, &PLANTED])
        .arg(&program)
        .args(call)
        .envs(variables)
        .env("HOME", osvm.runtime())
        .env("XDG_RUNTIME_DIR", osvm.runtime())
        .output();
    let Ok(output) = output else { return eprintln!("skipped: no dbus-run-session here") };
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), *PLANTED);
    let missing = osvm.run(&call).expect(1);
    assert!(missing.stderr.contains("secret TOKEN: can't ask the keyring"), "{missing:?}");
}
