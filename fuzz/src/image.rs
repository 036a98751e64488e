//! Archives, kernels, and a folder's way to a disk and back.

mod folder;
mod unpack;

use std::path::{Component, Path};

use osvm_image::cpio::Reader;
use osvm_image::fuzz;

use crate::choice;

/// Decompressed for a test, in bytes at most.
const LIMIT: usize = 1 << 20;

/// First byte: what reads the rest.
pub fn archive(bytes: &[u8]) {
    let (what, bytes) = choice(bytes);
    match what % 5 {
        0 => entries(bytes),
        1 => plain(bytes),
        2 => package(bytes),
        3 => {
            let plain = fuzz::decompress(bytes, LIMIT).unwrap_or_default();
            assert!(plain.len() <= LIMIT);
        }
        _ => drop(fuzz::config(bytes)),
    }
}

/// First byte: whether the rest is a kernel or a module.
pub fn kernel(bytes: &[u8]) {
    let (what, bytes) = choice(bytes);
    if what % 2 == 0 { fuzz::kernel(bytes) } else { fuzz::module(bytes) }
}

/// The bytes say what is in a folder; its disk, read by another implementation, holds the same.
pub fn disk(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    folder::fill(folder.path(), bytes);
    let mut out = tempfile::tempfile().expect("a file");
    fuzz::disk(folder.path(), &mut out).expect("a folder of files, folders and links is a disk");
    assert_eq!(unpack::everything(out), folder::everything(folder.path()));
}

/// Blocks of a tar archive, a layer up to each that begins with `next`. What becomes a disk is one to
/// another implementation, too.
pub fn layers(bytes: &[u8]) {
    let blocks: Vec<&[u8]> = bytes.chunks(512).collect();
    let layers: Vec<Vec<u8>> =
        blocks.split(|block| block.starts_with(b"next")).map(<[_]>::concat).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let mut out = tempfile::tempfile().expect("a file");
    if fuzz::layers(&layers, folder.path(), &mut out).is_ok() {
        unpack::everything(out);
    }
}

fn entries(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    while let Ok(Some(entry)) = reader.next() {
        assert!(is_inside(Path::new(&entry.name)), "{:?}", entry.name);
        let content = reader.content(&entry, LIMIT);
        match content {
            Ok(content) => assert_eq!(content.len(), entry.size as usize),
            Err(_) => return,
        }
    }
}

/// What came out is taken again and stays as it is.
fn plain(bytes: &[u8]) {
    let Ok((out, found)) = fuzz::plain(bytes) else { return };
    let again = fuzz::plain(&out).expect("what came out is an archive");
    assert_eq!(again, (out, found));
}

fn package(bytes: &[u8]) {
    let into = Path::new("/into");
    for target in fuzz::package(bytes, into).unwrap_or_default() {
        let below = target.strip_prefix(into).expect("it goes below the folder");
        assert!(is_inside(below), "{target:?}");
    }
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
