//! What one memory has that a template's has not: pages, each behind its place, one after the other in a file.
//!
//! ```text
//! changes = how many (8 bytes, big endian) { place (8 bytes, big endian) page (4096 bytes) }
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::VmmError;
use crate::snapshot::{CHUNK, MEMORY, PAGE, WRITE, blocking, copy};

/// In the folder.
pub(crate) const CHANGES: &str = "changes";

const WHOLE: &str = "put a saved machine together in";

/// More than there ever are, for as long as not all are there.
const NOT_ALL: u64 = u64::MAX;

/// Writes them down.
pub(crate) async fn keep(memory: File, template: &Path, folder: &Path) -> Result<(), VmmError> {
    let template = File::open(template);
    blocking(WRITE, folder.join(CHANGES), move |path| {
        write(&memory, &template?, File::create_new(path)?)
    })
    .await
}

/// Makes the memory of them in the same folder.
pub(crate) async fn make_whole(folder: &Path, template: BorrowedFd<'_>) -> Result<(), VmmError> {
    let (template, changes) = (template.try_clone_to_owned(), File::open(folder.join(CHANGES)));
    blocking(WHOLE, folder.join(MEMORY), move |whole| {
        // Of an earlier attempt, and nobody's.
        match fs::remove_file(whole) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        apply(changes?, &template?.into(), &File::create_new(whole)?)
    })
    .await
}

fn write(memory: &File, template: &File, to: File) -> io::Result<()> {
    let length = template.metadata()?.len();
    if memory.metadata()?.len() != length {
        return Err(io::Error::new(ErrorKind::InvalidData, "its template has another size"));
    }
    let mut to = BufWriter::with_capacity(CHUNK, to);
    to.write_all(&NOT_ALL.to_be_bytes())?;
    let mut changed: u64 = 0;
    let [mut ours, mut theirs] = [vec![0; CHUNK], vec![0; CHUNK]];
    for place in (0..length).step_by(CHUNK) {
        let bytes = usize::try_from(length - place).map_or(CHUNK, |left| left.min(CHUNK));
        let (ours, theirs) = (&mut ours[..bytes], &mut theirs[..bytes]);
        memory.read_exact_at(ours, place)?;
        template.read_exact_at(theirs, place)?;
        let pages = (place..).step_by(PAGE).zip(ours.chunks(PAGE).zip(theirs.chunks(PAGE)));
        for (place, (ours, _)) in pages.filter(|(_, (ours, theirs))| ours != theirs) {
            to.write_all(&place.to_be_bytes())?;
            to.write_all(ours)?;
            changed += 1;
        }
    }
    to.into_inner()?.write_all_at(&changed.to_be_bytes(), 0)
}

fn apply(changes: File, template: &File, whole: &File) -> io::Result<()> {
    copy(template, whole)?;
    let length = template.metadata()?.len();
    let mut changes = BufReader::with_capacity(CHUNK, changes);
    for _ in 0..number(&mut changes)? {
        let place = number(&mut changes)?;
        let mut page = [0; PAGE];
        changes.read_exact(&mut page)?;
        if place >= length {
            return Err(io::Error::new(ErrorKind::InvalidData, "a page lies beyond the memory"));
        }
        whole.write_all_at(&page, place)?;
    }
    Ok(())
}

fn number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};
    use std::path::PathBuf;

    use super::*;
    use crate::process::inherited;
    use crate::snapshot::create;

    const MIB: u64 = 1 << 20;

    /// So many MiB, with pages of these bytes.
    fn memory(mib: u64, pages: &[(u64, u8)]) -> File {
        let memory = create(mib * MIB).unwrap();
        for (page, byte) in pages {
            memory.write_all_at(&[*byte; PAGE], page * PAGE as u64).unwrap();
        }
        memory
    }

    fn path(memory: &File) -> PathBuf {
        inherited(memory.as_raw_fd()).into()
    }

    fn read(memory: &File) -> Vec<u8> {
        let mut all = vec![0; memory.metadata().unwrap().len() as usize];
        memory.read_exact_at(&mut all, 0).unwrap();
        all
    }

    #[tokio::test]
    async fn a_memory_comes_of_its_template_and_of_the_pages_that_are_others_there() {
        let template = memory(3, &[(0, 1), (300, 2), (767, 3)]);
        // One is another, one is zero by now, one is there now.
        let changed = memory(3, &[(0, 1), (300, 9), (400, 4)]);
        let folder = tempfile::tempdir().unwrap();
        keep(changed.try_clone().unwrap(), &path(&template), folder.path()).await.unwrap();
        let bytes = fs::metadata(folder.path().join(CHANGES)).unwrap().len();
        assert_eq!(bytes, 8 + 3 * (8 + PAGE as u64));
        // Again and again.
        for _ in 0..2 {
            make_whole(folder.path(), template.as_fd()).await.unwrap();
            let whole = File::open(folder.path().join(MEMORY)).unwrap();
            assert!(read(&whole) == read(&changed));
        }
    }

    #[tokio::test]
    async fn changes_that_are_cut_off_anywhere_or_lie_beyond_make_no_memory() {
        let template = memory(1, &[]);
        let folder = tempfile::tempdir().unwrap();
        keep(memory(1, &[(0, 1), (255, 2)]), &path(&template), folder.path()).await.unwrap();
        let changes = folder.path().join(CHANGES);
        let file = File::options().write(true).open(&changes).unwrap();
        let whole = async || make_whole(folder.path(), template.as_fd()).await;
        file.write_all_at(&MIB.to_be_bytes(), 8).unwrap();
        let beyond = whole().await.unwrap_err();
        assert!(beyond.to_string().contains("put a saved machine together in"), "{beyond}");
        file.write_all_at(&0_u64.to_be_bytes(), 8).unwrap();
        whole().await.unwrap();
        for length in [8 + 2 * (8 + PAGE as u64) - 1, 8 + 8 + PAGE as u64, 8, 4] {
            file.set_len(length).unwrap();
            whole().await.unwrap_err();
        }
        let elsewhere = tempfile::tempdir().unwrap();
        keep(memory(2, &[]), &path(&template), elsewhere.path()).await.unwrap_err();
    }
}
