//! Servers in container images.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::osvm::Osvm;
use crate::rootfs::{MY_SERVER, Rootfs};

fn tar(folder: &Path, out: &Path) {
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(out).arg("--directory").arg(folder).arg(".");
    let packed = tar.output().unwrap();
    assert!(packed.status.success(), "{packed:?}");
}

/// As `docker save` writes it, but for the layers' digests, which are told anew.
fn save(layers: &[&Path], config: &Value, out: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let mut digests = Vec::new();
    for (layer, name) in layers.iter().zip(&names) {
        let path = folder.path().join(name);
        tar(layer, &path);
        let sum = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
        digests.push(format!("sha256:{}", String::from_utf8_lossy(&sum[..64])));
    }
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["mine:1"], "Layers": names }]);
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    fs::write(folder.path().join("manifest.json"), manifest.to_string()).unwrap();
    tar(folder.path(), out);
}

#[test]
fn a_container_images_archive_runs_as_it_says_of_itself() {
    let (lower, upper) = (Rootfs::with_server(MY_SERVER), tempfile::tempdir().unwrap());
    fs::write(lower.path().join("etc/removed"), "").unwrap();
    fs::create_dir_all(upper.path().join("etc")).unwrap();
    fs::write(upper.path().join("etc/.wh.removed"), "").unwrap();
    fs::write(upper.path().join("etc/added"), "of the upper layer").unwrap();
    let script = format!("test -e /etc/removed && exit 1; cat /etc/added >&2; {MY_SERVER}");
    let config = json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": [script],
        "Env": ["GREETING=hello"], "User": "4321:4321", "WorkingDir": "/work",
    });
    let archive = upper.path().with_extension("tar");
    save(&[lower.path(), upper.path()], &config, &archive);

    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "mine", "--image", archive.to_str().unwrap()]);
    assert_eq!(osvm.call("mine", "my-tool", &json!({ "a": 1 })), "{\"a\":1}\n");
    let asked = "echo $GREETING; id -u; pwd; cat /etc/added";
    let told = osvm.ok(&["mcp", "microvm", "exec", "mine", "--", "/bin/sh", "-c", asked]);
    assert_eq!(told, "hello\n4321\n/work\nof the upper layer");
    fs::remove_file(archive).unwrap();
}

#[test]
fn a_container_image_that_is_damaged_is_refused_by_name() {
    let root = Rootfs::with_server(MY_SERVER);
    let archive = root.path().with_extension("tar");
    save(&[root.path()], &json!({ "Entrypoint": ["/bin/server"] }), &archive);
    let mut bytes = fs::read(&archive).unwrap();
    let at = bytes.windows(9).position(|bytes| bytes == b"my-server").unwrap();
    bytes[at] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let osvm = Osvm::new();
    let name = archive.to_str().unwrap();
    osvm.run(&["mcp", "microvm", "launch", "mine", "--image", name])
        .expect(4)
        .says(&[name, "sha256:"]);
    assert!(osvm.vmm_processes().is_empty());
    fs::remove_file(archive).unwrap();
}
