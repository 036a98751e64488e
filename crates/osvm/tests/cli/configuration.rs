//! The commands that only read and write the configuration file, as a user runs them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::osvm::{Osvm, Ran};

#[test]
fn a_server_is_added_listed_shown_and_removed() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "my-server", "--url", "stdio", "--isolation", "microvm"]);
    osvm.ok(&["mcp", "add", "files", "--env", "A=b=c", "--memory", "512", "--", "/bin/s", "a b"]);
    let list = osvm.ok(&["mcp", "list"]);
    assert!(list.contains("my-server  enabled  microvm    (of the image)\n"), "{list}");
    assert!(list.contains("files      enabled  microvm    /bin/s 'a b'\n"), "{list}");
    let shown = osvm.json(&["mcp", "show", "files", "--json"]);
    assert_eq!(shown["command"], json!(["/bin/s", "a b"]));
    assert_eq!(shown["env"], json!({ "A": "b=c" }));
    assert_eq!(shown["microvm_config"], json!({ "memory_mb": 512 }));
    osvm.ok(&["mcp", "remove", "files"]);
    assert_eq!(osvm.json(&["mcp", "list", "--json"]).as_array().unwrap().len(), 1);
}

#[test]
fn tools_that_may_be_called_are_added_and_shown() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "git", "--tool", "git_log", "--tool", "git_d*", "--deny-tool", "x"]);
    let text = osvm.read_config()
        + "calls_per_minute = 60\nshared = true\n\
        [[servers.tools]]\nname = \"git_log\"\ntimeout_seconds = 9\ncalls_per_minute = 5\n";
    fs::write(osvm.config(), text).unwrap();
    let shown = osvm.json(&["mcp", "show", "git", "--json"]);
    assert_eq!(shown["allow_tools"], json!(["git_log", "git_d*"]));
    assert_eq!(shown["deny_tools"], json!(["x"]));
    let shown = osvm.ok(&["mcp", "show", "git"]);
    for line in [
        "allowed    git_log, git_d*\n",
        "denied     x\n",
        "git_log: microvm, at most 9 s, at most 5 a minute\n",
        "calls      at most 60 a minute\n",
        "shared     by tokens of the gateway\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    let refused = osvm.run(&["mcp", "add", "b", "--tool", ""]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("a tool's name is empty"), "{}", refused.stderr);
}

#[test]
fn a_new_file_is_the_users_alone() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "a"]);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(osvm.config()), mode(osvm.home())), (0o600, 0o700));
}

#[test]
fn editing_keeps_comments_mode_and_link() {
    let osvm = Osvm::new();
    let real = osvm.folder().join("dotfiles.toml");
    let text = "# mine\n[microvm]\ndefault_memory_mb = 512 # enough\n";
    fs::write(&real, text).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(osvm.home()).unwrap();
    symlink(&real, osvm.config()).unwrap();
    osvm.ok(&["mcp", "add", "a"]);
    osvm.ok(&["mcp", "disable", "a"]);
    assert!(osvm.read_config().starts_with(text) && osvm.read_config().contains("enabled = false"));
    osvm.ok(&["mcp", "enable", "a"]);
    osvm.ok(&["mcp", "remove", "a"]);
    assert_eq!(fs::read_to_string(&real).unwrap(), text);
    assert!(fs::symlink_metadata(osvm.config()).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn paths_are_written_as_seen_from_the_root() {
    let osvm = Osvm::new();
    let ran = osvm.run(&["mcp", "add", "a", "--image", "./rootfs"]);
    assert_eq!(ran.stderr, format!("warning: {}/rootfs does not exist yet\n", path(&osvm)));
    let shown = osvm.json(&["mcp", "show", "a", "--json"]);
    assert_eq!(shown["image"], format!("{}/rootfs", path(&osvm)));
}

fn path(osvm: &Osvm) -> String {
    osvm.folder().to_str().unwrap().to_owned()
}

#[test]
fn edits_at_the_same_time_wait_for_each_other() {
    let osvm = Osvm::new();
    let names: Vec<_> = (0..8).map(|n| format!("server-{n}")).collect();
    let add = |name| osvm.command(&["mcp", "add", name]).stdout(Stdio::null()).spawn().unwrap();
    let adding: Vec<_> = names.iter().map(|name| add(name.as_str())).collect();
    for mut child in adding {
        assert!(child.wait().unwrap().success());
    }
    let list = osvm.json(&["mcp", "list", "--json"]);
    let mut found: Vec<_> = list.as_array().unwrap().iter().map(|s| s["id"].clone()).collect();
    found.sort_by_key(ToString::to_string);
    assert_eq!(found, names);
}

#[test]
fn names_are_unique_and_known() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "weather"]);
    let twice = osvm.run(&["mcp", "add", "weather"]);
    assert_eq!(
        twice.stderr,
        "error: server weather exists already\nhint: osvm mcp remove weather\n"
    );
    assert_eq!(twice.code, 1);
    for command in ["show", "remove", "enable", "disable"] {
        let unknown = osvm.run(&["mcp", command, "wether"]);
        assert_eq!(unknown.code, 3, "{command}");
        let told = "error: no server is called wether\nhint: did you mean weather?\n";
        assert_eq!(unknown.stderr, told, "{command}");
    }
}

