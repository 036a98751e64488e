//! Images, as a user makes, sees and removes them.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::osvm::{Osvm, Ran};
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
fn what_images_are_made_from_is_pruned_when_that_is_asked_for() {
    let osvm = Osvm::new();
    osvm.ok(&["image", "list"]);
    let layers = osvm.home().join("images/layers");
    ["base-runtime-2", "package-of-a-full-disk"]
        .iter()
        .for_each(|name| fs::write(layers.join(name), [0; 100]).unwrap());
    let pruned = osvm.json(&["image", "prune", "--json"]);
    assert_eq!(pruned["layers"], json!(["package-of-a-full-disk"]));
    let told = osvm.ok(&["image", "prune", "--layers", "--dry-run"]);
    assert_eq!(told, "would remove layer base-runtime-2\nwould remove 0 KiB in all\n");
    osvm.ok(&["image", "prune", "--layers"]);
    assert_eq!(fs::read_dir(layers).unwrap().count(), 0);
}

#[test]
fn what_can_not_be_an_image_is_refused_by_name() {
    let osvm = Osvm::new();
    refused(&osvm, 1, &["image", "build", "/nowhere"], "failed to use image /nowhere");
    refused(&osvm, 3, &["image", "inspect", "abc"], "begins with abc");
}

#[test]
fn an_image_that_claims_to_have_50_gb_is_refused_before_any_of_it_comes() {
    let osvm = Osvm::new();
    let reference = registry::serve_claiming("mcp/large", 50 << 30) + "/mcp/large";
    let add = ["mcp", "add", "large", "--image", &reference];
    refused(&osvm, 1, &add, "it has over 34359738368 bytes of layers");
    let pulled = fs::read_dir(osvm.home().join("images/parts")).unwrap().flatten();
    let pulled = pulled.filter(|entry| entry.path().is_dir());
    assert!(pulled.flat_map(|entry| fs::read_dir(entry.path()).unwrap()).next().is_none());
    assert!(!osvm.config().exists());
}

/// In an address space, and with files, of a size in which nothing without an end has room.
#[test]
fn what_says_which_layers_there_are_has_an_end() {
    for length in [None, Some(50 << 30)] {
        let osvm = Osvm::new();
        let reference = registry::serve_endless(length) + "/mcp/endless";
        let program = env!("CARGO_BIN_EXE_osvm");
        let limits = ["--as=1073741824", "--fsize=16777216", program];
        let add = ["mcp", "add", "endless", "--image", &reference];
        let ran =
            Ran::from(osvm.within("prlimit", &[&limits[..], &add].concat()).output().unwrap());
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("it has over 4 MiB"), "{}", ran.stderr);
        assert!(!osvm.config().exists());
    }
}
