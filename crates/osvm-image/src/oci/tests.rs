//! Whole images: by hand with every fault, and by other people's tools.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::decompress::tests::{gzip, zstd};
use crate::disk::tests::{everything, unpack};
use crate::store::{Image, ImportError, Local, Root, Source, Store};

/// A layer of files with their contents; none for a folder.
pub(super) fn layer(files: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let mut archive = ::tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = ::tar::Header::new_ustar();
        header.set_entry_type(match content {
            Some(_) => ::tar::EntryType::Regular,
            None => ::tar::EntryType::Directory,
        });
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o755);
        header.set_size(content.map_or(0, |content| content.len() as u64));
        header.set_cksum();
        archive.append(&header, content.unwrap_or_default()).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    super::layer::digest(sha2::Sha256::new_with_prefix(bytes)).to_string()
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// An image in pieces: what a layout's blobs are, and a registry's.
#[derive(Clone)]
pub(super) struct Pieces {
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
    pub(super) manifest: Value,
    pub(super) configuration: Value,
}

impl Pieces {
    /// Of layers, and how each is packed.
    pub(super) fn of(layers: &[(&[u8], Pack)]) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|(plain, _)| digest_of(plain)).collect();
        let configuration = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "config": {"Entrypoint": ["/bin/a"], "Cmd": null, "Env": ["A=b"], "WorkingDir": "/w"},
        });
        let manifest = json!({"schemaVersion": 2, "layers": []});
        let mut pieces = Self { blobs: BTreeMap::new(), manifest, configuration };
        for (plain, pack) in layers {
            let layer = pieces.put(&pack(plain), "application/vnd.oci.image.layer.v1.tar+gzip");
            pieces.manifest["layers"].as_array_mut().unwrap().push(layer);
        }
        pieces
    }

    pub(super) fn put(&mut self, bytes: &[u8], media_type: &str) -> Value {
        let digest = digest_of(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Puts configuration and manifest, and gives the manifest's descriptor.
    pub(super) fn finish(&mut self) -> Value {
        let configuration = self.configuration.to_string();
        let configuration =
            self.put(configuration.as_bytes(), "application/vnd.oci.image.config.v1+json");
        self.manifest["config"] = configuration;
        let manifest = self.manifest.to_string();
        self.put(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json")
    }

    fn write(&self, folder: &Path, manifests: &Value) {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        for (digest, bytes) in &self.blobs {
            fs::write(folder.join(layout::path(digest)), bytes).unwrap();
        }
    }
}

struct World {
    folder: TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("images")).unwrap();
        Self { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn import(&self, path: &Path) -> Result<Image, ImportError> {
        self.store.import(&Source::at(path).unwrap(), &mut |_| {})
    }

    fn layout(&self, mut pieces: Pieces) -> PathBuf {
        let manifest = pieces.finish();
        let path = self.path("layout");
        pieces.write(&path, &json!([manifest]));
        path
    }

    /// Why the pieces are refused; nothing of them may be left.
    #[track_caller]
    fn refusal(&self, pieces: Pieces) -> String {
        self.refused(&self.layout(pieces))
    }

    #[track_caller]
    fn refused(&self, path: &Path) -> String {
        let refused = chain(&self.import(path).unwrap_err());
        assert!(self.store.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(self.path("images/parts")).unwrap().count(), 0);
        refused
    }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

pub(super) fn disk(image: &Image) -> Vec<u8> {
    let Root::Disk(path) = &image.root else { panic!("{image:?}") };
    fs::read(path).unwrap()
}

#[track_caller]
fn assert_holds(image: &Image, files: &[(&str, &[u8])]) {
    let Some((_work, out)) = unpack(&disk(image)) else { return };
    for (name, content) in files {
        assert!(fs::read(out.join(name)).unwrap() == *content, "{name}");
    }
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// As parallel packers write it.
fn two_members(bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [gzip(first), gzip(second)].concat()
}

fn one() -> Vec<u8> {
    layer(&[("bin", None), ("bin/a", Some(b"one")), ("gone", Some(b"x"))])
}

fn two() -> Vec<u8> {
    layer(&[(".wh.gone", Some(b"")), ("bin/b", Some(b"two"))])
}

#[test]
fn layers_of_every_compression_become_one_disk() {
    let world = World::new();
    let mut digests = Vec::new();
    for pack in [plain, gzip, zstd, two_members] {
        let path = world.layout(Pieces::of(&[(&one(), pack), (&two(), pack)]));
        let image = world.import(&path).unwrap();
        assert_eq!(image.entrypoint, ["/bin/a"]);
        assert_eq!(image.env, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(image.workdir.as_deref(), Some("/w"));
        assert_eq!(image.architecture.as_deref(), Some("amd64"));
        assert_holds(&image, &[("bin/a", b"one"), ("bin/b", b"two")]);
        digests.push(image.digest);
        fs::remove_dir_all(path).unwrap();
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[test]
fn another_command_is_another_image() {
    let world = World::new();
    let first = world.import(&world.layout(Pieces::of(&[(&one(), gzip)]))).unwrap();
    let mut pieces = Pieces::of(&[(&one(), gzip)]);
    pieces.configuration["config"]["Entrypoint"] = json!(["/bin/b"]);
    let second = world.import(&world.layout(pieces)).unwrap();
    assert_ne!(first.digest, second.digest);
    assert_eq!(world.store.inspect(&first.digest).unwrap().entrypoint, ["/bin/a"]);
}

#[test]
fn a_corrupt_layer_is_refused_by_its_digest() {
    let world = World::new();
    let mut pieces = Pieces::of(&[(&one(), gzip)]);
    let (digest, bytes) = pieces.blobs.first_key_value().unwrap();
    let (digest, mut bytes) = (digest.clone(), bytes.clone());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    pieces.blobs.insert(digest.clone(), bytes);
    let refused = world.refusal(pieces);
    assert!(refused.contains(&format!("trust {digest}: its digest is sha256:")), "{refused}");
}

#[test]
fn a_cut_or_a_longer_blob_is_refused_by_its_size() {
    for change in [-5_i32, 5] {
        let world = World::new();
        let mut pieces = Pieces::of(&[(&one(), gzip)]);
        let bytes = pieces.blobs.values_mut().next().unwrap();
        bytes.resize(bytes.len().saturating_add_signed(change as isize), 0);
        let refused = world.refusal(pieces);
        assert!(refused.contains("bytes instead of"), "{refused}");
    }
}

#[test]
fn a_layer_that_is_another_when_decompressed_is_refused() {
    let world = World::new();
    let mut pieces = Pieces::of(&[(&one(), gzip)]);
    pieces.configuration["rootfs"]["diff_ids"] = json!([digest_of(b"another")]);
    let refused = world.refusal(pieces);
    assert!(refused.contains("decompressed: its digest is"), "{refused}");
}

#[test]
fn a_missing_blob_is_named() {
    let world = World::new();
    let mut pieces = Pieces::of(&[(&one(), gzip)]);
    let (digest, _) = pieces.blobs.pop_first().unwrap();
    assert!(world.refusal(pieces).contains(&digest[7..]));
}

#[test]
fn a_layer_that_leads_out_is_refused_and_named() {
    for name in ["../../etc/passwd", "/etc/passwd", "a/../../x"] {
        let world = World::new();
        let refused = world.refusal(Pieces::of(&[(&layer(&[(name, Some(b"x"))]), gzip)]));
        assert!(refused.contains(name) && refused.ends_with("its name leads out of the image"));
    }
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let world = World::new();
    let bomb = Pieces::of(&[(&layer(&[("a", Some(&vec![0; 96 << 20]))]), zstd)]);
    let refused = world.refusal(bomb);
    assert!(refused.ends_with("decompressed it is over 200 times as large"), "{refused}");
}

#[test]
fn limits_are_those_of_whoever_asks() {
    let world = World::new();
    let path = world.layout(Pieces::of(&[(&one(), gzip), (&two(), gzip)]));
    for (limits, what) in [
        (Limits { bytes: 2000, ..Limits::default() }, "bytes"),
        (Limits { stored: 200, ..Limits::default() }, "bytes of layers as they are stored"),
        (Limits { entries: 2, ..Limits::default() }, "names"),
        (Limits { layers: 1, ..Limits::default() }, "layers"),
    ] {
        let local = Local { limits, ..path.clone().into() };
        let refused = world.store.import(&Source::Layout(local), &mut |_| {}).unwrap_err();
        assert!(chain(&refused).ends_with(what), "{}", chain(&refused));
    }
}

#[test]
fn documents_of_gigabytes_are_not_read() {
    let world = World::new();
    let path = world.layout(Pieces::of(&[(&one(), gzip)]));
    File::options().write(true).open(path.join("index.json")).unwrap().set_len(50 << 30).unwrap();
    assert!(world.refused(&path).ends_with("it has over 4 MiB"));
}

#[test]
fn an_index_that_is_a_manifest_too_is_refused() {
    let world = World::new();
    let path = world.layout(Pieces::of(&[(&one(), gzip)]));
    let mut index: Value =
        serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    index["layers"] = json!([]);
    fs::write(path.join("index.json"), index.to_string()).unwrap();
    assert!(world.refused(&path).ends_with("it is an index and a manifest"));
}

/// An index with an image for each architecture, and what builders put beside.
fn many_architectures(nested: usize) -> (Pieces, Value) {
    let mut all = Pieces::of(&[]);
    let mut manifests = Vec::new();
    for (os, architecture) in [("linux", "arm64"), ("unknown", "unknown"), ("linux", "amd64")] {
        let mut pieces = Pieces::of(&[(&layer(&[("is", Some(architecture.as_bytes()))]), gzip)]);
        pieces.configuration["architecture"] = json!(architecture);
        let mut manifest = pieces.finish();
        manifest["platform"] = json!({"os": os, "architecture": architecture});
        all.blobs.extend(pieces.blobs);
        manifests.push(manifest);
    }
    let mut index = json!(manifests);
    for _ in 0..nested {
        let text = json!({"schemaVersion": 2, "manifests": index}).to_string();
        index = json!([all.put(text.as_bytes(), "application/vnd.oci.image.index.v1+json")]);
    }
    (all, index)
}

#[test]
fn the_image_of_the_asked_architecture_is_taken_from_nested_indexes_too() {
    for nested in 0..3 {
        let world = World::new();
        let (pieces, index) = many_architectures(nested);
        let path = world.path("layout");
        pieces.write(&path, &index);
        assert_holds(&world.import(&path).unwrap(), &[("is", b"amd64")]);
        let of = |architecture: &str| Local {
            architecture: architecture.to_owned(),
            ..path.clone().into()
        };
        let arm = world.store.import(&Source::Layout(of("arm64")), &mut |_| {}).unwrap();
        assert_holds(&arm, &[("is", b"arm64")]);
        let none = world.store.import(&Source::Layout(of("riscv64")), &mut |_| {}).unwrap_err();
        let none = chain(&none);
        assert!(none.contains("linux/riscv64") && none.contains("linux/arm64"), "{none}");
    }
    let world = World::new();
    let (pieces, index) = many_architectures(9);
    let path = world.path("layout");
    pieces.write(&path, &index);
    assert!(world.refused(&path).ends_with("it holds indexes of indexes"));
}

#[test]
fn one_of_several_images_is_asked_for_by_its_name() {
    let world = World::new();
    let (mut first, mut second) = (Pieces::of(&[(&one(), gzip)]), Pieces::of(&[(&two(), gzip)]));
    let named = |mut manifest: Value, name: &str| {
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        manifest
    };
    let index = json!([named(first.finish(), "first"), named(second.finish(), "second")]);
    first.blobs.extend(second.blobs);
    let path = world.path("layout");
    first.write(&path, &index);
    assert!(world.refused(&path).ends_with("there are several: first, second"));
    let of =
        |name: &str| Source::Layout(Local { name: Some(name.to_owned()), ..path.clone().into() });
    let image = world.store.import(&of("second"), &mut |_| {}).unwrap();
    assert_holds(&image, &[("bin/b", b"two")]);
    assert!(image.origin.ends_with("layout:second"));
    let none = chain(&world.store.import(&of("third"), &mut |_| {}).unwrap_err());
    assert!(none.ends_with("choose image third: there are first, second"), "{none}");
}

/// What `docker save` wrote before it wrote layouts.
fn saved(layers: &[&[u8]]) -> Vec<u8> {
    let packed: Vec<(&[u8], Pack)> = layers.iter().map(|layer| (*layer, plain as Pack)).collect();
    let pieces = Pieces::of(&packed);
    let configuration = pieces.configuration.to_string();
    let names: Vec<_> = (0..layers.len()).map(|i| format!("{i}/layer.tar")).collect();
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["a/b:c"], "Layers": names}]).to_string();
    let mut files: Vec<(&str, Option<&[u8]>)> =
        names.iter().zip(layers).map(|(name, bytes)| (name.as_str(), Some(*bytes))).collect();
    files.push(("c.json", Some(configuration.as_bytes())));
    files.push(("manifest.json", Some(manifest.as_bytes())));
    layer(&files)
}

#[test]
fn what_docker_saves_becomes_the_same_disk_as_a_layout() {
    let world = World::new();
    let whole = world.import(&world.layout(Pieces::of(&[(&one(), gzip), (&two(), gzip)]))).unwrap();
    for (name, pack) in [("a.tar", plain as Pack), ("a.tar.gz", gzip), ("a.tar.zst", zstd)] {
        let path = world.path(name);
        fs::write(&path, pack(&saved(&[&one(), &two()]))).unwrap();
        assert_eq!(world.import(&path).unwrap().digest, whole.digest, "{name}");
    }
    let damaged = world.path("damaged.tar");
    let text = saved(&[&one()]);
    let at = text.windows(3).position(|found| found == b"one").unwrap();
    fs::write(&damaged, [&text[..at], b"two", &text[at + 3..]].concat()).unwrap();
    let refused = chain(&world.import(&damaged).unwrap_err());
    assert!(refused.contains("0/layer.tar, decompressed: its digest is"), "{refused}");
}

#[test]
fn an_archive_of_a_layout_becomes_the_same_disk() {
    let world = World::new();
    let path = world.layout(Pieces::of(&[(&one(), gzip)]));
    let whole = world.import(&path).unwrap();
    let archive = world.path("layout.tar");
    let mut builder = ::tar::Builder::new(File::create(&archive).unwrap());
    builder.append_dir_all(".", &path).unwrap();
    builder.finish().unwrap();
    assert_eq!(world.import(&archive).unwrap().digest, whole.digest);
}

#[expect(clippy::disallowed_methods, reason = "images are made by other people's tools")]
fn run(program: &str, folder: &Path, args: &[&str]) -> bool {
    let Ok(output) = Command::new(program).current_dir(folder).args(args).output() else {
        eprintln!("skipped: {program} is not installed");
        return false;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    true
}

/// Files of all kinds, as far as this user may make them.
fn fill(root: &Path) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/tool"), vec![b'x'; 300_000]).unwrap();
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/other")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("n".repeat(200)), "long").unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 3 << 20).unwrap();
    let _ =
        rustix::fs::lsetxattr(root.join("sparse"), "user.a", b"1", rustix::fs::XattrFlags::empty());
}

#[test]
fn an_archive_of_files_gives_the_same_bytes_as_their_folder() {
    let world = World::new();
    let root = world.path("root");
    fill(&root);
    fs::write(root.join(".osvm-image.json"), r#"{"Cmd":["/bin/tool"]}"#).unwrap();
    let whole = world.import(&root).unwrap();
    for (name, options) in [
        ("plain.tar", &["--format=pax", "--xattrs", "-S"][..]),
        ("gnu.tar.gz", &["--format=gnu", "-z", "-S"]),
        ("a.tar.zst", &["--format=pax", "--xattrs", "--zstd"]),
    ] {
        let owner = ["--owner=0", "--group=0", "--numeric-owner", "-C", "root", "-cf", name, "."];
        if !run("tar", world.folder.path(), &[options, &owner].concat()) {
            return;
        }
        let image = world.import(&world.path(name)).unwrap();
        assert_eq!(image.entrypoint, ["/bin/tool"]);
        // GNU's own format has no attributes.
        assert_eq!(image.digest == whole.digest, !name.starts_with("gnu"), "{name}");
    }
    let bytes = fs::read(world.path("plain.tar")).unwrap();
    let cut = world.path("cut.tar");
    // All files are there, but the end is not.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512);
    fs::write(&cut, &bytes[..end]).unwrap();
    let refused = chain(&world.import(&cut).unwrap_err());
    assert!(refused.ends_with("it ends in the middle of an entry"), "{refused}");
}

#[test]
fn an_image_of_umoci_holds_what_umoci_unpacks() {
    let world = World::new();
    let here = world.folder.path();
    if !run("umoci", here, &["init", "--layout", "image"]) {
        return;
    }
    let umoci = |args: &[&str]| run("umoci", here, args);
    umoci(&["new", "--image", "image:a"]);
    umoci(&["unpack", "--rootless", "--image", "image:a", "first"]);
    fill(&world.path("first/rootfs"));
    fs::create_dir_all(world.path("first/rootfs/var/cache/deep")).unwrap();
    fs::write(world.path("first/rootfs/var/cache/deep/old"), "old").unwrap();
    umoci(&["repack", "--image", "image:a", "first"]);
    umoci(&["unpack", "--rootless", "--image", "image:a", "second"]);
    let root = world.path("second/rootfs");
    fs::remove_dir_all(root.join("var/cache")).unwrap();
    fs::remove_file(root.join("usr/bin/other")).unwrap();
    fs::remove_file(root.join("bin")).unwrap();
    fs::create_dir(root.join("bin")).unwrap();
    fs::write(root.join("bin/new"), "new").unwrap();
    umoci(&["repack", "--image", "image:a", "second"]);
    umoci(&[
        "config",
        "--image",
        "image:a",
        "--config.entrypoint",
        "/bin/new",
        "--config.user",
        "1:2",
    ]);
    umoci(&["unpack", "--rootless", "--image", "image:a", "third"]);

    let image = world.import(&world.path("image")).unwrap();
    assert_eq!(
        (image.entrypoint.clone(), image.user.as_deref()),
        (vec!["/bin/new".to_owned()], Some("1:2"))
    );
    let Some((_work, out)) = unpack(&disk(&image)) else { return };
    let (mut found, want) = (everything(&out), everything(&world.path("third/rootfs")));
    assert!(found.remove(Path::new(".osvm-image.json")).is_some());
    assert_eq!(found.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (path, seen) in &want {
        let found = &found[path];
        assert!((found.mode, found.links) == (seen.mode, seen.links), "{}", path.display());
        assert!(found.content == seen.content && found.mtime == seen.mtime, "{}", path.display());
    }
}
