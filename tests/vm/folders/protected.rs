//! What makes the host run code stays as it is, unless the user lends that, too.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::guest::{Attempt, Guest, picture, refused};

/// Files that the host's programs run, or by which they are told what to run.
const TELLING: [&str; 5] =
    [".git/hooks/pre-commit", ".git/config", ".vscode/tasks.json", ".idea/workspace.xml", ".envrc"];

fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet"]);
    for name in [".git/hooks", ".vscode", ".idea", "sub"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    for name in TELLING.iter().filter(|name| **name != ".git/config") {
        fs::write(folder.path().join(name), "the host's").unwrap();
    }
    folder
}

pub(super) fn git(folder: &Path, args: &[&str]) -> String {
    let owned = ["-c", "user.name=host", "-c", "user.email=host@localhost"];
    let output = Command::new("git").current_dir(folder).args(owned).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const ATTEMPTS: &[Attempt] = &[
    ("make a hook", "echo x >.git/hooks/post-checkout"),
    ("write into a hook", "echo x >>.git/hooks/pre-commit"),
    ("make a hook run", "chmod +x .git/hooks/pre-commit"),
    ("remove a hook", "rm -f .git/hooks/pre-commit"),
    ("move a hook in", "echo x >hook; mv hook .git/hooks/post-merge"),
    ("replace the hooks", "mkdir -p hooks; mv .git/hooks old"),
    ("write into the configuration", "echo x >>.git/config"),
    ("let git write into it", "git config core.fsmonitor ./evil"),
    ("replace the configuration", "echo x >config; mv config .git/config"),
    ("link the configuration", "ln .git/config second"),
    ("truncate the configuration", "truncate -s 0 .git/config"),
    ("write by a link", "ln -sf .git/config link; echo x >>link"),
    ("write in another case", "echo x >.GIT"),
    ("move the repository", "mv .git other"),
    ("make a repository", "mkdir sub/.git"),
    ("move a repository in", "mkdir -p sub/prepared; mv sub/prepared sub/.git"),
    ("lead git elsewhere", "echo 'gitdir: /tmp' >sub/.git"),
    ("share another configuration", "echo /tmp >.git/commondir"),
    ("make a task", "echo x >.vscode/new.json"),
    ("change a task", "echo x >.vscode/tasks.json"),
    ("make tasks below", "mkdir sub/.vscode"),
    ("move tasks", "mv .vscode sub/other"),
    ("change a workspace", "echo x >>.idea/workspace.xml"),
    ("change the environment", "echo x >>.envrc"),
    ("make an environment below", "echo x >sub/.envrc"),
    ("remove the environment", "rm -f .envrc"),
];

fn telling(folder: &Path) -> Vec<String> {
    let seen = [".git/hooks", ".git/config", ".vscode", ".idea", ".envrc"];
    seen.iter().flat_map(|name| picture(&folder.join(name))).collect()
}

#[test]
fn what_the_host_runs_is_read_only_where_the_rest_is_lent_for_writing() {
    let folder = project();
    let before = telling(folder.path());
    let guest = Guest::lent(&[(folder.path(), "/work:rw")]);
    let reason = ["Read-only file system", "could not lock config file", "could not write config"];
    refused(&reason, ATTEMPTS, |script| guest.sh(script));
    refused(&reason, ATTEMPTS, |script| {
        guest.root_sh(&format!("git config --global safe.directory /work; {script}"))
    });
    assert_eq!(guest.ok("cat /work/.envrc"), "the host's");
    assert_eq!(telling(folder.path()), before);
    let below = ["sub/.git", "sub/.vscode", "sub/.envrc", ".git/commondir", ".GIT"];
    assert!(!below.iter().any(|name| folder.path().join(name).exists()));
    guest.stop();
}

#[test]
fn all_of_it_is_written_where_the_user_says_so() {
    let folder = project();
    let guest = Guest::lent(&[(folder.path(), "/work:rw-all")]);
    guest.ok("cd /work; git config core.editor vi; mkdir sub/.vscode; git init -q sub/new");
    for name in TELLING {
        guest.ok(&format!("echo '# of the guest' >>/work/{name}"));
        let content = fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(content.ends_with("# of the guest\n"), "{name}: {content}");
    }
    assert_eq!(git(folder.path(), &["config", "core.editor"]).trim(), "vi");
    assert!(folder.path().join("sub/new/.git/config").exists());
    guest.stop();
}
