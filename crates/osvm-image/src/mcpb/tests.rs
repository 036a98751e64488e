//! Bundles, honest and hostile, and what starts from them.
//!
//! `tests/packed.mcpb` is what `mcpb pack` of `@anthropic-ai/mcpb` 2.1.2 made of the manifest that the tests below
//! read, a script of mode 755 and a file of mode 600; `tests/signed.mcpb` is that, after `mcpb sign --self-signed`.

mod hostile;
mod layers;
mod starts;

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

const PACKED: &[u8] = include_bytes!("tests/packed.mcpb");
const SIGNED: &[u8] = include_bytes!("tests/signed.mcpb");

const MANIFEST: &str = r#"{"manifest_version":"0.3","name":"n","version":"1","description":"d","author":{"name":"a"},
    "server":{"type":"binary","entry_point":"s","mcp_config":{"command":"s"}}}"#;

fn open(bytes: &[u8]) -> Result<Bundle<Cursor<&[u8]>>, BundleError> {
    Bundle::open(Cursor::new(bytes), &Limits::default())
}

/// A bundle with a sound manifest and what `add` puts beside it.
fn bundle(add: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    file(&mut zip, "manifest.json", MANIFEST.as_bytes(), 0o644);
    add(&mut zip);
    zip.finish().unwrap().into_inner()
}

fn file(zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, bytes: &[u8], mode: u32) {
    zip.start_file(name, SimpleFileOptions::default().unix_permissions(mode)).unwrap();
    zip.write_all(bytes).unwrap();
}

fn unpack(bytes: &[u8]) -> Result<tempfile::TempDir, BundleError> {
    let folder = tempfile::tempdir().unwrap();
    let mut bundle = open(bytes)?;
    let mut seen = 0;
    bundle.unpack(folder.path(), &mut |count| seen += count)?;
    assert!(seen <= bundle.unpacked_bytes());
    Ok(folder)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_the_official_tool_packed_is_unpacked_with_its_modes() {
    for bytes in [PACKED, SIGNED] {
        let folder = unpack(bytes).unwrap();
        let server = folder.path().join("server");
        assert_eq!(mode(&server.join("tool.sh")), 0o755);
        assert_eq!(mode(&server.join("index.js")), 0o600);
        assert_eq!(fs::read(server.join("index.js")).unwrap(), b"console.error(\"hello\")\n");
        assert!(folder.path().join("manifest.json").is_file());
    }
}

#[test]
fn folders_and_links_are_unpacked_as_they_were() {
    let bytes = bundle(|zip| {
        zip.add_directory("bin", SimpleFileOptions::default().unix_permissions(0o750)).unwrap();
        zip.add_symlink("bin/cli", "../lib/cli.js", SimpleFileOptions::default()).unwrap();
        zip.add_symlink("here", ".", SimpleFileOptions::default()).unwrap();
        file(zip, "lib/cli.js", b"js", 0o4755);
    });
    let folder = unpack(&bytes).unwrap();
    assert_eq!(mode(&folder.path().join("bin")), 0o750);
    assert_eq!(mode(&folder.path().join("lib/cli.js")), 0o755, "nobody's user is changed");
    assert_eq!(fs::read(folder.path().join("bin/cli")).unwrap(), b"js");
    let target = fs::read_link(folder.path().join("bin/cli")).unwrap();
    assert_eq!(target, Path::new("../lib/cli.js"));
}

#[test]
fn a_mode_that_would_lock_its_owner_out_does_not() {
    let bytes = bundle(|zip| {
        zip.add_directory("d", SimpleFileOptions::default().unix_permissions(0o005)).unwrap();
        file(zip, "d/f", b"x", 0o055);
    });
    let folder = unpack(&bytes).unwrap();
    assert_eq!(mode(&folder.path().join("d")), 0o705);
    assert_eq!(mode(&folder.path().join("d/f")), 0o455);
}
