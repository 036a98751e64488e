//! A folder of the host's, lent, and how its share is started and ended.

use std::fs::{self, File};
use std::io::PipeWriter;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use osvm_egress::folders::{Folder, ServeError, serve};
use osvm_spec::Access;
use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

/// Whose the files are in the guest.
pub(crate) const UID: u32 = 1234;
pub(crate) const GID: u32 = 1235;

pub(crate) struct Share {
    /// What lies around the folder, and must stay out of reach.
    around: TempDir,
    until: Option<PipeWriter>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Share {
    pub(crate) fn lend(access: Access) -> Self {
        Self::lend_prepared(access, |_| ())
    }

    /// Of a folder with that in it.
    pub(crate) fn lend_prepared(access: Access, prepare: impl FnOnce(&Path)) -> Self {
        Self::lend_below(access, "", prepare)
    }

    /// Of the file `file` alone, which lies in the folder.
    pub(crate) fn lend_file(access: Access) -> Self {
        Self::lend_below(access, "file", |folder| {
            fs::write(folder.join("file"), "lent").unwrap();
            fs::write(folder.join("beside"), "not lent").unwrap();
        })
    }

    fn lend_below(access: Access, name: &str, prepare: impl FnOnce(&Path)) -> Self {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("folder");
        fs::create_dir(&folder).unwrap();
        fs::write(around.path().join("secret"), "secret").unwrap();
        prepare(&folder);
        let listener = UnixListener::bind(around.path().join("socket")).unwrap();
        let folder = opened(&folder.join(name));
        let (ended, until) = std::io::pipe().unwrap();
        let thread =
            std::thread::spawn(move || serve(&listener, folder, access, &OwnedFd::from(ended)));
        Self { around, until: Some(until), thread: Some(thread) }
    }

    /// As the host sees it.
    pub(crate) fn folder(&self) -> PathBuf {
        self.around.path().join("folder")
    }

    pub(crate) fn secret(&self) -> PathBuf {
        self.around.path().join("secret")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.around.path().join("socket")
    }

    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    /// The VM is gone.
    pub(crate) fn end(&mut self) -> Option<Result<(), ServeError>> {
        drop(self.until.take());
        self.thread.take().map(|thread| thread.join().unwrap())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.end();
    }
}

fn opened(folder: &Path) -> Folder {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Folder::hold(rustix::fs::open(folder, flags, Mode::empty()).unwrap()).unwrap()
}

/// Everything in a folder: name, mode, times, size and content or target.
pub(crate) fn picture(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = match metadata.file_type() {
            kind if kind.is_dir() => {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            kind if kind.is_file() => format!("{:?}", fs::read(&path).unwrap()),
            _ => String::new(),
        };
        let times = (metadata.mtime_nsec(), metadata.ctime_nsec());
        let mode = metadata.mode();
        seen.push(format!("{path:?} {mode:o} {times:?} {} {content}", metadata.len()));
    }
    seen.sort();
    seen
}

/// A program of the host's, for what a test needs of it.
pub(crate) fn run(folder: &Path, line: &[&str]) -> Result<String, String> {
    let mut command = std::process::Command::new(line[0]);
    command.args(&line[1..]).current_dir(folder);
    for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]
    {
        command.env(name, "someone");
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory");
    command.env("GIT_CONFIG_VALUE_0", "*").env("GIT_EDITOR", "true");
    let done = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if done.status.success() { Ok(out.into_owned()) } else { Err(format!("{line:?}: {out}{err}")) }
}

/// One that can be written at any offset.
pub(crate) fn writable(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}
