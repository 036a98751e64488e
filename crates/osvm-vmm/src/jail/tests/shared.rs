//! A hostile server of a folder: the folder is all it has.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::ExitCode;

use rustix::fs::{AtFlags, CWD, Mode, RenameFlags, chmodat, mkdirat, renameat_with};

use super::*;
use crate::jail::Share;

/// What [`the_server`] could do in a folder served like this, or with the file of that name in it.
async fn deeds(file: &str, is_read_only: bool) -> Vec<String> {
    let world = tempfile::tempdir().unwrap();
    fs::write(world.path().join("outside"), "not lent").unwrap();
    let folder = world.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("inside"), "lent").unwrap();
    symlink("../outside", folder.join("link")).unwrap();
    let lent = if file.is_empty() { folder } else { folder.join(file) };
    let path = world.path().join("log");
    let log = File::create(&path).unwrap();
    let share = Share { id: "one", number: 0, folder: &lent, is_read_only, log };
    let outside = world.path().join("outside").into_os_string();
    let process = jail().await.serve_folder(share, vec![outside], Vec::new()).await.unwrap();
    let exit = process.exited().await;
    let said = fs::read_to_string(&path).unwrap();
    assert_eq!(exit, Exit::Code(0), "{said}");
    said.lines().filter_map(|line| line.strip_prefix("did: ")).map(str::to_owned).collect()
}

/// Runs in the jail; its argument is a file beside the folder.
pub(super) fn the_server(args: &[OsString], _given: Vec<OwnedFd>) -> ExitCode {
    let outside = Path::new(&args[0]);
    attempt("read inside", || fs::read("inside"));
    attempt("write inside", || fs::write("new", ""));
    attempt("move inside", || Ok(renameat_with(CWD, "new", CWD, "newer", RenameFlags::empty())?));
    attempt("make a folder inside", || Ok(mkdirat(CWD, "folder", Mode::RWXU)?));
    attempt("make a file private", || Ok(chmodat(CWD, "inside", Mode::RUSR, AtFlags::empty())?));
    attempt("read outside", || fs::read(outside));
    attempt("read outside by the parent", || fs::read("../outside"));
    attempt("read outside by a link", || fs::read("link"));
    attempt("read the users", || fs::read("/etc/passwd"));
    attempt("look at other processes", || match fs::read_dir("/proc/2") {
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    });
    attempt("connect", || TcpStream::connect("127.0.0.1:1"));
    attempt("start a program", || Command::new("/proc/self/exe").spawn());
    attempt("make a set-user-ID file", || {
        Ok(chmodat(CWD, "inside", Mode::SUID | Mode::RWXU, AtFlags::empty())?)
    });
    ExitCode::SUCCESS
}

fn attempt<T>(what: &str, deed: impl FnOnce() -> io::Result<T>) {
    if deed().is_ok() {
        io::stderr().write_all(format!("did: {what}\n").as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn a_folder_that_is_lent_to_be_written_is_all_that_its_server_can_write() {
    let expected = [
        "read inside",
        "write inside",
        "move inside",
        "make a folder inside",
        "make a file private",
    ];
    assert_eq!(deeds("", false).await, expected);
}

#[tokio::test]
async fn a_folder_that_is_lent_to_be_read_is_all_that_its_server_can_read() {
    assert_eq!(deeds("", true).await, ["read inside"]);
}

#[tokio::test]
async fn a_file_that_is_lent_is_all_that_its_server_can_reach() {
    assert_eq!(deeds("inside", false).await, ["read inside", "make a file private"]);
    assert_eq!(deeds("inside", true).await, ["read inside"]);
}
