//! What the maintainer scripts of packages would have done, as far as servers need it.

use std::path::{Path, PathBuf};

use super::DebianError;
use super::tree::{MERGED, Node, Tree};

/// Where the distribution keeps its certificates, and the one file that programs read.
const CERTIFICATES: &str = "usr/share/ca-certificates";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Whom servers run as: the guest's agent looks for user 1000.
const PASSWD: &str = "mcp:x:1000:1000:mcp:/work:/bin/sh\n";
const GROUP: &str = "mcp:x:1000:\n";

/// Files that a package brings under another name, for a script to put in place.
const COPIES: [(&str, &str); 2] = [
    ("etc/nsswitch.conf", "usr/share/base-files/nsswitch.conf"),
    ("etc/profile", "usr/share/base-files/profile"),
];

/// What `update-alternatives` would have chosen.
const ALTERNATIVES: [(&str, &str); 7] = [
    ("usr/bin/awk", "mawk"),
    ("usr/bin/c++", "g++"),
    ("usr/bin/c99", "c99-gcc"),
    ("usr/bin/cc", "gcc"),
    ("usr/bin/nawk", "mawk"),
    ("usr/bin/sh", "dash"),
    ("usr/bin/which", "which.debianutils"),
];

/// Folders and who may use them. As in the image of the demo server, everybody may write in a server's home.
const FOLDERS: [(&str, u32); 9] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/tmp", 0o1777),
    ("work", 0o1777),
];

pub(super) fn finish(tree: &mut Tree) -> Result<(), DebianError> {
    for folder in MERGED {
        tree.add(folder, Node::Symlink(Path::new("usr").join(folder)));
        if !tree.has(&format!("usr/{folder}")) {
            tree.add(&format!("usr/{folder}"), Node::Folder { mode: 0o755 });
        }
    }
    for (folder, mode) in FOLDERS {
        tree.add(folder, Node::Folder { mode });
    }
    add_people(tree)?;
    add_copies(tree)?;
    add_alternatives(tree);
    add_certificates(tree)?;
    add_identity(tree)
}

fn add_people(tree: &mut Tree) -> Result<(), DebianError> {
    for (name, last) in [("passwd", PASSWD), ("group", GROUP)] {
        let master = PathBuf::from(format!("usr/share/base-passwd/{name}.master"));
        let mut text = tree.content(&master)?.ok_or(DebianError::Lacks("the list of users"))?;
        text.extend_from_slice(last.as_bytes());
        tree.add_file(&format!("etc/{name}"), &text)?;
    }
    Ok(())
}

fn add_copies(tree: &mut Tree) -> Result<(), DebianError> {
    for (name, from) in COPIES {
        if let Some(content) = tree.content(Path::new(from))? {
            tree.add_file(name, &content)?;
        }
    }
    Ok(())
}

fn add_alternatives(tree: &mut Tree) {
    for (name, program) in ALTERNATIVES {
        if !tree.has(name) && tree.has(&format!("usr/bin/{program}")) {
            tree.add(name, Node::Symlink(program.into()));
        }
    }
}

/// One file of all certificates; OpenSSL finds it by the name that it was built with, and needs no folder of hashes.
fn add_certificates(tree: &mut Tree) -> Result<(), DebianError> {
    let mut bundle = Vec::new();
    for name in tree.below(CERTIFICATES) {
        let content = tree.content(&name)?.unwrap_or_default();
        bundle.extend_from_slice(content.trim_ascii());
        bundle.push(b'\n');
    }
    if !bundle.is_empty() {
        tree.add_file(BUNDLE, &bundle)?;
        tree.add("usr/lib/ssl/cert.pem", Node::Symlink(format!("/{BUNDLE}").into()));
    }
    Ok(())
}

/// Git asks who commits.
fn add_identity(tree: &mut Tree) -> Result<(), DebianError> {
    if !tree.has("usr/bin/git") {
        return Ok(());
    }
    tree.add_file("etc/gitconfig", b"[user]\n\tname = mcp\n\temail = mcp@localhost\n")
}
