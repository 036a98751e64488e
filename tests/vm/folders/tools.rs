//! Programs that make much of a file system: git and npm.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::protected::git;
use crate::guest::Guest;

#[test]
fn git_works_on_a_repository_of_the_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    git(path, &["init", "--quiet", "--initial-branch=main"]);
    fs::write(path.join("file"), "first\n").unwrap();
    git(path, &["add", "."]);
    git(path, &["commit", "--quiet", "-m", "first"]);
    let guest = Guest::lent(&[(path, "/work:rw")]);
    assert_eq!(guest.ok("cd /work; git status --short"), "");
    guest.ok("cd /work; git checkout -q -b topic; echo second >>file; git commit -qam second");
    guest.ok(
        "cd /work; git checkout -q main; echo other >other; git add other; git commit -qm third",
    );
    guest.ok("cd /work; git merge -q --no-edit topic; git branch -d topic; git tag v1");
    guest.ok("cd /work; echo x >>file; git stash -q; git stash pop -q; git checkout -q file");
    guest.ok("cd /work; git gc --quiet; git fsck; git status --short");
    assert_eq!(git(path, &["status", "--short"]), "");
    git(path, &["fsck", "--strict"]);
    assert_eq!(
        git(path, &["log", "--format=%s", "--no-merges", "--topo-order"]).lines().count(),
        3
    );
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "first\nsecond\n");
    assert_all_owned_by(path, fs::metadata(path).unwrap().uid());
    git(path, &["commit", "--quiet", "--allow-empty", "-m", "of the host"]);
    assert_eq!(guest.ok("cd /work; git log -1 --format=%s"), "of the host");
    guest.stop();
}

/// Ten GiB, of which next to nothing is there.
#[test]
fn python_finds_data_and_holes_in_a_sparse_file_of_the_hosts() {
    const SIZE: u64 = 10 << 30;
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::lent(&[(folder.path(), "/work:rw")]);
    let written = guest.ok("cd /work; python3 -c '
import os
with open(\"sparse\", \"w+b\") as file:
    file.truncate(10 << 30)
    file.seek(9 << 30)
    file.write(b\"far\")
    file.flush()
    data = os.lseek(file.fileno(), 0, os.SEEK_DATA)
    hole = os.lseek(file.fileno(), data, os.SEEK_HOLE)
    file.seek(8 << 30)
    print(data >> 30, (hole - data) <= 1 << 20, file.read(3))
'");
    assert_eq!(written, "9 True b'\\x00\\x00\\x00'");
    let file = folder.path().join("sparse");
    let stat = fs::metadata(&file).unwrap();
    assert_eq!(stat.len(), SIZE);
    assert!(stat.blocks() * 512 <= 1 << 20, "{} blocks", stat.blocks());
    let mut far = [0; 3];
    fs::File::open(&file).unwrap().read_exact_at(&mut far, 9 << 30).unwrap();
    assert_eq!(&far, b"far");
    guest.stop();
}

fn assert_all_owned_by(path: &Path, user: u32) {
    assert_eq!(fs::symlink_metadata(path).unwrap().uid(), user, "{}", path.display());
    if path.is_dir() {
        let inside = fs::read_dir(path).unwrap().flatten();
        inside.for_each(|entry| assert_all_owned_by(&entry.path(), user));
    }
}

/// Two writers of one database: the second waits for the lock of the first, and is told so.
#[test]
fn sqlite_locks_a_database_of_the_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::lent(&[(folder.path(), "/work:rw")]);
    for mode in ["delete", "wal"] {
        let script = format!(
            r#"
import sqlite3, subprocess, sys
def open_it(): return sqlite3.connect("/work/{mode}.db", timeout=0.2, isolation_level=None)
other = """
import sqlite3, sys
base = sqlite3.connect('/work/{mode}.db', timeout=0.2, isolation_level=None)
try: base.execute('insert into t values (2)')
except sqlite3.OperationalError as error: sys.exit(str(error))
"""
def write_elsewhere(): return subprocess.run([sys.executable, "-c", other], capture_output=True, text=True).stderr.strip()
base = open_it()
assert base.execute("pragma journal_mode={mode}").fetchone() == ("{mode}",)
base.execute("create table t (n)")
base.execute("begin immediate")
base.execute("insert into t values (1)")
assert write_elsewhere() == "database is locked", write_elsewhere()
base.execute("commit")
assert write_elsewhere() == ""
print(base.execute("select sum(n) from t").fetchone()[0], base.execute("pragma integrity_check").fetchone()[0])
"#
        );
        fs::write(folder.path().join("try.py"), script).unwrap();
        assert_eq!(guest.ok("/usr/bin/python3 /work/try.py").trim(), "3 ok", "{mode}");
    }
    guest.stop();
}

#[test]
fn npm_installs_a_package_of_the_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("dependency")).unwrap();
    let own = r#"{"name":"own","version":"1.0.0","dependencies":{"dependency":"file:dependency"}}"#;
    fs::write(path.join("package.json"), own).unwrap();
    fs::write(path.join("dependency/package.json"), r#"{"name":"dependency","version":"2.0.0"}"#)
        .unwrap();
    fs::write(path.join("dependency/index.js"), "module.exports = 'of the dependency'").unwrap();
    let guest = Guest::lent(&[(path, "/work:rw")]);
    guest.ok("cd /work; export HOME=/tmp; npm install --offline --no-audit --no-fund");
    let listed = guest.ok("cd /work; export HOME=/tmp; npm ls");
    assert!(listed.contains("dependency@2.0.0"), "{listed}");
    let required = guest.ok("cd /work; node -p 'require(\"dependency\")'");
    assert_eq!(required, "of the dependency");
    assert!(path.join("package-lock.json").exists());
    assert!(path.join("node_modules/dependency/index.js").exists());
    guest.stop();
}
