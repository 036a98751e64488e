//! The default base image: the archive that the demo server lives in.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::CONFIG_FILE;
use crate::cpio::Writer;
use crate::files;

/// A file that goes into the base image.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Absolute path in the guest.
    pub path: &'a str,
    pub mode: u32,
    pub bytes: &'a [u8],
}

/// Why the base image could not be written.
#[derive(Debug, Error)]
pub enum BaseError {
    #[error("write base image {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

const FOLDERS: [(&str, u32); 9] = [
    ("/bin", 0o755),
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/proc", 0o755),
    ("/sys", 0o755),
    ("/tmp", 0o1777),
    ("/usr", 0o755),
    ("/usr/bin", 0o755),
    ("/work", 0o1777),
];

const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nmcp:x:1000:1000:mcp:/work:/bin/sh\n";
const GROUP: &str = "root:x:0:\nmcp:x:1000:\n";

/// Writes `mcp-server.cpio`: the given files, `/tmp`, `/work`, and the users root and `mcp` (1000).
/// The first file is the image's command. Does nothing when `out` already holds exactly that.
pub fn write(out: &Path, given: &[File<'_>]) -> Result<(), BaseError> {
    let failed = |source| BaseError::Write { path: out.to_owned(), source };
    let archive = archive(given).map_err(failed)?;
    if files::holds(out, &archive) {
        return Ok(());
    }
    files::write_whole(out, |file| file.write_all(&archive)).map_err(failed)
}

fn archive(given: &[File<'_>]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    for (path, mode) in FOLDERS {
        writer.folder(path, mode)?;
    }
    writer.file("/etc/passwd", 0o644, PASSWD.as_bytes())?;
    writer.file("/etc/group", 0o644, GROUP.as_bytes())?;
    let entrypoint: Vec<_> = given.first().map(|file| file.path).into_iter().collect();
    let config = serde_json::json!({ "Entrypoint": entrypoint }).to_string();
    writer.file(CONFIG_FILE, 0o644, config.as_bytes())?;
    let mut made: HashSet<_> = FOLDERS.iter().map(|(path, _)| Path::new(path)).collect();
    for file in given {
        let above: Vec<_> = Path::new(file.path).ancestors().skip(1).collect();
        // The kernel makes no folder of its own accord, and the root is always there.
        for folder in above.iter().rev().filter(|folder| folder.parent().is_some()) {
            if made.insert(folder) {
                writer.folder(&folder.to_string_lossy(), 0o755)?;
            }
        }
        writer.file(file.path, file.mode, file.bytes)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::Reader;

    #[test]
    fn every_file_finds_its_folder_before_it() {
        let given = [
            File { path: "/opt/tools/bin/a", mode: 0o755, bytes: b"a" },
            File { path: "/opt/tools/b", mode: 0o644, bytes: b"b" },
            File { path: "/usr/bin/c", mode: 0o755, bytes: b"c" },
        ];
        let archive = archive(&given).unwrap();
        let mut reader = Reader::new(archive.as_slice());
        let mut seen = HashSet::from([String::new()]);
        while let Some(entry) = reader.next().unwrap() {
            reader.skip(&entry).unwrap();
            let folder = entry.name.rsplit_once('/').map_or("", |(folder, _)| folder);
            assert!(seen.contains(folder), "{} before its folder", entry.name);
            assert!(seen.insert(entry.name.clone()), "{} twice", entry.name);
        }
        assert!(seen.contains("opt/tools/bin/a") && seen.contains(CONFIG_FILE));
    }
}
