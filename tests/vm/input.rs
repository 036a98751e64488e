//! Names, sizes, kernels and images that can't be: refused with the right code, and nothing left.

use std::fs;

use crate::osvm::Osvm;

#[test]
fn names_that_could_mislead_are_usage_errors_everywhere() {
    let osvm = Osvm::bare();
    let long = "x".repeat(300);
    for name in ["", "../x", "a b", "a\nb", &long] {
        for args in [
            vec!["mcp", "add", name],
            vec!["mcp", "microvm", "launch", name],
            vec!["mcp", "microvm", "stop", name],
            vec!["mcp", "call", name, "echo", "{}"],
        ] {
            osvm.run(&args).expect(2);
        }
    }
}

#[test]
fn stopping_what_does_not_run_is_no_such_vm() {
    let osvm = Osvm::new();
    osvm.run(&["mcp", "microvm", "stop", "nobody"]).expect(3).says(&["nobody", "hint"]);
    osvm.run(&["mcp", "microvm", "logs", "nobody"]).expect(3).says(&["nobody"]);
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
}

#[test]
fn sizes_that_no_vm_can_have_are_refused() {
    let osvm = Osvm::new();
    for (flag, value) in
        [("--memory", "0"), ("--memory", "8"), ("--vcpus", "0"), ("--vcpus", "1000")]
    {
        osvm.run(&["mcp", "microvm", "launch", "trial", flag, value]).expect(2).says(&[value]);
    }
    let launch = ["mcp", "microvm", "launch", "trial", "--memory", "1000000"];
    osvm.run(&launch).expect(4).says(&["1000000 MiB", "more than this host"]);
    osvm.assert_nothing_left();
}

#[test]
fn kernels_and_images_that_cannot_boot_are_told_apart() {
    let osvm = Osvm::new();
    let trial = tempfile::tempdir().unwrap();
    let truncated = trial.path().join("truncated");
    let kernel = fs::read(osvm.home().join("kernel/vmlinux.bin")).unwrap();
    fs::write(&truncated, &kernel[..kernel.len() / 2]).unwrap();
    let text = trial.path().join("text");
    fs::write(&text, "no kernel, no archive\n").unwrap();
    let cut = trial.path().join("cut.cpio");
    let cpio = fs::read(osvm.home().join("rootfs/mcp-server.cpio")).unwrap();
    fs::write(&cut, &cpio[..cpio.len() / 2]).unwrap();
    let folder = trial.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let missing = trial.path().join("missing");

    let refused = |flag: &str, path: &std::path::Path| {
        let path = path.to_str().unwrap();
        osvm.run(&["mcp", "microvm", "launch", "trial", flag, path]).expect(4).says(&[path]);
    };
    for path in [&missing, &folder, &truncated, &text] {
        refused("--kernel", path);
    }
    for path in [&missing, &text, &cut] {
        refused("--rootfs", path);
    }
    osvm.assert_nothing_left();
}

#[test]
fn without_setup_the_hint_is_to_run_it() {
    let osvm = Osvm::bare();
    osvm.run(&["mcp", "microvm", "launch", "demo"]).expect(4).says(&["hint", "osvm setup"]);
}

#[test]
fn a_configuration_that_cannot_be_read_names_file_line_and_key() {
    let osvm = Osvm::new();
    for (text, words) in [
        ("[microvm\n", vec!["isolation_config.toml:1"]),
        ("[microvm]\nmemroy = 1\n", vec!["isolation_config.toml:2", "memroy"]),
        (
            "[microvm]\ndefault_memory_mb = \"x\"\n",
            vec!["isolation_config.toml:2", "default_memory_mb"],
        ),
        (
            "[[servers]]\nid = \"a\"\n[[servers.tools]]\nname = \"t\"\nisolation = \"none\"\n",
            vec!["isolation_config.toml:5", "looser"],
        ),
    ] {
        osvm.write_config(text);
        osvm.run(&["mcp", "microvm", "launch", "demo"]).expect(2).says(&words);
        osvm.run(&["mcp", "list"]).expect(2).says(&words);
    }
}

#[test]
fn switched_off_means_refused_and_never_the_host() {
    let osvm = Osvm::with_config("[microvm]\nenabled = false\n[[servers]]\nid = \"demo\"\n");
    osvm.run(&["mcp", "call", "demo", "echo", "{}"]).expect(6).says(&["switched off"]);
    osvm.run(&["mcp", "microvm", "launch", "demo"]).expect(6);
    osvm.write_config("[[servers]]\nid = \"demo\"\nisolation_mode = \"none\"\n");
    osvm.run(&["mcp", "call", "demo", "echo", "{}"]).expect(6).says(&["host"]);
}

#[test]
fn errors_are_one_json_object_where_json_was_asked_for() {
    let osvm = Osvm::new();
    let ended = osvm.run(&["mcp", "call", "nobody", "echo", "{}", "--json"]).expect(3);
    assert_eq!(ended.stdout, "");
    let error: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert!(error.to_string().contains("nobody"), "{error}");
}
