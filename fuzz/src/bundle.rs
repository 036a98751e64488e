//! Bundles: whatever is in them, they are unpacked inside their folder, and what starts shows no secret.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;

use osvm_image::mcpb::{Bundle, Guest, Limits, Manifest};

use crate::choice;

/// Small enough for a test.
const LIMITS: Limits = Limits { packed: 1 << 20, unpacked: 4 << 20, entries: 256, ratio: 100 };
const GUEST: Guest<'_> = Guest { bundle: "/opt/bundle", home: "/home/mcp" };

/// First byte: whether the rest is a bundle or a manifest alone.
pub fn bundle(bytes: &[u8]) {
    let (what, bytes) = choice(bytes);
    match what % 2 {
        0 => unpacking(bytes),
        _ => drop(Manifest::parse(bytes).map(|manifest| starting(&manifest))),
    }
}

fn unpacking(bytes: &[u8]) {
    let Ok(mut bundle) = Bundle::open(Cursor::new(bytes), &LIMITS) else { return };
    starting(bundle.manifest());
    let outer = tempfile::tempdir().expect("a folder");
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).expect("a folder");
    let (mut seen, limit) = (0, bundle.unpacked_bytes());
    let _ = bundle.unpack(&inner, &mut |count| seen += count);
    assert!(seen <= limit && limit <= LIMITS.unpacked);
    assert_eq!(fs::read_dir(outer.path()).expect("a folder").count(), 1);
}

/// With one value for each setting that may have one.
fn starting(manifest: &Manifest) {
    let open = manifest.settings.iter().filter(|(_, setting)| !setting.sensitive);
    let given: BTreeMap<_, _> = open.map(|(key, _)| (key.clone(), vec!["1".to_owned()])).collect();
    for given in [BTreeMap::new(), given] {
        let Ok(start) = manifest.start(&GUEST, &given) else { continue };
        assert!(!start.command.is_empty());
        assert!(start.mounts.iter().all(|mount| !mount.contains(':')));
        assert!(start.secrets.iter().all(|secret| !start.env.contains_key(&secret.variable)));
    }
}
