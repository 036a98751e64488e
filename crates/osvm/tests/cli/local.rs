//! Servers that lie on this host as one program or as a project, as `osvm mcp add` takes and refuses them.

use std::fs;

use serde_json::json;

use crate::osvm::Osvm;

#[test]
fn a_script_is_started_with_the_words_and_they_are_written_down_whole() {
    let osvm = Osvm::new();
    let layers = osvm.home().join("images/layers");
    fs::create_dir_all(&layers).unwrap();
    fs::write(layers.join("base-runtime-2"), [0; 1024]).unwrap();
    fs::write(osvm.folder().join("mine"), "#!/bin/sh\n").unwrap();
    let ran = osvm.run(&["mcp", "add", "mine", "--image", "./mine", "--", "--verbose"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let shown = osvm.json(&["mcp", "show", "mine", "--json"]);
    assert_eq!(shown["command"], json!(["/usr/local/bin/mine", "--verbose"]));
    let image = osvm.json(&["image", "list", "--json"]);
    assert_eq!(image[0]["entrypoint"], json!(["/usr/local/bin/mine"]));
    osvm.run(&["daemon", "--stop"]);
}

#[test]
fn what_can_not_run_is_refused_with_the_reason_and_nothing_is_written() {
    let osvm = Osvm::new();
    fs::write(osvm.folder().join("of-windows"), "MZ").unwrap();
    fs::write(osvm.folder().join("server.py"), "print()").unwrap();
    fs::create_dir(osvm.folder().join("project")).unwrap();
    fs::write(osvm.folder().join("project/package.json"), "{}").unwrap();
    fs::create_dir(osvm.folder().join("library")).unwrap();
    fs::write(osvm.folder().join("library/pyproject.toml"), "[project]\nname = 'a'\n").unwrap();
    for (code, path, words) in [
        (6, "./of-windows", "a program for Windows"),
        (1, "./server.py", "#!/usr/bin/env python3"),
        (1, "./project", "npm run build"),
        (1, "./library", "there is no server.py or main.py"),
    ] {
        let ran = osvm.run(&["mcp", "add", "mine", "--image", path]);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
        assert!(!osvm.config().exists());
    }
}
