//! Small root file systems with a shell, in which a server is whatever a test needs it to be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use std::process::Command;

use tempfile::TempDir;

/// A folder with busybox; dropped with the test.
pub(crate) struct Rootfs(TempDir);

impl Rootfs {
    /// `/bin/sh` and friends, and `/bin/server` with the given shell script.
    pub(crate) fn with_server(script: &str) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "etc", "tmp", "work"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", root.path().join("bin/busybox"))
            .expect("busybox-static is installed");
        for name in
            ["sh", "cat", "echo", "sleep", "yes", "head", "id", "ls", "true", "env", "dd", "sed"]
        {
            symlink("busybox", root.path().join("bin").join(name)).unwrap();
        }
        root.script("bin/server", script);
        root
    }

    /// The same with the host's `curl`.
    pub(crate) fn with_curl() -> Self {
        let root = Self::with_server(MY_SERVER);
        let script = r#"cp "$0" "$1/bin/"; ldd "$0" | grep -oE '/[^ ]+' | while read -r library; do
                            install -D "$library" "$1$library"; done"#;
        let copied =
            Command::new("sh").args(["-ec", script, "/usr/bin/curl"]).arg(root.path()).output();
        assert!(copied.as_ref().unwrap().status.success(), "{copied:?}");
        root
    }

    pub(crate) fn script(&self, path: &str, text: &str) {
        let file = self.path().join(path);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn text(&self) -> &str {
        self.path().to_str().unwrap()
    }
}

/// A server in shell that answers MCP line by line and has one tool, `my-tool`, which returns its
/// arguments.
pub(crate) const MY_SERVER: &str = r#"
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"my-server","version":"1"}}}' ;;
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[{"name":"my-tool","inputSchema":{"type":"object"}}]}}' ;;
    *'"tools/call"'*) arguments=${line#*\"arguments\":}; arguments=${arguments%\}\}}
        text=$(printf %s "$arguments" | sed 's/"/\\"/g')
        echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"content":[{"type":"text","text":"'"$text"'"}]}}' ;;
    esac
done
"#;

/// A root file system that the fixture script has built.
pub(crate) fn fixture(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache"))).unwrap();
    let folder = cache.join("osvm/fixtures").join(name).join("root");
    assert!(folder.is_dir(), "{} is missing: run scripts/fixtures", folder.display());
    folder
}
