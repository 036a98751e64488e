//! Bundles as layers, and as images over others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::store::{Bundled, Image, ImportError, Source, Stack, Store};
use crate::{Config, Progress};

/// What a layer has: modes, and targets of links. All but Python's other name is the server's.
fn layer(bytes: &[u8]) -> BTreeMap<String, (u32, String)> {
    let (work, mut out) = (tempfile::tempdir().unwrap(), Vec::new());
    open(bytes).unwrap().write_layer(work.path(), &mut out).unwrap();
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
    let mut archive = tar::Archive::new(&out[..]);
    let about = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        let header = entry.header();
        let link = entry.link_name().unwrap().unwrap_or_default().display().to_string();
        let path = entry.path().unwrap().display().to_string();
        let owner = if path.starts_with("mcpb") { 1000 } else { 0 };
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (owner, owner), "{path}");
        (path.trim_end_matches('/').to_owned(), (header.mode().unwrap() & 0o7777, link))
    };
    archive.entries().unwrap().map(about).collect()
}

#[test]
fn everybody_may_read_what_is_in_a_layer_and_run_what_the_manifest_runs() {
    let bytes = bundle(|zip| {
        file(zip, "s", b"program", 0o600);
        file(zip, "data/secret", b"", 0o600);
        file(zip, "tool", b"", 0o4711);
        zip.add_symlink("link", "data", SimpleFileOptions::default()).unwrap();
    });
    let found = layer(&bytes);
    let file = |mode| (mode, String::new());
    let want = [
        ("mcpb", file(0o755)),
        ("mcpb/data", file(0o755)),
        ("mcpb/data/secret", file(0o644)),
        ("mcpb/link", (found["mcpb/link"].0, "data".to_owned())),
        ("mcpb/manifest.json", file(0o644)),
        ("mcpb/s", file(0o755)),
        ("mcpb/tool", file(0o755)),
    ];
    assert_eq!(found, want.map(|(name, about)| (name.to_owned(), about)).into());
}

#[test]
fn python_is_there_by_the_name_that_manifests_call_it() {
    let link = |kind: &str| {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let manifest = MANIFEST.replace("binary", kind);
        super::file(&mut zip, "manifest.json", manifest.as_bytes(), 0o644);
        layer(&zip.finish().unwrap().into_inner()).remove("usr/local/bin/python")
    };
    assert_eq!(link("python").unwrap().1, "/usr/bin/python3");
    assert_eq!(link("binary"), None);
}

/// A bundle in a file beside a store, and the layer that it makes.
struct Scene {
    folder: tempfile::TempDir,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("images")).unwrap();
        let scene = Self { folder, store };
        scene.write("one");
        scene
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.mcpb")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), bundle(|zip| file(zip, "text", text.as_bytes(), 0o644))).unwrap();
    }

    fn now(&self) -> Source {
        Source::Bundle(Bundled::at(&self.path()).unwrap())
    }

    fn import(&self, between: impl FnOnce()) -> Result<Image, ImportError> {
        self.import_as("n 1", between)
    }

    fn import_as(&self, origin: &str, between: impl FnOnce()) -> Result<Image, ImportError> {
        let mut bundled = Bundled::at(&self.path()).unwrap();
        let layer = self.folder.path().join("layer");
        let mut out = fs::File::create(&layer).unwrap();
        let file = fs::File::open(self.path()).unwrap();
        let mut bundle = Bundle::open(file, &Limits::default()).unwrap();
        bundle.write_layer(self.folder.path(), &mut out).unwrap();
        between();
        let config = Config::new(vec!["/mcpb/s".to_owned()], Vec::new()).within("/mcpb");
        bundled.stack = Stack { origin: origin.to_owned(), layers: vec![layer], config };
        self.store.import(&Source::Bundle(bundled), &mut |_: Progress| {})
    }
}

#[test]
fn a_bundles_image_is_current_until_the_file_changes() {
    let scene = Scene::new();
    assert_eq!(scene.store.current(&scene.now()), None);
    let image = scene.import(|| {}).unwrap();
    assert_eq!(image.workdir.as_deref(), Some("/mcpb"));
    assert_eq!(scene.store.current(&scene.now()), Some(image.digest.clone()));
    // New layers make a new image, whether or not the file is new.
    scene.store.remove(&image.digest).unwrap();
    assert_eq!(scene.import(|| {}).unwrap(), image);
    let other = scene.import_as("another origin", || {}).unwrap();
    assert_eq!((other.digest, other.origin.as_str()), (image.digest.clone(), "another origin"));
    scene.write("another");
    assert_eq!(scene.store.current(&scene.now()), None);
    assert_eq!(scene.store.last(&scene.now()), Some(image.digest.clone()));
    assert_ne!(scene.import(|| {}).unwrap().digest, image.digest);
}

#[test]
fn a_bundle_that_changed_while_its_layers_were_made_is_no_image() {
    let scene = Scene::new();
    let changed = scene.import(|| scene.write("changed meanwhile"));
    assert!(matches!(changed, Err(ImportError::Changed { .. })), "{changed:?}");
    assert_eq!(scene.store.last(&scene.now()), None);
    assert!(scene.store.list().unwrap().is_empty());
}

#[test]
fn a_bundle_is_no_image_by_itself_whatever_it_is_called() {
    let scene = Scene::new();
    let other = scene.folder.path().join("archive.zip");
    fs::copy(scene.path(), &other).unwrap();
    for path in [&scene.path(), &other] {
        assert!(is_bundle(path));
        let refused = Source::at(path).unwrap_err().to_string();
        assert!(refused.ends_with("it is made into one by `osvm image build`"), "{refused}");
    }
    assert!(!is_bundle(scene.folder.path()));
}
