//! A lent folder, mounted by this machine's kernel: what the agent does in the guest, done here.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use osvm_spec::Access;
use osvm_wire::post::{self, Header, MAX_MESSAGE, Post};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::peer::greet;
use crate::share::Share;

/// Unmounted before the share ends.
pub(crate) struct Mounted {
    target: TempDir,
    /// Of what is mounted in it, if that is a file.
    name: &'static str,
    pump: Arc<Pump>,
    pub(crate) share: Share,
}

/// Carries messages between the kernel and the share.
struct Pump {
    fuse: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    post: Post,
    turn: u64,
    stream: Option<UnixStream>,
}

impl Mounted {
    /// None, said aloud, where nothing can be mounted.
    pub(crate) fn lend(access: Access) -> Option<Self> {
        Self::lend_prepared(access, |_| ())
    }

    pub(crate) fn lend_prepared(access: Access, prepare: impl FnOnce(&Path)) -> Option<Self> {
        Self::mount("", || Share::lend_prepared(access, prepare))
    }

    /// A file, mounted on a file.
    pub(crate) fn lend_file(access: Access) -> Option<Self> {
        Self::mount("file", || Share::lend_file(access))
    }

    fn mount(name: &'static str, lend: impl FnOnce() -> Share) -> Option<Self> {
        let Ok(fuse) = File::options().read(true).write(true).open("/dev/fuse") else {
            eprintln!("skipped: no /dev/fuse to mount with");
            return None;
        };
        let target = tempfile::tempdir().unwrap();
        let is_file = !name.is_empty();
        if is_file {
            File::create(target.path().join(name)).unwrap();
        }
        let mode = if is_file { "100000" } else { "40000" };
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let options =
            format!("fd={},rootmode={mode},user_id=0,group_id=0,allow_other\0", fuse.as_raw_fd());
        let options = std::ffi::CString::from_vec_with_nul(options.into_bytes()).unwrap();
        if let Err(error) =
            mount("osvm", target.path().join(name), "fuse", flags, options.as_c_str())
        {
            eprintln!("skipped: mount: {error}");
            return None;
        }
        let pump = Pump { fuse, state: Mutex::default(), changed: Condvar::new() };
        let share = lend();
        let mounted = Self { target, name, pump: Arc::new(pump), share };
        let pump = Arc::clone(&mounted.pump);
        thread::spawn(move || pump.take_requests());
        mounted.reconnect();
        Some(mounted)
    }

    /// As the guest sees it.
    pub(crate) fn folder(&self) -> &Path {
        self.target.path()
    }

    /// The same of a file.
    pub(crate) fn file(&self) -> PathBuf {
        self.target.path().join(self.name)
    }

    /// As after the daemon has died, wherever the messages are.
    pub(crate) fn reconnect(&self) {
        self.pump.hang_up();
        let stream = self.share.connect();
        let turn = self.pump.resume(&stream);
        let (pump, sending) = (Arc::clone(&self.pump), stream.try_clone().unwrap());
        thread::spawn(move || pump.send(turn, &sending));
        let pump = Arc::clone(&self.pump);
        thread::spawn(move || pump.receive(turn, &stream));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.file(), UnmountFlags::DETACH).unwrap();
        self.pump.hang_up();
    }
}

impl Pump {
    fn take_requests(&self) {
        let mut buffer = vec![0; MAX_MESSAGE];
        // Ends when it is unmounted.
        while let Ok(length) = (&self.fuse).read(&mut buffer) {
            self.state.lock().unwrap().post.put(buffer[..length].to_vec()).unwrap();
            self.changed.notify_all();
        }
    }

    fn hang_up(&self) {
        let mut state = self.state.lock().unwrap();
        state.turn += 1;
        if let Some(stream) = state.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    fn resume(&self, stream: &UnixStream) -> u64 {
        let mut state = self.state.lock().unwrap();
        greet(stream.try_clone().unwrap(), &mut state.post).unwrap();
        state.stream = Some(stream.try_clone().unwrap());
        state.turn
    }

    fn send(&self, turn: u64, mut stream: &UnixStream) {
        let mut state = self.state.lock().unwrap();
        while state.turn == turn {
            let Some((header, message)) = state.post.next() else {
                state = self.changed.wait(state).unwrap();
                continue;
            };
            let message = [&header[..], message].concat();
            drop(state);
            if stream.write_all(&message).is_err() {
                return;
            }
            state = self.state.lock().unwrap();
        }
    }

    fn receive(&self, turn: u64, mut stream: &UnixStream) {
        loop {
            let mut header = [0; post::HEADER_LEN];
            if stream.read_exact(&mut header).is_err() {
                return;
            }
            let header = Header::parse(header).unwrap();
            let mut message = vec![0; header.length];
            if stream.read_exact(&mut message).is_err() {
                return;
            }
            let mut state = self.state.lock().unwrap();
            if state.turn != turn {
                return;
            }
            state.post.arrived(header).unwrap();
            drop(state);
            // The kernel may have given the request up.
            let _ = (&self.fuse).write(&message);
        }
    }
}
