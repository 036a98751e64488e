//! A hostile program in a jail: what it tries, and that it fails.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::*;

/// What the prisoner is told of the world outside.
struct World {
    /// A home with a file, and another VM's run directory with a socket.
    folder: tempfile::TempDir,
    /// A process of the same user.
    victim: std::process::Child,
    _listener: UnixListener,
    tcp: TcpListener,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "mine").unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let victim = Command::new("/bin/sleep").arg("100").spawn().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { folder, victim, _listener: listener, tcp }
    }

    fn told(&self) -> [OsString; 3] {
        let port = self.tcp.local_addr().unwrap().port();
        [
            self.folder.path().as_os_str().to_owned(),
            self.victim.id().to_string().into(),
            port.to_string().into(),
        ]
    }
}

/// Locks a prisoner up, and reads what it could do: nothing at all.
pub(super) async fn visit(jail: &Jail) {
    let program = std::env::current_exe().unwrap();
    let mut world = World::new();
    let mut args = this_program("jail::tests::prisoner::the_prisoner");
    args.extend(world.told());
    let (process, dir) = run_in(jail, &program, &args).await.unwrap();
    let exit = process.exited().await;
    let said = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(exit, Exit::Code(0), "{said}");
    let did: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("did: ")).collect();
    assert_eq!(did, Vec::<&str>::new(), "{said}");
    let failed = said.lines().filter(|line| line.starts_with("failed: ")).count();
    assert_eq!(failed, ATTEMPTS, "{said}");
    assert_eq!(world.victim.try_wait().unwrap(), None, "the other process lives");
    world.victim.kill().unwrap();
    world.victim.wait().unwrap();
}

const ATTEMPTS: usize = 20;

#[test]
#[ignore = "started by the other tests, in a jail"]
fn the_prisoner() {
    let args: Vec<_> = std::env::args().collect();
    let [folder, victim, port] = &args[args.len() - 3..] else { panic!("not told enough") };
    let (folder, victim) = (PathBuf::from(folder), victim.parse().unwrap());
    let own = std::env::current_exe().unwrap();
    attempt("read a file of the user's", || fs::read(folder.join("secret")));
    attempt("write a file of the user's", || fs::write(folder.join("secret"), "yours"));
    attempt("make a file", || fs::write("/tmp/osvm-prisoner", ""));
    attempt("remove a file of the user's", || fs::remove_file(folder.join("secret")));
    attempt("list the users", || fs::read("/etc/passwd"));
    attempt("list another VM's folder", || fs::read_dir(&folder));
    attempt("connect to another VM", || UnixStream::connect(folder.join("socket")));
    attempt("change its own program", || fs::OpenOptions::new().write(true).open(own));
    attempt("connect to the host", || TcpStream::connect(format!("127.0.0.1:{port}")));
    // SAFETY: each of these system calls has arguments that are numbers, or zero-terminated text
    // that lives long enough; a copy of this process ends at once.
    unsafe {
        let none = std::ptr::null::<u8>();
        call("make a socket", libc::SYS_socket, [2, 1, 0]);
        call("make a raw socket", libc::SYS_socket, [17, 3, 0]);
        call("trace another process", libc::SYS_ptrace, [16, victim, 0]);
        call("signal another process", libc::SYS_kill, [victim, 0, 0]);
        call("signal a thread of another process", libc::SYS_tgkill, [victim, victim, 0]);
        call("mount", libc::SYS_mount, [none as i64, c"/".as_ptr() as i64, 0]);
        call("make namespaces", libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0]);
        call("use BPF", libc::SYS_bpf, [0, 0, 0]);
        call("use io_uring", libc::SYS_io_uring_setup, [1, none as i64, 0]);
        call("become root", libc::SYS_setuid, [0, 0, 0]);
        call("start a process", libc::SYS_clone, [i64::from(libc::SIGCHLD), 0, 0]);
    }
}

fn attempt<T>(what: &str, deed: impl FnOnce() -> io::Result<T>) {
    let told = match deed() {
        Ok(_) => format!("did: {what}\n"),
        Err(error) => format!("failed: {what}: {error}\n"),
    };
    io::stderr().write_all(told.as_bytes()).unwrap();
}

unsafe fn call(what: &str, number: libc::c_long, arguments: [i64; 3]) {
    let [a, b, c] = arguments;
    // SAFETY: as the caller says.
    let result = unsafe { libc::syscall(number, a, b, c, 0, 0) };
    if number == libc::SYS_clone && result == 0 {
        // SAFETY: ends the copy, which must not go on as a test.
        unsafe { libc::_exit(0) };
    }
    attempt(what, || if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
}
