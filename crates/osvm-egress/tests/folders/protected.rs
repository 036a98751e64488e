//! What makes the host run code stays as it is, and git works all the same.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use osvm_spec::Access;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::mount::Mounted;
use crate::share::{picture, run};

/// A repository with a hook, a worktree of another, and what editors have.
fn prepare(folder: &Path) {
    let git = |line: &[&str]| run(folder, &[&["git"], line].concat()).unwrap();
    git(&["init", "-q", "-b", "main"]);
    fs::write(folder.join("file"), "one\n").unwrap();
    git(&["add", "file"]);
    git(&["commit", "-qm", "one"]);
    fs::write(folder.join(".git/hooks/post-update"), "#!/bin/sh\n").unwrap();
    for name in ["modules/sub/hooks", "worktrees/tree"] {
        fs::create_dir_all(folder.join(".git").join(name)).unwrap();
    }
    fs::write(folder.join(".git/modules/sub/config"), "[core]\n").unwrap();
    fs::write(folder.join(".git/worktrees/tree/commondir"), "../..\n").unwrap();
    fs::create_dir_all(folder.join("deep/er/.vscode")).unwrap();
    fs::write(folder.join("deep/er/.vscode/tasks.json"), "{}").unwrap();
    fs::create_dir(folder.join(".idea")).unwrap();
    fs::write(folder.join(".envrc"), "true\n").unwrap();
    fs::create_dir(folder.join("linked")).unwrap();
    fs::write(folder.join("linked/.git"), "gitdir: ../.git/worktrees/tree\n").unwrap();
    fs::create_dir(folder.join("plain")).unwrap();
}

const PROTECTED: [&str; 9] = [
    ".git/config",
    ".git/hooks/post-update",
    ".git/modules/sub/config",
    ".git/worktrees/tree/commondir",
    "deep/er/.vscode/tasks.json",
    ".envrc",
    "linked/.git",
    ".git/hooks",
    ".idea",
];

/// Everything that is protected, as it is.
fn protected(folder: &Path) -> Vec<String> {
    PROTECTED.iter().flat_map(|path| picture(&folder.join(path))).collect()
}

fn lend(access: Access) -> Option<Mounted> {
    Mounted::lend_prepared(access, prepare)
}

fn refused<T: std::fmt::Debug>(done: std::io::Result<T>, what: impl std::fmt::Debug) {
    let error = done.expect_err(&format!("{what:?}"));
    assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()), "{what:?}");
}

#[test]
fn git_works_in_the_guest() {
    let Some(mounted) = lend(Access::Rw) else { return };
    let guest = mounted.folder();
    let git = |line: &[&str]| run(guest, &[&["git"], line].concat()).unwrap();
    fs::write(guest.join("file"), "two\n").unwrap();
    git(&["commit", "-qam", "two"]);
    git(&["checkout", "-q", "-b", "branch"]);
    fs::write(guest.join("new"), "three\n").unwrap();
    git(&["add", "new"]);
    git(&["commit", "-qm", "three"]);
    git(&["branch", "other"]);
    git(&["checkout", "-q", "main"]);
    assert!(!guest.join("new").exists());
    git(&["merge", "-q", "--no-ff", "-m", "merged", "branch"]);
    git(&["stash", "list"]);
    git(&["tag", "v1"]);
    git(&["rebase", "-q", "HEAD~1"]);
    git(&["gc", "-q", "--prune=now"]);
    git(&["fsck", "--strict"]);
    assert_eq!(git(&["status", "--porcelain", "-uno"]), "");
    let host = run(&mounted.share.folder(), &["git", "log", "--format=%s"]).unwrap();
    assert!(host.contains("three"), "{host}");
    run(&mounted.share.folder(), &["git", "fsck", "--strict"]).unwrap();
}

#[test]
fn what_makes_git_run_code_is_not_set_in_the_guest() {
    let Some(mounted) = lend(Access::Rw) else { return };
    let before = protected(&mounted.share.folder());
    let guest = mounted.folder();
    let git = |line: &[&str]| run(guest, &[&["git"], line].concat());
    assert!(git(&["config", "core.fsmonitor", "evil"]).is_err());
    assert!(git(&["config", "--worktree", "core.pager", "evil"]).is_err());
    assert!(git(&["init", "-q", "plain/new"]).is_err());
    assert!(git(&["clone", "-q", ".", "plain/clone"]).is_err());
    assert!(git(&["worktree", "add", "plain/tree"]).is_err());
    // It renames a branch's settings too, and says that it could not.
    assert!(git(&["branch", "-m", "renamed"]).unwrap_err().contains("config"));
    assert_eq!(protected(&mounted.share.folder()), before);
    assert!(!mounted.share.folder().join("plain/new/.git").exists());
}

