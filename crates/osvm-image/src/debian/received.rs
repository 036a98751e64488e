//! What a base image has downloaded: an archive of a list and of the files that it names, read as hostile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use tar::Entry;

use super::{DebianError, Package, apt};
use crate::deb::Ration;
use crate::files;

/// The first entry: what apt says of the install.
const LIST: &str = "packages";

/// Ten times what builds need.
const MAX_LIST: u64 = 1 << 20;
const MAX_PACKAGES: usize = 2000;
const MAX_BYTES: u64 = 2 << 30;

/// Writes the files to where apt would have put them.
pub(super) fn packages(archive: &Path, work: &Path) -> Result<Vec<Package>, DebianError> {
    let folder = work.join(apt::ARCHIVES);
    files::make_folder(&folder).map_err(DebianError::write(&folder))?;
    let ration = Ration::new();
    let file = files::open(archive).map_err(DebianError::Archive)?;
    let mut archive = tar::Archive::new(ration.of(BufReader::new(file)));
    let mut entries = archive.entries().map_err(DebianError::Archive)?;
    let mut first = next(&mut entries, &ration)?.ok_or(DebianError::Received("it is empty"))?;
    let packages = apt::listed_in(&list(&mut first)?, work);
    if packages.is_empty() || packages.len() > MAX_PACKAGES {
        return Err(DebianError::Received("its list names no packages, or too many"));
    }
    let mut missing = by_name(&packages);
    let mut left = MAX_BYTES;
    while let Some(mut entry) = next(&mut entries, &ration)? {
        left = left.checked_sub(entry.size()).ok_or(DebianError::Received("it is too large"))?;
        let path = missing.remove(&name(&entry)?);
        let path = path.ok_or(DebianError::Received("a file in it is not on its list"))?;
        keep(&mut entry, &path)?;
    }
    match missing.is_empty() {
        true => Ok(packages),
        false => Err(DebianError::Received("a file that its list names is not in it")),
    }
}

/// Regular files, and nothing else.
fn next<'a, R: Read>(
    entries: &mut tar::Entries<'a, R>,
    ration: &Ration,
) -> Result<Option<Entry<'a, R>>, DebianError> {
    let Some(entry) = entries.next().transpose().map_err(DebianError::Archive)? else {
        return Ok(None);
    };
    ration.grant(entry.size());
    match entry.header().entry_type() == tar::EntryType::Regular {
        true => Ok(Some(entry)),
        false => Err(DebianError::Received("it holds what is no file")),
    }
}

fn list<R: Read>(first: &mut Entry<'_, R>) -> Result<String, DebianError> {
    if name(first)? != LIST || first.size() > MAX_LIST {
        return Err(DebianError::Received("it does not begin with a list of packages"));
    }
    let mut text = String::new();
    first.read_to_string(&mut text).map_err(DebianError::Archive)?;
    Ok(text)
}

fn by_name(packages: &[Package]) -> BTreeMap<String, PathBuf> {
    let named = |package: &Package| {
        let name = package.file.file_name()?.to_str()?;
        Some((name.to_owned(), package.file.clone()))
    };
    packages.iter().filter_map(named).collect()
}

fn name<R: Read>(entry: &Entry<'_, R>) -> Result<String, DebianError> {
    String::from_utf8(entry.path_bytes().into_owned())
        .map_err(|_| DebianError::Received("a name in it is no text"))
}

fn keep<R: Read>(entry: &mut Entry<'_, R>, path: &Path) -> Result<(), DebianError> {
    let size = entry.size();
    let mut file = create(path).map_err(DebianError::write(path))?;
    let kept = io::copy(entry, &mut file).map_err(DebianError::write(path))?;
    match kept == size {
        true => Ok(()),
        false => Err(DebianError::Archive(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Anew: what lies there may be a link that somebody put there.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(path)
}

#[cfg(test)]
mod tests {
    use tar::{EntryType, Header};
    use tempfile::TempDir;

    use super::*;
    use crate::entry::header;

    const ONE: &str = "Inst one (1:2 Debian:13/stable [amd64])\nConf one (1:2)\n";
    const FILE: &str = "one_1%3a2_amd64.deb";

    fn received(entries: &[(Header, &str, &str)]) -> (TempDir, Result<Vec<Package>, DebianError>) {
        let mut archive = tar::Builder::new(Vec::new());
        for (header, name, content) in entries {
            let mut header = header.clone();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        of_bytes(&archive.into_inner().unwrap())
    }

    fn of_bytes(bytes: &[u8]) -> (TempDir, Result<Vec<Package>, DebianError>) {
        let folder = TempDir::new().unwrap();
        let archive = folder.path().join("archive");
        fs::write(&archive, bytes).unwrap();
        let received = packages(&archive, folder.path());
        (folder, received)
    }

    fn file<'a>(name: &'a str, content: &'a str) -> (Header, &'a str, &'a str) {
        (header(EntryType::Regular, 0o644, 0), name, content)
    }

    #[test]
    fn files_are_kept_under_the_names_of_the_list() {
        let (folder, received) = received(&[file(LIST, ONE), file(FILE, "bytes")]);
        let packages = received.unwrap();
        assert_eq!(packages[0].name, "one");
        assert_eq!(packages[0].file, folder.path().join("archives").join(FILE));
        assert_eq!(fs::read_to_string(&packages[0].file).unwrap(), "bytes");
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused() {
        let link = (header(EntryType::Symlink, 0o777, 0), FILE, "");
        let twice = [file(LIST, ONE), file(FILE, "x"), file(FILE, "y")];
        for (entries, why) in [
            (&[][..], "it is empty"),
            (&[file("other", ONE)], "does not begin with a list"),
            (&[file(LIST, "nothing")], "names no packages"),
            (&[file(LIST, ONE)], "is not in it"),
            (&[file(LIST, ONE), file("../escaped", "x")], "not on its list"),
            (&[file(LIST, ONE), file("/etc/passwd", "x")], "not on its list"),
            (&[file(LIST, ONE), link], "what is no file"),
            (&twice, "not on its list"),
        ] {
            let (folder, refused) = received(entries);
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
            assert!(!folder.path().join("escaped").exists());
        }
    }

    #[test]
    fn an_archive_that_is_cut_is_refused() {
        let mut archive = tar::Builder::new(Vec::new());
        for (mut header, name, content) in [file(LIST, ONE), file(FILE, &"x".repeat(2000))] {
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        let whole = archive.into_inner().unwrap();
        of_bytes(&whole).1.unwrap();
        for length in (0..whole.len() - 1500).step_by(97) {
            assert!(of_bytes(&whole[..length]).1.is_err(), "{length} of {} bytes", whole.len());
        }
    }
}
