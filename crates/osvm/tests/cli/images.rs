//! Images, as a user makes, sees and removes them.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::osvm::Osvm;
use crate::registry;

fn root(osvm: &Osvm, name: &str) -> PathBuf {
    let root = osvm.folder().join(name);
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), name).unwrap();
    fs::write(root.join(".osvm-image.json"), r#"{"Entrypoint":["/bin/it"],"Env":["A=b"]}"#)
        .unwrap();
    root
}

#[track_caller]
fn refused(osvm: &Osvm, code: i32, args: &[&str], words: &str) {
    let ran = osvm.run(args);
    assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
}

#[test]
fn an_image_is_built_listed_inspected_verified_and_removed() {
    let osvm = Osvm::new();
    assert_eq!(osvm.json(&["image", "list", "--json"]), json!([]));
    let root = root(&osvm, "root");
    let digest = osvm.ok(&["image", "build", root.to_str().unwrap()]).trim().to_owned();
    assert_eq!(osvm.ok(&["image", "build", root.to_str().unwrap()]).trim(), digest);
    let shown = osvm.json(&["image", "inspect", &digest[..15]]);
    assert_eq!(shown["digest"], json!(digest));
    assert_eq!((&shown["kind"], &shown["entrypoint"]), (&json!("disk"), &json!(["/bin/it"])));
    assert_eq!(shown["origin"], json!(root));
    let hex = digest.strip_prefix("sha256:").unwrap();
    let list = osvm.ok(&["image", "list"]);
    assert!(list.contains(&hex[..12]) && list.contains(root.to_str().unwrap()), "{list}");
    assert_eq!(osvm.ok(&["image", "verify"]), format!("{}  good\n", &hex[..12]));
    osvm.ok(&["image", "remove", hex]);
    refused(&osvm, 3, &["image", "remove", hex], "no image has a digest that begins with");
}

#[test]
fn a_registry_that_wants_to_know_who_asks_is_told_with_what_to_do() {
    let osvm = Osvm::new();
    let registry = registry::refuse();
    let pull = ["image", "pull", &format!("{registry}/a")];
    refused(&osvm, 1, &pull, &format!("hint: docker login {registry}"));
    fs::create_dir(osvm.folder().join(".docker")).unwrap();
    fs::write(osvm.folder().join(".docker/config.json"), r#"{"credsStore":"gone"}"#).unwrap();
    refused(&osvm, 1, &pull, "ask docker-credential-gone for the credentials of");
    refused(&osvm, 1, &pull, "hint: install docker-credential-gone, or");
}

#[test]
fn a_damaged_image_is_told_and_made_anew() {
    let osvm = Osvm::new();
    let root = root(&osvm, "root");
    let digest = osvm.ok(&["image", "build", root.to_str().unwrap()]).trim().to_owned();
    let blob = osvm.home().join("images/blobs").join(&digest[7..]);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[200] ^= 1;
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, bytes).unwrap();
    refused(&osvm, 1, &["image", "verify", &digest], "1 of 1 images are damaged");
    osvm.ok(&["image", "remove", &digest]);
    assert_eq!(osvm.ok(&["image", "build", root.to_str().unwrap()]).trim(), digest);
    osvm.ok(&["image", "verify", &digest]);
}

#[test]
fn what_a_server_uses_is_not_pruned() {
    let osvm = Osvm::new();
    let (used, unused) = (root(&osvm, "used"), root(&osvm, "unused"));
    let build = |path: &PathBuf| osvm.ok(&["image", "build", path.to_str().unwrap()]);
    let (used_digest, unused_digest) =
        (build(&used).trim().to_owned(), build(&unused).trim().to_owned());
    osvm.ok(&["mcp", "add", "files", "--image", used.to_str().unwrap()]);
    // It may be enabled again.
    osvm.ok(&["mcp", "disable", "files"]);
    fs::write(osvm.home().join("images/parts/given-up"), [0; 100]).unwrap();
    let told = osvm.json(&["image", "prune", "--dry-run", "--json"]);
    assert_eq!(told["images"], json!([unused_digest]));
    let pruned = osvm.json(&["image", "prune", "--json"]);
    assert_eq!(pruned["images"], json!([unused_digest]));
    assert_eq!(pruned["bytes"].as_u64().unwrap(), told["bytes"].as_u64().unwrap() + 100);
    let left = osvm.json(&["image", "list", "--json"]);
    let left: Vec<_> = left.as_array().unwrap().iter().map(|image| &image["digest"]).collect();
    assert_eq!(left, [&json!(used_digest)]);
    let used_by = &osvm.json(&["image", "inspect", &used_digest])["used_by"];
    assert_eq!(used_by, &json!(["files"]) as &Value);
}

#[test]
fn what_can_not_be_an_image_is_refused_by_name() {
    let osvm = Osvm::new();
    refused(&osvm, 1, &["image", "build", "/nowhere"], "failed to use image /nowhere");
    refused(&osvm, 3, &["image", "inspect", "abc"], "begins with abc");
}
