//! Archives by GNU tar and by hand.

use std::io::Cursor;
use std::process::Command;

use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<(Vec<Entry>, bool), TarError> {
    let mut reader = Reader::new(Cursor::new(bytes), 0..bytes.len() as u64)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        entries.push(entry);
    }
    Ok((entries, reader.ended()))
}

/// A header with a right checksum.
fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = format!(" {key}={value}\n");
        let digits = (1..9).find(|digits| (rest.len() + digits).to_string().len() == *digits);
        format!("{}{rest}", rest.len() + digits.unwrap())
    };
    let text: String = records.iter().map(record).collect();
    [header("pax", b'x', text.len() as u64), padded(text.into_bytes())].concat()
}

/// The file that an archive has, put together again.
fn content(bytes: &[u8], place: &Place) -> Vec<u8> {
    let size = usize::try_from(place.size).unwrap();
    match &place.bytes {
        Bytes::From(from) => bytes[usize::try_from(*from).unwrap()..][..size].to_vec(),
        Bytes::Parts(parts) => {
            let mut whole = vec![0; size];
            for part in parts {
                let [at, size, from] = [part.at, part.size, part.from].map(|n| n as usize);
                whole[at..at + size].copy_from_slice(&bytes[from..from + size]);
            }
            whole
        }
    }
}

/// By GNU tar; nothing where there is none.
#[expect(clippy::disallowed_methods, reason = "what others write must be read")]
fn gnu(folder: &std::path::Path, options: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("tar");
    let command = command.arg("-C").arg(folder).args(options).args(["-cf", "-", "."]);
    match command.output() {
        Ok(output) if output.status.success() => Some(output.stdout),
        _ => {
            eprintln!("skipped: GNU tar is not installed (package tar)");
            None
        }
    }
}

#[test]
fn sparse_files_of_every_format_are_read() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let file = std::fs::File::create(&path).unwrap();
    for part in 0..40 {
        file.write_all_at(&[part as u8 + 1; 700], part * 100_000).unwrap();
    }
    file.set_len(5_000_000).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for format in
        ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]
    {
        let options: &[&str] = if format == "--format=gnu" {
            &[format, "-S"]
        } else {
            &["--format=pax", "-S", format]
        };
        let Some(bytes) = gnu(folder.path(), options) else { return };
        assert!(bytes.len() < 1_000_000, "{format}");
        let (entries, ended) = read(&bytes).unwrap();
        let found = entries.iter().find(|entry| entry.name.ends_with(b"sparse")).unwrap();
        assert_eq!(found.name, b"./sparse", "{format}");
        let Kind::File(place) = &found.kind else { panic!("{found:?}") };
        assert!(ended && content(&bytes, place) == whole, "{format}");
    }
}

#[test]
fn long_names_of_every_format_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let deep = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    let path = folder.path().join(&deep);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "x").unwrap();
    std::os::unix::fs::symlink(&deep, folder.path().join("link")).unwrap();
    for format in ["--format=gnu", "--format=pax"] {
        let Some(bytes) = gnu(folder.path(), &[format]) else { return };
        let (entries, _) = read(&bytes).unwrap();
        assert!(entries.iter().any(|entry| entry.name == format!("./{deep}").into_bytes()));
        let target = Kind::Symlink(deep.clone().into_bytes());
        assert!(entries.iter().any(|entry| entry.kind == target), "{format}");
    }
}

#[test]
fn extended_headers_override_what_a_header_says() {
    let records = [
        ("path", "other"),
        ("uid", "3000000"),
        ("mtime", "-5.25"),
        ("SCHILY.xattr.user.a", "1\n2"),
        ("SCHILY.xattr.security.selinux", "x"),
        ("SCHILY.xattr.security.capability", "c"),
    ];
    let bytes = [pax(&records), header("name", b'0', 0), vec![0; 1024]].concat();
    let (entries, ended) = read(&bytes).unwrap();
    let Entry { name, uid, mtime, xattrs, .. } = &entries[0];
    assert_eq!((name.as_slice(), *uid, *mtime), (b"other".as_slice(), 3_000_000, -5));
    let names: Vec<_> = xattrs.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, [b"security.capability".as_slice(), b"user.a"]);
    assert!(ended && *xattrs[1].1 == *b"1\n2");
}

#[test]
fn what_is_cut_or_damaged_is_refused() {
    let whole = [header("a", b'0', 700), vec![1; 1024], vec![0; 1024]].concat();
    assert!(read(&whole).unwrap().1);
    assert!(matches!(read(&whole[..1000]), Err(TarError::Truncated)));
    assert!(matches!(read(&whole[..500]), Err(TarError::Truncated)));
    assert!(!read(&whole[..1536]).unwrap().1);
    let mut damaged = whole.clone();
    damaged[0] = b'b';
    assert!(matches!(read(&damaged), Err(TarError::Checksum)));
    assert!(matches!(read(&[b'x'; 600]), Err(TarError::Magic)));
    assert!(matches!(read(&header("a", b'V', 0)), Err(TarError::Type('V'))));
}

#[test]
fn a_header_of_gigabytes_is_refused_unread() {
    for kind in [b'x', b'g', b'L', b'K'] {
        let bytes = header("a", kind, 7 << 30);
        assert!(matches!(read(&bytes), Err(TarError::Extension)));
    }
    let many = header("a", b'g', 0).repeat(5000);
    assert!(matches!(read(&many), Err(TarError::Extension)));
}

#[test]
fn maps_that_lie_are_refused() {
    for map in [
        "0,10,5,10",
        "0,10",
        "10,30",
        "0,9223372036854775807,0,20",
        "18446744073709551615,20",
        "x",
        "0",
    ] {
        let records = [("GNU.sparse.map", map), ("GNU.sparse.size", "30")];
        let bytes = [pax(&records), header("a", b'0', 20), vec![7; 512]].concat();
        assert!(read(&bytes).is_err(), "{map}");
    }
    let records = [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "30")];
    for map in ["99999999\n", "2\n0\n20\n", "1\n0\n21\n", "111111111111111111111111"] {
        let data = padded(map.as_bytes().to_vec());
        let bytes = [pax(&records), header("a", b'0', data.len() as u64 + 20), data, vec![7; 512]];
        assert!(read(&bytes.concat()).is_err(), "{map}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        noise in proptest::collection::vec((0..6000_usize, any::<u8>()), 0..20),
        cut in 0..6000_usize,
    ) {
        let records = [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "30"), ("path", "q")];
        let map = padded(b"1\n0\n20\n".to_vec());
        let mut bytes = [
            header("a", b'0', 700), vec![1; 1024], header("long", b'L', 300), vec![b'n'; 512],
            header("s", b'S', 0), pax(&records), header("m", b'0', 532), map, vec![9; 512],
        ].concat();
        for (at, byte) in noise {
            let at = at % bytes.len();
            bytes[at] = byte;
            // As often as not with a checksum that is right.
            if byte % 2 == 0 {
                let start = at / BLOCK * BLOCK;
                let block: &mut [u8; BLOCK] = (&mut bytes[start..start + BLOCK]).try_into().unwrap();
                let mut right = tar::Header::from_byte_slice(block).clone();
                right.set_cksum();
                *block = *right.as_bytes();
            }
        }
        bytes.truncate(cut);
        if let Ok((entries, _)) = read(&bytes) {
            for entry in entries {
                if let Kind::File(place) = entry.kind {
                    prop_assert!(place.size > 1 << 20 || content(&bytes, &place).len() as u64 == place.size);
                }
            }
        }
    }
}
