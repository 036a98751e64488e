//! Programs and projects of every kind, as they are read, refused and packed.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::store::{Bundled, Source, Store};
use crate::{Config, Stack};

/// A folder of a test's own.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A project with this package.json, and files that have nothing in them.
    fn project(package: &str, files: &[&str]) -> Self {
        let scene = Self::new();
        scene.write("package.json", package);
        for file in files {
            scene.write(file, "");
        }
        scene
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    #[track_caller]
    fn command(&self) -> Vec<String> {
        assert!(is_server(self.root()));
        Server::read(self.root()).unwrap().command
    }
}

#[track_caller]
fn refused(path: &Path, words: &str) -> LocalError {
    assert!(is_server(path), "{}", path.display());
    let error = Server::read(path).unwrap_err();
    let told = error.to_string();
    assert!(told.contains(words) && told.contains(path.to_str().unwrap()), "{told}");
    error
}

/// The header of an executable, as this machine's are but for what is changed.
fn elf(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = fs::read("/proc/self/exe").unwrap();
    bytes.truncate(4096);
    change(&mut bytes);
    bytes
}

/// Names, modes, and targets of links. A project is the server's, everything else root's.
fn layer(server: &Server) -> BTreeMap<String, (u32, String)> {
    let mut out = Vec::new();
    server.write_layer(&mut out).unwrap();
    let mut archive = tar::Archive::new(&out[..]);
    let about = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        let header = entry.header();
        let link = entry.link_name().unwrap().unwrap_or_default().display().to_string();
        let path = entry.path().unwrap().display().to_string();
        let owner = if path.starts_with("app") { 1000 } else { 0 };
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (owner, owner), "{path}");
        (path.trim_end_matches('/').to_owned(), (header.mode().unwrap(), link))
    };
    archive.entries().unwrap().map(about).collect()
}

#[test]
fn a_program_of_this_machine_is_roots_and_everybody_may_run_it() {
    let scene = Scene::new();
    let path = scene.write("my-server", elf(|_| {}));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let link = scene.path("link");
    symlink(&path, &link).unwrap();
    for path in [path, link] {
        assert!(is_server(&path));
        let server = Server::read(&path).unwrap();
        assert_eq!(
            (server.kind, &*server.command),
            (Kind::Binary, &["/usr/local/bin/my-server".to_owned()][..])
        );
        let want = ("usr/local/bin/my-server".to_owned(), (0o755, String::new()));
        assert_eq!(layer(&server), [want].into());
    }
}

#[test]
fn a_program_that_can_not_run_here_is_refused_with_the_reason() {
    let scene = Scene::new();
    let machine = elf(|bytes| bytes[18..20].copy_from_slice(&243_u16.to_le_bytes()));
    refused(&scene.write("a", machine), "a program for riscv64");
    let unknown = elf(|bytes| bytes[18..20].copy_from_slice(&999_u16.to_le_bytes()));
    refused(&scene.write("b", unknown), "a program for machine 999");
    refused(&scene.write("c", elf(|bytes| bytes[16] = 1)), "a part of a program");
    refused(&scene.write("d", elf(|bytes| bytes[24..32].fill(0))), "a library");
    refused(&scene.write("e", b"\x7fELF"), "no program");
    refused(&scene.write("f.exe", b"MZ\x90"), "for Windows");
    refused(&scene.write("g", b"\xcf\xfa\xed\xfe"), "for macOS");
    refused(&scene.write("h.py", "print()"), "#!/usr/bin/env python3");
    refused(&scene.write("i", "#!/usr/bin/perl -w\n"), "started by perl");
    refused(&scene.write("j", "#!"), "a script begins with");
    refused(&scene.write("k", "#!/usr/bin/env"), "a script begins with");
    assert!(!is_server(&scene.write("l", "no program at all")));
    assert!(!is_server(&scene.path("absent")));
}

#[test]
fn a_scripts_first_line_says_what_it_runs_on() {
    let scene = Scene::new();
    let lines = [
        ("#!/bin/sh -e\n", Kind::Binary),
        ("#!/usr/bin/env bash\n", Kind::Binary),
        ("#! /usr/bin/env -S python3 -u\n", Kind::Python),
        ("#!/usr/bin/env node\n", Kind::Node),
    ];
    for (line, kind) in lines {
        let path = scene.write("script", line);
        assert_eq!(Server::read(&path).unwrap().kind, kind, "{line}");
    }
    let python = Server::read(&scene.write("script", "#!/usr/bin/env python\n")).unwrap();
    assert_eq!(layer(&python)["usr/local/bin/python"].1, "/usr/bin/python3");
}