#[test]
fn protected_files_are_read_and_not_changed() {
    let Some(mounted) = lend(Access::Rw) else { return };
    let before = protected(&mounted.share.folder());
    let guest = mounted.folder();
    for path in PROTECTED {
        let path = guest.join(path);
        if path.is_file() {
            fs::read(&path).unwrap();
            refused(fs::write(&path, "evil"), &path);
            refused(File::options().append(true).open(&path), &path);
            refused(fs::remove_file(&path), &path);
        } else {
            refused(fs::write(path.join("evil"), "evil"), &path);
            refused(fs::create_dir(path.join("evil")), &path);
            refused(symlink("evil", path.join("evil")), &path);
        }
        refused(fs::set_permissions(&path, fs::Permissions::from_mode(0o777)), &path);
        refused(File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH), &path);
        refused(fs::rename(&path, guest.join("plain/x")), &path);
        if path.is_file() {
            refused(fs::hard_link(&path, guest.join("plain/x")), &path);
        }
        fs::write(guest.join("plain/evil"), "evil").unwrap();
        if path.is_file() {
            refused(fs::rename(guest.join("plain/evil"), &path), &path);
        }
        let exchange = RenameFlags::EXCHANGE;
        let other = guest.join("plain/evil");
        for (a, b) in [(&path, &other), (&other, &path)] {
            assert_eq!(renameat_with(CWD, a, CWD, b, exchange), Err(Errno::ROFS), "{path:?}");
        }
    }
    assert_eq!(protected(&mounted.share.folder()), before);
}

#[test]
fn what_is_not_there_yet_is_not_made_either() {
    let Some(mounted) = lend(Access::Rw) else { return };
    let guest = mounted.folder();
    for path in [
        ".git/commondir",
        ".git/config.worktree",
        ".git/CONFIG.WORKTREE",
        ".git/modules/sub/commondir",
        ".git/worktrees/tree/config.worktree",
        ".git/worktrees/tree/Hooks",
        "plain/.git",
        "plain/.GIT",
        "plain/.vscode",
        "plain/.VSCode",
        "plain/.idea",
        "plain/.envrc",
        "plain/.envrc.local",
    ] {
        let path = guest.join(path);
        refused(fs::write(&path, "evil"), &path);
        refused(fs::create_dir(&path), &path);
        refused(symlink("evil", &path), &path);
        refused(fs::hard_link(guest.join("file"), &path), &path);
        fs::write(guest.join("plain/x"), "evil").unwrap();
        refused(fs::rename(guest.join("plain/x"), &path), &path);
        fs::create_dir_all(guest.join("plain/folder/hooks")).unwrap();
        refused(fs::rename(guest.join("plain/folder"), &path), &path);
        assert!(fs::symlink_metadata(&path).is_err(), "{path:?}");
    }
}

#[test]
fn a_repository_is_not_swapped_for_a_prepared_one() {
    let Some(mounted) = lend(Access::Rw) else { return };
    let guest = mounted.folder();
    fs::create_dir_all(guest.join("evil/hooks")).unwrap();
    fs::write(guest.join("evil/config"), "evil").unwrap();
    refused(fs::rename(guest.join(".git"), guest.join("away")), ".git");
    refused(fs::rename(guest.join("evil"), guest.join(".git")), ".git");
    let exchanged =
        renameat_with(CWD, guest.join("evil"), CWD, guest.join(".git"), RenameFlags::EXCHANGE);
    assert_eq!(exchanged, Err(Errno::ROFS));
    refused(fs::remove_dir(guest.join(".git")), ".git");
    for name in ["modules/evil", "worktrees/evil", "modules/sub/evil", "evil", "refs/evil"] {
        let place = guest.join(".git").join(name);
        refused(fs::rename(guest.join("evil"), &place), name);
        refused(symlink("../../evil", &place), name);
        symlink("../../evil", guest.join("link")).unwrap();
        refused(fs::rename(guest.join("link"), &place), name);
        refused(fs::hard_link(guest.join("link"), &place), name);
        fs::remove_file(guest.join("link")).unwrap();
    }
    // Prepared where names do not matter yet, and moved to where they do.
    fs::create_dir_all(guest.join(".git/store/hooks")).unwrap();
    fs::write(guest.join(".git/store/config"), "evil").unwrap();
    refused(fs::rename(guest.join(".git/store"), guest.join(".git/modules/store")), "store");
    refused(fs::rename(guest.join(".git/store"), guest.join("plain/store")), "store");
    // Taken out, changed, and put back.
    refused(fs::rename(guest.join(".git/modules/sub"), guest.join("plain/sub")), "sub");
    refused(fs::rename(guest.join(".git/modules/sub"), guest.join(".git/modules/x")), "sub");
    refused(fs::rename(guest.join(".git/modules"), guest.join("plain/modules")), "modules");
}

