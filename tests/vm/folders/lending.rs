//! Which folders are lent, and to whom.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::osvm::Osvm;

#[test]
fn osvms_own_files_and_what_is_no_folder_are_not_lent() {
    let osvm = Osvm::new();
    let place = super::folder();
    symlink(osvm.home(), place.path().join("link")).unwrap();
    let text = |path: &std::path::Path| path.display().to_string();
    let own = "osvm keeps its own files in";
    let cases = [
        (text(osvm.home()), 6, own),
        (text(&osvm.home().join("kernel")), 6, own),
        (text(osvm.home().parent().unwrap()), 6, own),
        (text(osvm.runtime()), 6, own),
        (text(&place.path().join("link")), 6, own),
        ("/".to_owned(), 6, own),
        (text(&place.path().join("none")), 1, "No such file or directory"),
        ("/dev/null".to_owned(), 1, "it is neither a folder nor a file"),
        (text(&osvm.home().join("rootfs/mcp-server.cpio")), 6, own),
    ];
    for (folder, code, why) in cases {
        let mount = format!("{folder}:/work:rw");
        let ended = osvm.run(&["mcp", "microvm", "launch", "trial", "--mount", &mount]);
        ended.expect(code).says(&[&folder, why, "can't be lent"]);
    }
    osvm.assert_nothing_left();
}

#[test]
fn an_ordinary_user_lends_a_folder_too() {
    let osvm = Osvm::ordinary();
    let owner = fs::metadata(osvm.home()).unwrap().uid();
    let folder = super::folder();
    rustix::fs::chown(folder.path(), Some(rustix::fs::Uid::from_raw(owner)), None).unwrap();
    super::lend(&osvm, folder.path(), "rw");
    assert_eq!(super::read(&osvm, "/work/hello.txt"), "from the host");
    super::write(&osvm, "/work/new.txt", "from the guest").expect(0);
    let new = folder.path().join("new.txt");
    assert_eq!(fs::read_to_string(&new).unwrap(), "from the guest");
    assert_eq!(fs::metadata(&new).unwrap().uid(), owner);
    osvm.ok(&["mcp", "microvm", "stop", "files"]);
    osvm.assert_nothing_left();
}
