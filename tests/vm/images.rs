//! Servers in container images.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::forwarder::Forwarder;
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

/// The reference implementation of a registry of container images, on the loopback.
struct Registry {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Nothing where it is not installed.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (data, config) = (folder.path().join("data"), folder.path().join("config.yml"));
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut process) = command.spawn() else {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        };
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = said.find(|line| line.contains("listening on ")).unwrap();
        let address = line.split("listening on ").nth(1).unwrap();
        let address = address.split(['"', ' ', ',']).next().unwrap().to_owned();
        // Who stops reading stops it.
        std::thread::spawn(move || said.for_each(drop));
        Some(Self { process, address, _folder: folder })
    }

    /// One image of one layer.
    fn push(&self, name: &str, root: &Path, config: &Value) {
        let layer = root.with_extension("layer");
        tar(root, &layer);
        let bytes = fs::read(&layer).unwrap();
        fs::remove_file(layer).unwrap();
        let layer = self.blob(name, &bytes);
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = self.blob(name, config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": with_type(config, "config.v1+json"), "layers": [with_type(layer, "layer.v1.tar")],
        });
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let path = format!("/v2/{name}/manifests/latest");
        let answer = self.send("PUT", &path, kind, manifest.to_string().as_bytes());
        assert!(answer.contains(" 201 "), "{answer}");
    }

    fn blob(&self, name: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", sum(bytes));
        let answer = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), "text/plain", b"");
        let place = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
        let place = place.trim().split_once(&self.address).unwrap().1;
        let path = format!("{place}&digest={digest}");
        let answer = self.send("PUT", &path, "application/octet-stream", bytes);
        assert!(answer.contains(" 201 "), "{answer}");
        json!({ "digest": digest, "size": bytes.len() })
    }

    /// One request on a connection of its own; its answer.
    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

fn with_type(mut blob: Value, kind: &str) -> Value {
    blob["mediaType"] = json!(format!("application/vnd.oci.image.{kind}"));
    blob
}

fn sum(bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let summed = Command::new("sha256sum").arg(file.path()).output().unwrap().stdout;
    String::from_utf8_lossy(&summed[..64]).into_owned()
}

#[test]
fn an_image_of_a_registry_is_pulled_when_it_is_added_and_runs_without_the_registry() {
    let Some(registry) = Registry::new() else { return };
    let root = Rootfs::with_server(MY_SERVER);
    let config = json!({ "Entrypoint": ["/bin/sh", "-c", MY_SERVER], "Env": ["GREETING=pulled"] });
    registry.push("mcp/mine", root.path(), &config);
    let reference = format!("{}/mcp/mine", registry.address);

    let osvm = Osvm::new();
    let missing = format!("{}/mcp/none", registry.address);
    osvm.run(&["mcp", "add", "none", "--image", &missing]).expect(1).says(&["no such image"]);
    osvm.ok(&["mcp", "add", "mine", "--image", &reference]);
    let digest = osvm.ok(&["image", "pull", &reference]);
    drop(registry);
    assert_eq!(osvm.call("mine", "my-tool", &json!({ "a": 1 })), "{\"a\":1}\n");
    let asked = ["mcp", "microvm", "exec", "mine", "--", "/bin/sh", "-c", "echo $GREETING"];
    assert_eq!(osvm.ok(&asked), "pulled\n");
    assert_eq!(osvm.vm("mine")["image"], digest.trim());
}

#[test]
fn a_registry_that_goes_down_halfway_is_named_and_the_next_try_goes_on_where_it_was() {
    const MIB: u64 = 1 << 20;
    let Some(registry) = Registry::new() else { return };
    let wire = Forwarder::new(registry.address.parse().unwrap());
    let root = Rootfs::with_server(MY_SERVER);
    fs::write(root.path().join("large"), vec![7; 24 << 20]).unwrap();
    let config = json!({ "Entrypoint": ["/bin/sh", "-c", MY_SERVER] });
    registry.push("mcp/mine", root.path(), &config);
    let address = wire.address.to_string();
    let reference = format!("{address}/mcp/mine");

    let osvm = Osvm::new();
    let add = ["mcp", "add", "mine", "--image", &reference];
    wire.cut_after(16 * MIB);
    osvm.run(&add).expect(1).says(&["pull", &address]);
    assert!(!osvm.ok(&["mcp", "list"]).contains("mine"));
    assert_eq!(osvm.json(&["image", "list", "--json"]), json!([]));

    wire.mend();
    osvm.ok(&add);
    assert!(wire.sent() < 10 * MIB, "{} bytes came once more", wire.sent());
    assert_eq!(osvm.call("mine", "my-tool", &json!({ "a": 1 })), "{\"a\":1}\n");
}