#[test]
fn a_folder_around_a_repository_moves_with_it_protected() {
    let Some(mounted) = lend(Access::Rw) else { return };
    let guest = mounted.folder();
    fs::rename(guest.join("linked"), guest.join("moved")).unwrap();
    refused(fs::write(guest.join("moved/.git"), "evil"), "moved");
    fs::rename(guest.join("deep"), guest.join("deeper")).unwrap();
    refused(fs::write(guest.join("deeper/er/.vscode/tasks.json"), "evil"), "deeper");
}

/// The host's user has given a protected file a second name: by that it is found first.
#[test]
fn a_file_is_as_protected_as_its_strictest_name() {
    let Some(mounted) = Mounted::lend_prepared(Access::Rw, |folder| {
        prepare(folder);
        fs::hard_link(folder.join(".git/config"), folder.join("second")).unwrap();
    }) else {
        return;
    };
    let guest = mounted.folder();
    fs::read(guest.join("second")).unwrap();
    fs::read(guest.join(".git/config")).unwrap();
    refused(fs::write(guest.join("second"), "evil"), "second");
    refused(fs::rename(guest.join("second"), guest.join("third")), "second");
}

/// With its own repository spoilt, git would ask the folder itself whether it is one.
#[test]
fn the_folder_does_not_become_a_repository_itself() {
    let Some(mounted) = lend(Access::Rw) else { return };
    let (guest, host) = (mounted.folder(), mounted.share.folder());
    fs::create_dir_all(guest.join("objects")).unwrap();
    fs::create_dir_all(guest.join("refs")).unwrap();
    let evil = "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = touch evil;\n";
    fs::write(guest.join("config"), evil).unwrap();
    fs::remove_file(guest.join(".git/HEAD")).unwrap();
    fs::write(guest.join("made"), "ref: refs/heads/main\n").unwrap();
    refused(fs::write(guest.join("HEAD"), "ref: refs/heads/main\n"), "HEAD");
    refused(fs::rename(guest.join("made"), guest.join("HEAD")), "HEAD");
    refused(fs::hard_link(guest.join("made"), guest.join("HEAD")), "HEAD");
    refused(symlink("made", guest.join("HEAD")), "HEAD");
    let _ = run(&host, &["git", "status"]);
    assert!(!host.join("evil").exists());
    assert!(run(guest, &["git", "init", "-q", "--bare", "bare"]).is_err());
    refused(fs::create_dir(guest.join("bare.git")), "bare.git");
}

/// What is judged is what is moved, though another request changes it meanwhile.
#[test]
fn a_name_swapped_while_it_is_moved_gets_nowhere() {
    let Some(mounted) = lend(Access::Rw) else { return };
    let guest = mounted.folder();
    fs::create_dir_all(guest.join("evil/hooks")).unwrap();
    fs::write(guest.join("innocent"), "").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (guest.join("evil"), guest.join("innocent"));
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE);
            }
        });
        let place = guest.join(".git/modules/moved");
        for _ in 0..2000 {
            if fs::rename(guest.join("evil"), &place).is_ok() {
                assert!(fs::symlink_metadata(&place).unwrap().is_file());
                fs::rename(&place, guest.join("evil")).unwrap();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn all_of_it_is_the_guests_where_the_user_says_so() {
    let Some(mounted) = lend(Access::RwAll) else { return };
    let guest = mounted.folder();
    fs::write(guest.join(".git/hooks/pre-commit"), "#!/bin/sh\n").unwrap();
    fs::write(guest.join(".envrc"), "changed").unwrap();
    run(guest, &["git", "config", "user.name", "guest"]).unwrap();
    run(guest, &["git", "init", "-q", "plain/new"]).unwrap();
    fs::rename(guest.join("plain/new/.git"), guest.join("plain/moved")).unwrap();
}
