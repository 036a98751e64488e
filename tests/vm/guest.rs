//! A VM with a shell, Python, git and Node in it, and with folders of the host's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::osvm::{Ended, Osvm};
use crate::rootfs::{MY_SERVER, fixture};

pub(crate) struct Guest {
    pub(crate) osvm: Osvm,
}

impl Guest {
    /// Each folder with where it is to be seen, and what may be done with it: `/work:rw`.
    pub(crate) fn lent(folders: &[(&Path, &str)]) -> Self {
        Self::with_server(MY_SERVER, folders)
    }

    pub(crate) fn with_server(script: &str, folders: &[(&Path, &str)]) -> Self {
        let root = fixture("tools");
        let guest = Self { osvm: Osvm::stocked(&root) };
        let mounts: Vec<_> =
            folders.iter().map(|(host, rest)| format!("{}:{rest}", host.display())).collect();
        let mut add = vec!["mcp", "add", "guest", "--image", root.to_str().unwrap()];
        add.extend(["--memory", "512"]);
        add.extend(mounts.iter().flat_map(|mount| ["--mount", mount]));
        add.extend(["--", "/bin/sh", "-c", script]);
        guest.osvm.ok(&add);
        guest.osvm.ok(&["mcp", "microvm", "launch", "guest"]);
        guest
    }

    /// What a shell in the guest did, as the server's user.
    pub(crate) fn sh(&self, script: &str) -> Ended {
        self.osvm.run(&["mcp", "microvm", "exec", "guest", "--", "/bin/sh", "-ec", script])
    }

    pub(crate) fn root_sh(&self, script: &str) -> Ended {
        let root = ["mcp", "microvm", "exec", "--user", "root", "guest"];
        self.osvm.run(&[&root[..], &["--", "/bin/sh", "-ec", script]].concat())
    }

    #[track_caller]
    pub(crate) fn ok(&self, script: &str) -> String {
        let ended = self.sh(script);
        assert_eq!(ended.code, Some(0), "{script}: {ended:#?}");
        ended.stdout.trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn stop(self) {
        self.osvm.ok(&["mcp", "microvm", "stop", "guest"]);
        self.osvm.assert_nothing_left();
    }
}

/// Something that must not work, by name.
pub(crate) type Attempt = (&'static str, &'static str);

/// Each attempt is refused, with one of these reasons.
#[track_caller]
pub(crate) fn refused(reasons: &[&str], attempts: &[Attempt], run: impl Fn(&str) -> Ended) {
    for (name, script) in attempts {
        let ended = run(&format!("cd /work; {script}"));
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_ne!(ended.code, Some(0), "{name} worked: {ended:#?}");
        assert!(reasons.iter().any(|reason| said.contains(reason)), "{name}: {ended:#?}");
    }
}

/// Everything in a folder as the host sees it: name, mode, owner, times and content.
pub(crate) fn picture(folder: &Path) -> Vec<String> {
    let (mut seen, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let content = match about.file_type() {
            kind if kind.is_dir() => {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            _ => format!("{:?}", fs::read(&path).unwrap()),
        };
        let (mode, times) = (about.permissions().mode(), (about.mtime_nsec(), about.ctime_nsec()));
        seen.push(format!("{path:?} {mode:o} {} {times:?} {content}", about.uid()));
    }
    seen.sort();
    seen
}