#[test]
fn a_project_is_started_as_its_package_says() {
    let files = ["index.js", "a.js", "bin/cli.js", "dist/index.js"];
    let command = |package: &str| Scene::project(package, &files).command().pop().unwrap();
    assert_eq!(command("{}"), "/app/index.js");
    assert_eq!(command(r#"{"main": "./a"}"#), "/app/a");
    assert_eq!(command(r#"{"main": "dist", "bin": {}}"#), "/app/dist");
    assert_eq!(command(r#"{"main": "a.js", "bin": "./bin/cli.js"}"#), "/app/bin/cli.js");
    assert_eq!(command(r#"{"bin": {"any": "a.js"}}"#), "/app/a.js");
    let several = r#"{"name": "@scope/own", "bin": {"other": "a.js", "own": "bin/cli.js"}}"#;
    assert_eq!(command(several), "/app/bin/cli.js");
    assert_eq!(Scene::project("{}", &files).command()[0], "node");
}

#[test]
fn a_project_that_can_not_run_is_refused_with_what_to_do() {
    let of_node = |package: &str, words: &str| {
        let scene = Scene::project(package, &["a.js"]);
        refused(&fs::canonicalize(scene.root()).unwrap(), words).hint().unwrap_or_default()
    };
    let hint = of_node(r#"{"main": "a.js", "dependencies": {"b": "1"}}"#, "node_modules");
    assert!(hint.starts_with("cd /") && hint.ends_with(" && npm install"), "{hint}");
    let hint = of_node(r#"{"main": "./dist/b.js"}"#, "it has no dist/b.js");
    assert!(hint.ends_with("npm run build"), "{hint}");
    of_node(r#"{"main": "../a.js"}"#, "starts ../a.js, which is not in it");
    of_node(r#"{"main": "/a.js"}"#, "starts /a.js, which is not in it");
    of_node(
        r#"{"name": "n", "bin": {"x": "a.js", "y": "a.js"}}"#,
        "several programs, and none of its own name: x, y",
    );
    of_node("no JSON", "is not understood");
}

/// A project of Python with this pyproject.toml.
fn of_python(pyproject: &str, files: &[&str]) -> Scene {
    let scene = Scene::new();
    scene.write("pyproject.toml", pyproject);
    files.iter().for_each(|file| drop(scene.write(file, "")));
    scene
}

const BUILT: &str =
    "[build-system]\nrequires = []\n[project]\nname = \"My.Own\"\n[project.scripts]\n";

#[test]
fn a_project_of_python_is_started_by_its_program_or_its_file() {
    let started = |scene: &Scene| {
        let server = Server::read(scene.root()).unwrap();
        assert!(is_server(scene.root()) && server.working_dir() == Some("/app"));
        (server.kind, server.command.join(" "))
    };
    let by = |kind, command: &str| (kind, command.to_owned());
    let only = of_python(&format!("{BUILT}any = 'a:b'"), &["server.py"]);
    assert_eq!(started(&only), by(Kind::Uv, "/app/.venv/bin/any"));
    let own = of_python(&format!("{BUILT}any = 'a:b'\nmy_own = 'a:b'"), &[]);
    assert_eq!(started(&own), by(Kind::Uv, "/app/.venv/bin/my_own"));
    let unbuilt = of_python("[project]\nname = 'a'\nscripts = { a = 'b:c' }", &["main.py"]);
    assert_eq!(started(&unbuilt), by(Kind::Uv, "/app/.venv/bin/python /app/main.py"));
    let files = ["server.py", "main.py"];
    let settings = of_python("[tool.ruff]\nline-length = 100", &files);
    assert_eq!(started(&settings), by(Kind::Python, "python3 /app/server.py"));
    settings.write("requirements.txt", "words");
    assert_eq!(started(&settings), by(Kind::Uv, "/app/.venv/bin/python /app/server.py"));
}

#[test]
fn a_project_of_python_that_can_not_start_is_refused_with_the_reason() {
    let of = |pyproject: &str, words: &str| drop(refused(of_python(pyproject, &[]).root(), words));
    of("[project]\nname = 'a'", "there is no server.py or main.py");
    of("[project]\nscripts = { a = 'b:c' }", "no [build-system] with [project.scripts]");
    of(&format!("{BUILT}x = 'a:b'\ny = 'a:b'"), "several programs, and none of its own name: x, y");
    of(&format!("{BUILT}\"../x\" = 'a:b'"), "a program that is called ../x");
    of("[project", "is not understood");
    of("project = 7", "is not understood");
}

#[test]
fn environments_and_what_python_has_compiled_stay_away() {
    let files = [
        "server.py",
        "src/a.py",
        "src/__pycache__/a.pyc",
        ".venv/pyvenv.cfg",
        ".venv/bin/python",
        "other/pyvenv.cfg",
        "venv/a.py",
    ];
    let found = layer(&Server::read(of_python("", &files).root()).unwrap());
    let names: Vec<_> = found.keys().filter(|name| name.ends_with(".py")).collect();
    assert_eq!(names, ["app/server.py", "app/src/a.py", "app/venv/a.py"]);
    assert!(!found.keys().any(|name| name.contains("pyvenv") || name.contains("pyc")));
}

#[test]
fn a_program_that_would_stand_in_front_of_those_of_the_image_is_refused() {
    let scene = Scene::new();
    for name in ["node", "python3", "sh"] {
        let hint =
            refused(&scene.write(name, "#!/usr/bin/env node\n"), "is called as a program").hint();
        assert!(hint.unwrap().ends_with(&format!("{name}-server")));
    }
}

#[test]
fn what_is_an_image_is_no_project() {
    for of_image in ["usr/x", "etc/x", "bin/sh", "oci-layout", ".osvm-image.json"] {
        let scene = Scene::project("{}", &[of_image, "index.js"]);
        assert!(!is_server(scene.root()), "{of_image}");
    }
    let scene = Scene::new();
    scene.write("bin/server", "");
    assert!(!is_server(scene.root()));
}

#[test]
fn a_projects_files_are_all_there_but_for_its_history() {
    let scene = Scene::project("{}", &["index.js", ".git/config", "node_modules/a/.git/x"]);
    symlink("index.js", scene.path("link")).unwrap();
    let tool = scene.write("tool", "");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o700)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scene.path("socket")).unwrap();
    let found = layer(&Server::read(scene.root()).unwrap());
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    let want = [
        "app",
        "app/index.js",
        "app/link",
        "app/node_modules",
        "app/node_modules/a",
        "app/node_modules/a/.git",
        "app/node_modules/a/.git/x",
        "app/package.json",
        "app/tool",
    ];
    assert_eq!(names, want);
    assert_eq!(found["app/link"].1, "index.js");
    assert_eq!((found["app/tool"].0, found["app/index.js"].0), (0o755, 0o644));
}

#[test]
fn an_image_is_current_until_a_file_in_it_changes() {
    let scene = Scene::project("{}", &["index.js", "lib/a.js"]);
    let beside = tempfile::tempdir().unwrap();
    let store = Store::open(&beside.path().join("images")).unwrap();
    let now = || Bundled::at(scene.root()).unwrap();
    let import = |between: &dyn Fn()| {
        let (mut bundled, layer) = (now(), beside.path().join("layer"));
        let server = Server::read(scene.root()).unwrap();
        server.write_layer(&mut fs::File::create(&layer).unwrap()).unwrap();
        between();
        let config = Config::new(server.command, Vec::new());
        bundled.stack = Stack { origin: "o".to_owned(), layers: vec![layer], config };
        store.import(&Source::Bundle(bundled), &mut |_| {})
    };
    let image = import(&|| {}).unwrap();
    assert_eq!(image.entrypoint, ["node", "/app/index.js"]);
    assert_eq!(store.current(&Source::Bundle(now())), Some(image.digest.clone()));
    assert!(Source::at(scene.root()).unwrap_err().to_string().contains("`osvm image build`"));
    scene.write("lib/a.js", "changed");
    assert_eq!(store.current(&Source::Bundle(now())), None);
    assert_ne!(import(&|| {}).unwrap().digest, image.digest);
    assert!(import(&|| drop(scene.write("lib/a.js", "changed meanwhile"))).is_err());
}
