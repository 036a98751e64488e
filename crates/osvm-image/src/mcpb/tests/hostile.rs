//! Bundles that nobody made by accident.

use proptest::prelude::*;

use super::*;

fn refused(bytes: &[u8]) -> BundleError {
    match unpack(bytes) {
        Err(error) => error,
        Ok(folder) => panic!("unpacked to {}", folder.path().display()),
    }
}

/// Replaces text by text of the same length wherever it stands: names stand in two tables.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<_> = memchr::memmem::find_iter(&bytes, from).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

fn with_file(name: &str) -> Vec<u8> {
    bundle(|zip| file(zip, name, b"x", 0o644))
}

/// The offset of the table's record of the entry `name`.
fn record(bytes: &[u8], name: &str) -> usize {
    memchr::memmem::rfind(bytes, name.as_bytes()).unwrap() - 46
}

#[test]
fn names_that_lead_out_or_mean_two_things_are_refused() {
    let long = "n".repeat(256);
    for name in [
        "../x",
        "a/../../x",
        "/etc/x",
        "C:/x",
        "a//b",
        "./x",
        "a/.",
        "a\\b",
        "..\\x",
        "a\nb",
        "..",
        &long,
    ] {
        let placeholder = "q".repeat(name.len());
        let bytes = replace(&with_file(&placeholder), placeholder.as_bytes(), name.as_bytes());
        let error = refused(&bytes);
        assert!(matches!(error, BundleError::Entry { .. }), "{name}: {error}");
    }
    let bytes = replace(&with_file("qq"), b"qq", b"\xff\xfe");
    assert!(refused(&bytes).to_string().contains("is not UTF-8"));
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let two = bundle(|zip| {
        file(zip, "aaa", b"1", 0o644);
        file(zip, "aab", b"2", 0o644);
    });
    assert!(matches!(refused(&replace(&two, b"aab", b"aaa")), BundleError::Duplicate));
    let same = refused(&replace(&two, b"aab", b"AAA"));
    assert!(matches!(&same, BundleError::SameName { .. }), "{same}");
    for (one, other) in [("d/x", "D/y"), ("é", "É"), ("x/y/z", "X/w")] {
        let bytes = bundle(|zip| {
            file(zip, one, b"1", 0o644);
            file(zip, other, b"2", 0o644);
        });
        assert!(matches!(refused(&bytes), BundleError::SameName { .. }), "{one} {other}");
    }
}

#[test]
fn nothing_lies_below_a_file_or_a_link() {
    let below_file = bundle(|zip| {
        file(zip, "a/b", b"1", 0o644);
        file(zip, "a", b"2", 0o644);
    });
    assert!(matches!(refused(&below_file), BundleError::Entry { .. }));
    let below_link = bundle(|zip| {
        zip.add_symlink("a", ".", SimpleFileOptions::default()).unwrap();
        file(zip, "a/b", b"2", 0o644);
    });
    assert!(matches!(refused(&below_link), BundleError::Entry { .. }));
}

#[test]
fn links_that_lead_out_are_refused() {
    for (name, target) in [
        ("l", "/etc/passwd"),
        ("l", ".."),
        ("a/l", "../.."),
        ("a/l", "../../x"),
        ("l", "a/../../x"),
        ("l", "a/../x"),
        ("l", ""),
        ("l", "x\0y"),
    ] {
        let bytes =
            bundle(|zip| zip.add_symlink(name, target, SimpleFileOptions::default()).unwrap());
        let error = refused(&bytes);
        assert!(matches!(error, BundleError::Entry { .. }), "{name} -> {target}: {error}");
    }
}

#[test]
fn what_is_no_file_folder_or_link_is_refused() {
    let mut bytes = with_file("device");
    let at = record(&bytes, "device") + 38;
    bytes[at..at + 4].copy_from_slice(&(0o020_666_u32 << 16).to_le_bytes());
    assert!(refused(&bytes).to_string().contains("no file, folder or link"));
}

#[test]
fn an_encrypted_entry_is_refused() {
    let mut bytes = with_file("secret");
    let at = record(&bytes, "secret") + 8;
    bytes[at] |= 1;
    assert!(refused(&bytes).to_string().contains("is encrypted"));
}

#[test]
fn damaged_data_is_noticed_by_its_checksum() {
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let bytes = bundle(|zip| {
        zip.start_file("data", stored).unwrap();
        zip.write_all(b"the content").unwrap();
    });
    let error = refused(&replace(&bytes, b"the content", b"the Content"));
    assert!(matches!(error, BundleError::Data { .. }), "{error}");
}

#[test]
fn a_table_that_lies_about_a_size_is_noticed() {
    let long = bundle(|zip| file(zip, "data", &[b'x'; 5000], 0o644));
    for size in [4999_u32, 5001, 0] {
        let mut bytes = long.clone();
        let at = record(&bytes, "data") + 24;
        bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
        let error = refused(&bytes);
        assert!(matches!(error, BundleError::Data { .. }), "{size}: {error}");
    }
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let zeroes = bundle(|zip| file(zip, "zeroes", &vec![0; 17 << 20], 0o644));
    assert!(matches!(open(&zeroes), Err(BundleError::Ratio(100))));
    let open_with = |limits| Bundle::open(Cursor::new(PACKED), &limits).map(|_| ());
    let usual = Limits::default();
    let few = open_with(Limits { entries: 2, ..usual });
    assert!(matches!(few, Err(BundleError::Entries { found: 3, limit: 2 })));
    let small = open_with(Limits { unpacked: 1000, ..usual });
    assert!(matches!(small, Err(BundleError::Unpacked(1000))));
    let packed = open_with(Limits { packed: 100, ..usual });
    assert!(matches!(packed, Err(BundleError::Packed(100))));
}

#[test]
fn a_manifest_of_50_gb_is_refused_by_its_size_alone() {
    let mut bytes = bundle(|_| {});
    let at = record(&bytes, "manifest.json") + 24;
    bytes[at..at + 4].copy_from_slice(&(2_u32 << 20).to_le_bytes());
    let Err(BundleError::Data { source, .. }) = open(&bytes) else { panic!() };
    assert_eq!(source.to_string(), "it is over 1048576 bytes");
}

#[test]
fn a_table_that_would_fill_the_memory_is_refused() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let name = "n".repeat(250);
    for number in 0..32_000 {
        zip.start_file(format!("{number:05}{name}"), SimpleFileOptions::default()).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    assert!(matches!(open(&bytes), Err(BundleError::Table(_))));
}

#[test]
fn what_is_no_bundle_at_all_is_told_so() {
    assert!(matches!(open(b""), Err(BundleError::Zip(_))));
    assert!(matches!(open(&PACKED[..400]), Err(BundleError::Zip(_))));
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    file(&mut zip, "folder/manifest.json", MANIFEST.as_bytes(), 0o644);
    let bytes = zip.finish().unwrap().into_inner();
    assert!(matches!(open(&bytes), Err(BundleError::NoManifest)));
}

proptest! {
    #[test]
    fn a_bundle_with_any_bytes_changed_is_unpacked_inside_or_refused(
        changes in prop::collection::vec((0..SIGNED.len(), any::<u8>()), 1..6)
    ) {
        let mut bytes = SIGNED.to_vec();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        if let Ok(mut bundle) = open(&bytes) {
            let _ = bundle.unpack(&inner, &mut |_| {});
        }
        prop_assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }
}
