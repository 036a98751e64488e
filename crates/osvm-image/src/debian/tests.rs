//! Layers of small packages that are made here, and one of the distribution's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};

use flate2::read::GzDecoder;
use tar::EntryType;
use tempfile::TempDir;

use super::*;

/// A package with the files that `fill` puts into a folder. Nothing without dpkg-deb.
fn package(folder: &Path, name: &str, fill: impl FnOnce(&Path)) -> Option<Package> {
    packed(folder, name, &[], fill)
}

/// The same, with options of dpkg-deb.
fn packed(
    folder: &Path,
    name: &str,
    options: &[&str],
    fill: impl FnOnce(&Path),
) -> Option<Package> {
    let root = folder.join(name);
    fs::create_dir_all(root.join("DEBIAN")).unwrap();
    let control = format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\n");
    fs::write(root.join("DEBIAN/control"), format!("{control}Description: a\n")).unwrap();
    fill(&root);
    let file = folder.join(format!("{name}.deb"));
    let built = apt::command("dpkg-deb").args(options).arg("--build").args([&root, &file]).output();
    let Ok(built) = built else {
        eprintln!("skipped: dpkg-deb is not installed");
        return None;
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(Package { name: name.to_owned(), file })
}

fn put(root: &Path, name: &str, content: &str, mode: u32) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What each name in a layer is: its type, mode and link target.
fn names(layer: &Path) -> BTreeMap<String, (EntryType, u32, String)> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(layer).unwrap()));
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let told = entries.map(|entry| {
        let header = entry.header();
        assert_eq!(
            (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
            (0, 0, 0)
        );
        let link = entry.link_name().unwrap().unwrap_or_default().display().to_string();
        let name = entry.path().unwrap().display().to_string();
        (name.trim_end_matches('/').to_owned(), (header.entry_type(), header.mode().unwrap(), link))
    });
    told.collect()
}

fn content(layer: &Path, name: &str) -> String {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(layer).unwrap()));
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let entry = entries.find(|entry| entry.path().unwrap() == Path::new(name));
    io::read_to_string(entry.unwrap()).unwrap()
}

/// A small system: its layer.
fn small(folder: &Path) -> Option<PathBuf> {
    let base = package(folder, "base", |root| {
        put(
            root,
            "usr/share/base-passwd/passwd.master",
            "root:*:0:0:root:/root:/bin/bash\n",
            0o644,
        );
        put(root, "usr/share/base-passwd/group.master", "root:*:0:\n", 0o644);
        put(root, "bin/su", "su", 0o4755);
        put(root, "usr/share/doc/base/README", "text", 0o644);
        put(root, "usr/bin/a-first-one", "", 0o644);
        put(root, "usr/bin/mawk", "mawk", 0o755);
        fs::hard_link(root.join("usr/bin/mawk"), root.join("usr/bin/zawk")).unwrap();
    })?;
    let certificates = package(folder, "certificates", |root| {
        put(root, "usr/share/ca-certificates/b.crt", "B\n", 0o644);
        put(root, "usr/share/ca-certificates/a.crt", "A", 0o644);
        fs::create_dir_all(root.join("lib")).unwrap();
        symlink("a", root.join("lib/b")).unwrap();
    })?;
    let mut tree = Tree::new(folder).unwrap();
    tree.unpack(&base).unwrap();
    tree.unpack(&certificates).unwrap();
    finish::finish(&mut tree).unwrap();
    let layer = folder.join("layer");
    tree.write(&layer).unwrap();
    Some(layer)
}

#[test]
fn packages_become_one_root_with_a_merged_usr() {
    let folder = TempDir::new().unwrap();
    let Some(layer) = small(folder.path()) else { return };
    let names = names(&layer);
    assert_eq!(names["bin"], (EntryType::Symlink, 0o777, "usr/bin".to_owned()));
    // Without its setuid bit.
    assert_eq!(names["usr/bin/su"], (EntryType::Regular, 0o755, String::new()));
    assert_eq!(names["usr/lib/b"], (EntryType::Symlink, 0o777, "a".to_owned()));
    assert_eq!(names["usr/bin/awk"], (EntryType::Symlink, 0o777, "mawk".to_owned()));
    assert_eq!(names["usr/bin/zawk"], (EntryType::Link, 0o755, "usr/bin/mawk".to_owned()));
    assert_eq!(names["tmp"].1, 0o1777);
    assert!(!names.contains_key("usr/share/doc/base/README"));
}

