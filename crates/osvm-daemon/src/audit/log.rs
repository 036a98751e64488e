//! The file, at its end: where a line is added.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use thiserror::Error;

use super::chain::digest;
use super::{BEGINNING, Record};

/// More than any line has.
const LONGEST: u64 = 1 << 20;

/// The one writer of a record; there is one daemon.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    /// From the first line that is written on.
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    file: File,
    /// Of the line that comes next.
    number: u64,
    previous: String,
}

#[derive(Debug, Error)]
#[error("can't {act} {}: {source}", path.display())]
pub(crate) struct LogError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Log {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, end: None }
    }

    /// Adds a line, whose number and digest are set here.
    pub(crate) fn add(&mut self, mut record: Record) -> Result<(), LogError> {
        let path = self.path.clone();
        let failed = |source| LogError { act: "write to", path, source };
        let end = self.end()?;
        (record.number, record.previous) = (end.number, end.previous.clone());
        let line = serde_json::to_vec(&record).expect("a record is plain data");
        let written = end.write(&line).map_err(failed);
        if written.is_err() {
            // Whatever the file is like now is found out anew.
            self.end = None;
        }
        written
    }

    /// Whether there is room for that many bytes, which is set aside where the file system can.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        let path = self.path.clone();
        let failed = |source| LogError { act: "set room aside in", path, source };
        let end = self.end()?;
        end.reserve(bytes).map_err(failed)
    }

    /// A file that was taken away is begun anew: what is written to one without a name is lost.
    fn end(&mut self) -> Result<&mut End, LogError> {
        let path = &self.path;
        let open = || {
            let failed = |source| LogError { act: "open", path: path.clone(), source };
            End::open(path).map_err(failed)
        };
        let end = self.end.take().filter(|end| end.is_at(path)).map_or_else(open, Ok)?;
        Ok(self.end.insert(end))
    }
}

impl End {
    fn open(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut last = last_line(&file)?;
        match last.pop() {
            None | Some(b'\n') => {}
            // A line that was being written when its daemon was killed; it stays as it is.
            Some(byte) => {
                last.push(byte);
                file.write_all(b"\n")?;
            }
        }
        let number = match serde_json::from_slice::<Record>(&last) {
            Ok(record) => record.number + 1,
            Err(_) => lines(&file)? + 1,
        };
        let previous = if last.is_empty() { BEGINNING.to_owned() } else { digest(&last) };
        Ok(Self { file, number, previous })
    }

    /// Whether the file still has that name.
    fn is_at(&self, path: &Path) -> bool {
        let id = |of: Metadata| (of.dev(), of.ino());
        let (ours, theirs) = (self.file.metadata().map(id), fs::metadata(path).map(id));
        matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
    }

    /// In one piece, or not at all.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.file.write(&[line, b"\n"].concat())?;
        if written != line.len() + 1 {
            let length = self.file.metadata()?.len();
            self.file.set_len(length.saturating_sub(written as u64))?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.number += 1;
        self.previous = digest(line);
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, length, bytes) {
            // Some file systems can't; there, a disk that is full shows when it is written to.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The last line of a file with its end, if it has one.
fn last_line(mut file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut end = Vec::new();
    file.take(LONGEST).read_to_end(&mut end)?;
    let before = end.len().saturating_sub(1);
    let start = end[..before].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(end.split_off(start))
}

fn lines(mut file: &File) -> io::Result<u64> {
    file.rewind()?;
    let mut reader = BufReader::new(file);
    let mut count = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let length = buffer.len();
        if length == 0 {
            return Ok(count);
        }
        count += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::{Caller, Egress, Fault, Outcome, Part, Reach, Reached, Way, verify};
    use super::*;

    fn record(tool: &str) -> Record {
        let arguments = Part { sha256: digest(b"{}"), bytes: 2, body: None };
        let caller = Caller { user: 0, way: Way::Run, token: None, client: None, version: None };
        Record {
            number: 0,
            time: "2026-01-02T03:04:05.678Z".to_owned(),
            caller,
            server: "s".parse().unwrap(),
            tool: tool.to_owned(),
            image: None,
            vm: None,
            arguments,
            result: None,
            outcome: Outcome::Ok,
            why: None,
            ms: 5,
            egress: None,
            previous: String::new(),
        }
    }

    fn verified(path: &Path) -> super::super::Verified {
        verify(BufReader::new(File::open(path).unwrap())).unwrap()
    }

    #[test]
    fn lines_follow_from_each_other_from_one_daemon_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("audit.jsonl");
        for _ in 0..3 {
            let mut log = Log::at(path.clone());
            log.reserve(2).unwrap();
            log.add(record("a")).unwrap();
            log.add(record("b")).unwrap();
        }
        let whole = verified(&path);
        assert_eq!((whole.lines, whole.faults), (6, vec![]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let numbers: Vec<_> =
            text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn lines_from_before_there_was_egress_are_followed_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut log = Log::at(path.clone());
        log.add(record("old")).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("egress"), "as before");
        let reached = |host: &str, port, outcome| Reached { host: host.to_owned(), port, outcome };
        let hosts = vec![
            reached("api.example.com", Some(443), Reach::Allowed),
            reached("evil.com", None, Reach::Refused),
            reached("::1", Some(80), Reach::Failed),
        ];
        let egress = Egress { hosts, more: 2 };
        let told = "api.example.com:443, evil.com refused, [::1]:80 failed, and 2 more";
        assert_eq!(egress.to_string(), told);
        log.add(Record { egress: Some(egress.clone()), ..record("new") }).unwrap();
        assert_eq!((verified(&path).lines, verified(&path).faults), (2, vec![]));
        let text = fs::read_to_string(&path).unwrap();
        let read: Vec<_> =
            text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().egress).collect();
        assert_eq!(read, [None, Some(egress)]);
    }

    #[test]
    fn a_line_that_was_cut_short_stays_and_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        Log::at(path.clone()).add(record("a")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.clone() + &text[..40]).unwrap();
        Log::at(path.clone()).add(record("b")).unwrap();
        assert_eq!(verified(&path).faults, [Fault::Unreadable { line: 2 }]);
        assert!(fs::read_to_string(&path).unwrap().starts_with(&text));
    }

    #[test]
    fn a_file_that_was_taken_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut log = Log::at(path.clone());
        log.add(record("a")).unwrap();
        fs::remove_file(&path).unwrap();
        log.add(record("b")).unwrap();
        assert_eq!((verified(&path).lines, verified(&path).faults), (1, vec![]));
    }

    #[test]
    fn a_full_disk_and_a_missing_folder_are_told() {
        let mut log = Log::at("/dev/full".into());
        let error = log.add(record("a")).unwrap_err().to_string();
        assert!(error.contains("/dev/full: No space left"), "{error}");
        assert!(log.reserve(1).is_err());
        let error = Log::at("/proc/none/audit.jsonl".into()).add(record("a")).unwrap_err();
        assert!(error.to_string().starts_with("can't open /proc/none/audit.jsonl"), "{error}");
    }
}
