//! Servers that lie on the host as one program or as a project, added by their paths.

use std::fs;

use serde_json::{Value, json};

use crate::bundles::{NODE, PYTHON};
use crate::osvm::Osvm;

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