/// Refused as usage, by every command that takes a name, before anything is made.
#[test]
fn bad_names_are_usage_errors() {
    let osvm = Osvm::new();
    let long = "x".repeat(300);
    for name in ["", "../x", "a b", "a\nb", long.as_str()] {
        for command in [["mcp", "add"], ["mcp", "show"], ["mcp", "tools"]] {
            let ran = osvm.run(&[command.as_slice(), &[name]].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{name:?}");
            assert!(ran.stderr.starts_with("error: invalid value "), "{}", ran.stderr);
            assert!(ran.stderr.contains("hint: osvm mcp "), "{}", ran.stderr);
        }
    }
    assert!(!osvm.home().exists());
}

#[test]
fn sizes_no_vm_can_have_are_usage_errors() {
    let osvm = Osvm::new();
    let bad = [("--memory", "0"), ("--memory", "8"), ("--memory", "x"), ("--vcpus", "0")];
    for (flag, value) in bad.into_iter().chain([("--vcpus", "1000"), ("--memory", "-1")]) {
        let ran = osvm.run(&["mcp", "add", "a", flag, value]);
        assert_eq!(ran.code, 2, "{flag} {value}: {}", ran.stderr);
    }
    let launch = osvm.run(&["mcp", "microvm", "launch", "a", "--memory", "8"]);
    assert_eq!(launch.code, 2);
    assert!(launch.stderr.contains("memory of 8 MiB is outside 64 to 1048576 MiB"));
}

#[test]
fn what_this_version_does_not_run_is_not_registered() {
    let osvm = Osvm::new();
    for flag in ["--url", "--server-url"] {
        let remote = osvm.run(&["mcp", "add", "a", flag, "https://example.org/mcp"]);
        assert_eq!(remote.code, 2);
        assert!(remote.stderr.contains("this version supports no remote servers"));
    }
    let host = osvm.run(&["mcp", "add", "a", "--isolation", "none"]);
    assert_eq!(host.code, 6);
    let told = "error: isolation none: this version never runs a server on the host\n\
                hint: --isolation microvm\n";
    assert_eq!(host.stderr, told);
    assert!(!osvm.config().exists());
}

#[test]
fn commands_with_half_a_quote_or_without_a_program_are_usage_errors() {
    let osvm = Osvm::new();
    for command in ["a 'b", "", "  "] {
        assert_eq!(osvm.run(&["mcp", "add", "a", "--command", command]).code, 2, "{command:?}");
    }
    assert_eq!(osvm.run(&["mcp", "add", "a", "--env", "NOVALUE"]).code, 2);
    assert_eq!(osvm.run(&["mcp", "add", "a", "--command", "x", "--", "y"]).code, 2);
}

#[test]
fn a_faulty_file_is_told_by_line_and_left_as_it_is() {
    let faults = [
        ("[microvm]\nenabled = = 1\n", ":2:11: "),
        ("[microvm]\nmemory = 1\n", ":2:1: unknown key \"memory\" in [microvm]"),
        ("[microvm]\nenabled = \"yes\"\n", ":2:11: enabled is a string, it must be true or false"),
        (
            "[[servers]]\nid = \"a\"\n[[servers.tools]]\nname = \"t\"\nisolation = \"none\"\n",
            ":5:13: tool \"t\" has isolation none, which is looser than its server's microvm",
        ),
    ];
    for (text, told) in faults {
        let osvm = Osvm::new();
        osvm.write_config(text);
        for args in [vec!["mcp", "list"], vec!["mcp", "add", "b"], vec!["mcp", "remove", "a"]] {
            let ran = osvm.run(&args);
            assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
            let place = format!("error: {}{told}", osvm.config().display());
            assert!(ran.stderr.starts_with(&place), "{args:?}: {}", ran.stderr);
        }
        assert_eq!(osvm.read_config(), text);
    }
}

#[test]
fn errors_are_one_json_object_when_json_is_asked_for() {
    let osvm = Osvm::new();
    let error = |ran: &Ran| serde_json::from_str::<Value>(&ran.stderr).unwrap();
    let unknown = osvm.run(&["mcp", "show", "a", "--json"]);
    assert_eq!(unknown.stdout, "");
    let told = json!({ "kind": "no_such", "exit_code": 3, "message": "no server is called a",
                       "hints": ["osvm mcp list"] });
    assert_eq!(error(&unknown), told);
    let usage = osvm.run(&["mcp", "list", "--json", "--nonsense"]);
    assert_eq!((error(&usage)["kind"].clone(), usage.code), (json!("usage"), 2));
}

#[test]
fn arguments_no_tool_could_take_start_nothing() {
    let osvm = Osvm::new();
    let call = |arguments| osvm.run(&["mcp", "call", "a", "t", arguments]);
    let malformed = call("{\"a\": }");
    assert_eq!(malformed.code, 2);
    assert!(
        malformed.stderr.starts_with("error: the arguments: expected value at line 1 column 7")
    );
    assert_eq!((call("[]").code, call("@/nowhere").code), (2, 1));
    let variable =
        osvm.command(&["mcp", "call", "a", "t"]).env("OSVM_VCPUS", "x").output().unwrap();
    let told = "error: variable OSVM_VCPUS: a whole number is needed\n";
    assert_eq!(String::from_utf8(variable.stderr).unwrap(), told);
    assert!(!osvm.home().exists());
}

#[test]
fn the_home_is_found_by_variable_or_beside_the_users_files() {
    let osvm = Osvm::new();
    let add = osvm.command(&["mcp", "add", "a"]).env_remove("OSVM_HOME").output().unwrap();
    assert!(add.status.success());
    assert!(osvm.folder().join(".osvm/isolation_config.toml").exists());
    let relative = osvm.command(&["mcp", "add", "a"]).env("OSVM_HOME", "here").output().unwrap();
    assert!(relative.status.success());
    assert!(osvm.folder().join("here/isolation_config.toml").exists());
}

#[test]
fn a_home_that_cannot_be_is_told_with_its_path() {
    let osvm = Osvm::new();
    fs::write(osvm.home(), "a file").unwrap();
    let ran = osvm.run(&["mcp", "add", "a"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(osvm.config().to_str().unwrap()), "{}", ran.stderr);
}

#[test]
fn every_shell_has_completions_and_a_closed_pipe_is_no_error() {
    let osvm = Osvm::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(osvm.ok(&["completions", shell]).contains("launch-many"), "{shell}");
    }
    let mut child = osvm
        .command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn help_and_version_go_to_standard_output() {
    let osvm = Osvm::new();
    assert!(osvm.ok(&["--version"]).starts_with("osvm "));
    assert!(osvm.ok(&["mcp", "add", "--help"]).contains("Usage: osvm mcp add"));
    let alone = osvm.run(&["mcp"]);
    assert_eq!(alone.stderr, "error: a subcommand is missing\nhint: osvm mcp --help\n");
    assert_eq!(alone.code, 2);
}

#[test]
fn an_image_that_is_a_file_here_and_was_not_written_as_one_is_refused() {
    let osvm = Osvm::new();
    fs::create_dir(osvm.folder().join("dist")).unwrap();
    let ran = osvm.run(&["mcp", "add", "a", "--image", "dist"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--image ./dist"), "{}", ran.stderr);
    assert!(!osvm.config().exists());
}

#[test]
fn a_package_that_no_registry_has_is_refused_before_anything_is_written() {
    let osvm = Osvm::new();
    for argv in [&["npx", "-y", "github:a/b"][..], &["npx", "-y"], &["uvx", "--from", "./x", "y"]] {
        let ran = osvm.run(&[&["mcp", "add", "a", "--"], argv].concat());
        assert_eq!(ran.code, 2, "{argv:?}: {}", ran.stderr);
    }
    let ran = osvm.run(&["mcp", "add", "a", "--with", "mcp<2", "--", "/bin/server"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--with is for packages"), "{}", ran.stderr);
    assert!(!osvm.config().exists());
}
