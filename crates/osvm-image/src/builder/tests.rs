//! Requests and answers of the builder's scripts, and that Python takes the scripts.

use std::process::Command;

use serde_json::json;

use super::*;

const REGISTRIES: Registries<'_> =
    Registries { npm: "https://n.example", pypi: "https://p.example/simple", ca: None };

fn request(text: &str) -> serde_json::Value {
    let install: Install = text.parse().unwrap();
    serde_json::to_value(InstallRequest::new(&install, REGISTRIES, 60)).unwrap()
}

#[test]
fn a_request_says_what_npm_takes() {
    let want = json!({
        "ecosystem": "npm", "package": "@a/b@^1", "with": [], "python": null,
        "program": {"kind": "default"}, "npm_registry": "https://n.example",
        "pypi_index": "https://p.example/simple", "ca": null, "npmrc": null, "script_seconds": 60,
    });
    assert_eq!(request("npm:@a/b@^1"), want);
}

#[test]
fn a_request_says_what_uv_takes() {
    let asked = request("pypi:a[x]>=1,<2 --with b --python 3.12 --bin c");
    assert_eq!(asked["package"], "a[x]>=1,<2");
    assert_eq!(asked["with"], json!(["b"]));
    assert_eq!(asked["python"], "3.12");
    assert_eq!(asked["program"], json!({"kind": "named", "name": "c"}));
    assert_eq!(request("pypi:a --module a.b")["program"], json!({"kind": "module", "name": "a.b"}));
}

#[test]
fn settings_of_npm_stay_away_from_pypi() {
    let npmrc = |text: &str| {
        let install: Install = text.parse().unwrap();
        let request = InstallRequest::new(&install, REGISTRIES, 60).with_npmrc("//n/:_authToken=x");
        serde_json::to_value(request).unwrap()["npmrc"].clone()
    };
    assert_eq!(npmrc("npm:a"), "//n/:_authToken=x");
    assert!(npmrc("pypi:a").is_null());
}

#[test]
fn the_toolbox_is_asked_for_one_part() {
    let asked = ToolboxRequest { part: Part::Node, arch: "x86_64", registries: REGISTRIES };
    let want = json!({
        "part": "node", "arch": "x86_64", "npm_registry": "https://n.example",
        "pypi_index": "https://p.example/simple", "ca": null,
    });
    assert_eq!(serde_json::to_value(asked).unwrap(), want);
}

#[test]
fn a_projects_needs_are_asked_for_with_its_files() {
    let project = Project { package: "/here", folder: "/app", started_by_uv: false };
    let asked = BundleRequest::new(project, b"layer", REGISTRIES, 60);
    let want = json!({
        "package": "/here", "folder": "/app", "started_by_uv": false, "layer": "bGF5ZXI=",
        "npm_registry": "https://n.example", "pypi_index": "https://p.example/simple", "ca": null,
        "script_seconds": 60,
    });
    assert_eq!(serde_json::to_value(asked).unwrap(), want);
}

#[test]
fn an_answer_tells_the_program_and_the_packages() {
    let text = r#"{"entrypoint":["/a","b"],"env":{"C":"d"},"package":{"name":"e","version":"1"},
        "packages":[{"name":"e","version":"1","integrity":"sha512-x"}]}"#;
    let installed = Installed::parse(text.as_bytes()).unwrap();
    assert_eq!(installed.entrypoint, ["/a", "b"]);
    assert_eq!(installed.env["C"], "d");
    assert_eq!(installed.package, Identity { name: "e".to_owned(), version: "1".to_owned() });
    assert_eq!(installed.packages[0].integrity, "sha512-x");
    assert!(Installed::parse(b"{}").is_err());
}

#[test]
fn the_last_complaint_counts() {
    assert_eq!(complaint("error: a\nfetching b\nerror: fetch c: d\n"), Some("fetch c: d"));
    assert_eq!(complaint("fetching b\n"), None);
}

/// As they are handed to the builder's Python: by its command line, of which the kernel takes 128 KiB an argument.
#[test]
fn python_takes_the_scripts() {
    for script in [TOOLBOX, INSTALL, BUNDLE] {
        assert!(script.len() < 128 << 10, "{} bytes", script.len());
        python("import sys; compile(sys.argv[1], 'script', 'exec')", script);
    }
}

#[test]
fn the_scripts_pass_their_own_tests() {
    let all = [TOOLBOX, INSTALL, BUNDLE, include_str!("tests.py")].concat();
    let runs_nothing = all.lines().filter(|line| !line.starts_with("run("));
    python("import sys; exec(sys.argv[1])", &runs_nothing.collect::<Vec<_>>().join("\n"));
}

/// Runs a program of Python, of the version that the scripts are written for.
#[expect(clippy::disallowed_methods, reason = "the language is asked itself")]
fn python(program: &str, script: &str) {
    let run = |program: &str| Command::new("python3").args(["-c", program, script]).output();
    if !run("import tomllib").is_ok_and(|ran| ran.status.success()) {
        return eprintln!("skipped: there is no python3 of 3.11 or newer (package python3)");
    }
    let ran = run(program).unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
