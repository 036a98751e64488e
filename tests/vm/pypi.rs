//! Servers that come as packages of PyPI, from an index of the test's own.

use serde_json::{Value, json};

use crate::bundles::PYTHON;
use crate::osvm::Osvm;
use crate::wheels::{Index, Wheel};
use crate::world::World;

/// Its program tells the words of its own version.
fn server<'a>(name: &'a str, version: &'a str, files: &'a [(&'a str, &'a str)]) -> Wheel<'a> {
    Wheel { name, version, files, scripts: &["teller=teller:main"], yanked: None }
}

fn words(osvm: &Osvm) -> Value {
    let said: Value = serde_json::from_str(&osvm.call("b", "tell", &json!({}))).unwrap();
    said["words"].clone()
}

#[test]
fn a_version_that_was_taken_back_is_not_chosen_and_told_where_it_was_asked_for() {
    let Some(world) = World::new() else { return };
    let (index, osvm) = (Index::new(&world), Index::osvm(&world));
    let teller = format!("{PYTHON}\ndef main():\n    pass\n");
    let first = [("teller.py", &*teller), ("words.py", "WORDS = 'first'")];
    let second = [("teller.py", &*teller), ("words.py", "WORDS = 'second'")];
    index.publish(&server("teller", "1", &first));
    index.publish(&Wheel { yanked: Some("tells secrets"), ..server("teller", "2", &second) });
    index.publish(&Wheel { yanked: Some("all of it"), ..server("gone", "1", &first) });

    let added = osvm.run(&["mcp", "add", "b", "--", "uvx", "teller"]).expect(0);
    assert!(!added.stderr.contains("yanked"), "{added:?}");
    assert_eq!(words(&osvm), "first");
    osvm.ok(&["mcp", "microvm", "stop", "b"]);
    osvm.ok(&["mcp", "remove", "b"]);

    let add = ["mcp", "add", "b", "--", "uvx", "teller==2"];
    osvm.run(&add).expect(0).says(&["warning: `teller==2` is yanked", "tells secrets"]);
    assert_eq!(words(&osvm), "second");

    let add = ["mcp", "add", "gone", "--", "uvx", "gone"];
    osvm.run(&add).expect(1).says(&["install gone", "yanked"]);
    let add = ["mcp", "add", "gone", "--", "uvx", "gone>=2"];
    osvm.run(&add).expect(1).says(&["install gone>=2"]);
    assert!(!osvm.ok(&["mcp", "list"]).contains("gone"));
}

#[test]
fn a_program_that_is_called_as_one_of_the_image_takes_no_ones_place() {
    let Some(world) = World::new() else { return };
    let (index, osvm) = (Index::new(&world), Index::osvm(&world));
    let teller = PYTHON.replace("\"words\": WORDS", "\"words\": __import__('shutil').which('sh')");
    let teller = format!("{teller}\ndef main():\n    pass\n");
    let files = [("teller.py", &*teller)];
    let scripts = ["teller=teller:main", "sh=teller:main", "node=teller:main"];
    index.publish(&Wheel { scripts: &scripts, ..server("teller", "1", &files) });
    osvm.ok(&["mcp", "add", "b", "--", "uvx", "teller"]);
    assert_eq!(words(&osvm), "/usr/bin/sh");
    let python = ["teller=teller:main", "python=teller:main"];
    index.publish(&Wheel { scripts: &python, ..server("snake", "1", &files) });
    osvm.run(&["mcp", "add", "c", "--", "uvx", "--from", "snake", "teller"])
        .expect(1)
        .says(&["install", "snake", "python"]);
}
