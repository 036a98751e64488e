//! Servers that lie on the host as one program or as a project, added by their paths.

use std::fs;

use serde_json::{Value, json};

use crate::bundles::{NODE, PYTHON, WORDS};
use crate::osvm::Osvm;
use crate::wheels::{Index, Wheel};
use crate::world::World;

fn tell(osvm: &Osvm) -> Value {
    serde_json::from_str(&osvm.call("b", "tell", &json!({}))).unwrap()
}

#[test]
fn a_dynamically_linked_program_runs_with_the_words_as_its_arguments() {
    let osvm = Osvm::for_packages();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("my-server");
    fs::copy("/usr/bin/python3", &program).unwrap();
    let image = program.display().to_string();
    osvm.ok(&["mcp", "add", "b", "--image", &image, "--", "-c", PYTHON, "/work"]);
    let said = tell(&osvm);
    assert_eq!(said["args"], json!(["/work"]));
    assert_ne!(said["uid"], 0);
    assert_eq!(osvm.vm("b")["command"][0], "/usr/local/bin/my-server");
}

#[test]
fn a_project_of_node_runs_with_its_modules_and_is_made_anew_when_it_has_changed() {
    let osvm = Osvm::for_packages();
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path();
    let package =
        json!({ "name": "b", "bin": { "b": "./dist/b.js" }, "dependencies": { "words": "1" } });
    fs::write(project.join("package.json"), package.to_string()).unwrap();
    fs::create_dir(project.join("dist")).unwrap();
    fs::write(project.join("dist/b.js"), NODE).unwrap();
    let image = project.display().to_string();
    let add = ["mcp", "add", "b", "--image", &image, "--", "/work"];
    osvm.run(&add).expect(1).says(&["node_modules", "npm install"]);

    let module = project.join("node_modules/words/index.js");
    fs::create_dir_all(module.parent().unwrap()).unwrap();
    fs::write(&module, "module.exports = 'of a module';").unwrap();
    osvm.ok(&add);
    let said = tell(&osvm);
    assert_eq!((&said["args"], &said["words"]), (&json!(["/work"]), &json!("of a module")));
    assert_eq!(said["writes"], true, "the project is its server's");
    assert!(!project.join("dist/kept").exists(), "what it writes stays in its VM");

    fs::write(&module, "module.exports = 'changed';").unwrap();
    osvm.ok(&["mcp", "microvm", "stop", "b"]);
    osvm.run(&["mcp", "call", "b", "tell", "{}"]).expect(6).says(&["osvm mcp accept b"]);
    osvm.ok(&["mcp", "accept", "b", "--yes"]);
    assert_eq!(tell(&osvm)["words"], "changed");
}

#[test]
fn a_project_of_python_runs_with_what_it_needs_installed_in_a_vm() {
    let Some(world) = World::new() else { return };
    let (index, osvm) = (Index::new(&world), Index::osvm(&world));
    let sum = index.publish(&WORDS);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    // An environment of this machine's is not taken along.
    write(".venv/pyvenv.cfg", "");
    write("server.py", PYTHON);
    write("requirements.txt", "words==1\n");
    let image = folder.path().display().to_string();
    let add = ["mcp", "add", "b", "--image", &image, "--", "/work"];
    osvm.ok(&add);
    let said = tell(&osvm);
    assert_eq!((&said["words"], &said["args"]), (&json!("of a wheel"), &json!(["/work"])));
    assert_eq!((&said["cwd"], &said["writes"]), (&json!("/app"), &json!(true)));
    let remove = || {
        osvm.ok(&["mcp", "microvm", "stop", "b"]);
        osvm.ok(&["mcp", "remove", "b"]);
    };
    remove();

    // A package, built by itself, whose program has its name, and whose lock file knows of nothing newer.
    index.publish(&Wheel { version: "2", files: &[("words.py", "WORDS = 'newer'\n")], ..WORDS });
    write("uv.lock", &LOCK.replace("SUM", &sum));
    write("src/b.py", &format!("{PYTHON}\ndef main():\n    pass\n"));
    write("builds.py", BUILDS);
    write("pyproject.toml", PYPROJECT);
    fs::remove_file(folder.path().join("server.py")).unwrap();
    osvm.ok(&add);
    let said = tell(&osvm);
    assert_eq!((&said["words"], &said["args"]), (&json!("of a wheel"), &json!(["/work"])));
    assert_eq!(osvm.vm("b")["command"], json!(["/app/.venv/bin/b", "/work"]));
    remove();

    fs::remove_file(folder.path().join("uv.lock")).unwrap();
    write("pyproject.toml", &PYPROJECT.replace("words", "missing-package"));
    osvm.run(&add).expect(1).says(&[&image, "missing-package"]);
    assert!(!osvm.ok(&["mcp", "list"]).contains("/app"));
}

const PYPROJECT: &str = r#"
[project]
name = "b"
version = "1"
requires-python = ">=3.9"
dependencies = ["words"]
scripts = { b = "b:main" }
[build-system]
requires = []
build-backend = "builds"
backend-path = ["."]
"#;

const LOCK: &str = r#"
version = 1
requires-python = ">=3.9"
[[package]]
name = "b"
version = "1"
source = { editable = "." }
dependencies = [{ name = "words" }]
[package.metadata]
requires-dist = [{ name = "words" }]
[[package]]
name = "words"
version = "1"
source = { registry = "https://api.example.test/simple" }
wheels = [{ url = "https://api.example.test/simple/words/words-1-py3-none-any.whl", hash = "sha256:SUM" }]
"#;

/// A backend of PEP 517 that needs nothing.
const BUILDS: &str = r#"
import os, zipfile
def build_wheel(folder, config=None, metadata=None):
    name, about = "b-1-py3-none-any.whl", "b-1.dist-info"
    files = {
        "b.py": open("src/b.py").read(),
        about + "/METADATA": "Metadata-Version: 2.1\nName: b\nVersion: 1\nRequires-Dist: words\n",
        about + "/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        about + "/entry_points.txt": "[console_scripts]\nb = b:main\n",
    }
    files[about + "/RECORD"] = "".join(name + ",,\n" for name in [*files, about + "/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
"#;