#[test]
fn an_empty_file_has_its_own_content() {
    let folder = TempDir::new().unwrap();
    let Some(layer) = small(folder.path()) else { return };
    let names = names(&layer);
    let empty = names.iter().filter(|(name, _)| name.starts_with("usr/bin/"));
    let links: Vec<_> = empty.filter(|(_, (kind, ..))| *kind == EntryType::Link).collect();
    assert_eq!(links.len(), 1, "{links:?}");
    assert_eq!(content(&layer, "usr/bin/su"), "su");
    assert_eq!(content(&layer, "usr/bin/mawk"), "mawk");
    assert_eq!(content(&layer, "usr/bin/a-first-one"), "");
}

#[test]
fn people_and_certificates_are_where_programs_look_for_them() {
    let folder = TempDir::new().unwrap();
    let Some(layer) = small(folder.path()) else { return };
    let passwd = content(&layer, "etc/passwd");
    let want = "root:*:0:0:root:/root:/bin/bash\nmcp:x:1000:1000:mcp:/work:/bin/sh\n";
    assert_eq!(passwd, want);
    assert_eq!(content(&layer, "etc/ssl/certs/ca-certificates.crt"), "A\nB\n");
}

#[test]
fn the_same_packages_make_the_same_bytes() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (Some(one), Some(two)) = (small(one.path()), small(two.path())) else { return };
    assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
}

#[test]
fn a_package_cut_short_is_named() {
    let folder = TempDir::new().unwrap();
    let fill = |root: &Path| put(root, "usr/a", &"text\n".repeat(10_000), 0o644);
    let Some(package) = package(folder.path(), "cut", fill) else { return };
    let bytes = fs::read(&package.file).unwrap();
    fs::write(&package.file, &bytes[..bytes.len() - 70]).unwrap();
    let refused = Tree::new(folder.path()).unwrap().unpack(&package).unwrap_err();
    assert_eq!(refused.to_string(), "unpack cut");
}

#[test]
fn packages_of_every_compression_are_the_same_files() {
    let folder = TempDir::new().unwrap();
    let fill = |root: &Path| put(root, "usr/a", &"text\n".repeat(10_000), 0o644);
    let unpacked = |kind: &str| {
        let package = packed(folder.path(), &format!("by-{kind}"), &[&format!("-Z{kind}")], fill)?;
        let mut tree = Tree::new(folder.path()).unwrap();
        tree.unpack(&package).unwrap();
        Some(tree.content(Path::new("usr/a")).unwrap().unwrap())
    };
    for kind in ["none", "gzip", "xz", "zstd"] {
        let Some(content) = unpacked(kind) else { return };
        assert_eq!(content.len(), 50_000, "{kind}");
    }
}

/// By the host's apt and network; its packages are kept where cargo keeps what tests write.
#[test]
fn the_distributions_packages_become_a_layer() {
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debian");
    let target = work.join("runtime.tar.gz");
    let say = &mut |line: &str| println!("{line}");
    let made = Downloaded::by_apt(RUNTIME, &work, say);
    match made.and_then(|downloaded| layer(RUNTIME, downloaded, &work, &target, say)) {
        Ok(()) => {}
        Err(
            error @ (DebianError::NoProgram { .. }
            | DebianError::Unknown { .. }
            | DebianError::Apt { .. }),
        ) => return eprintln!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    }
    let names = names(&target);
    for program in ["python3", "git", "bash", "sh", "ls", "awk", "env"] {
        assert!(names.contains_key(&format!("usr/bin/{program}")), "{program}");
    }
    assert!(names.contains_key("usr/lib/x86_64-linux-gnu/libstdc++.so.6"));
    assert!(!names.contains_key("usr/bin/perl"));
    assert!(content(&target, "etc/ssl/certs/ca-certificates.crt").contains("BEGIN CERTIFICATE"));
}
