//! A server as a layer of an image, for everybody to read: a program is root's, as all programs are, and a project the
//! server's.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tar::Builder;
use walkdir::DirEntry;

use super::{Kind, LocalError, PROJECT, Server, python};
use crate::entry::{self, Owner};
use crate::mcpb::append_python;

/// The history of a project is no part of its server.
const LEFT_OUT: &str = ".git";

impl Server {
    pub fn write_layer(&self, out: &mut impl Write) -> Result<(), LocalError> {
        let mut archive = Builder::new(out);
        archive.sparse(false);
        match self.is_project {
            true => {
                let wanted = |entry: &DirEntry| self.has(entry);
                entry::append_folder(&mut archive, &self.path, PROJECT, wanted)
                    .map_err(|error| failed(error.path)(error.source))?;
            }
            false => {
                let target = Path::new(self.command[0].trim_start_matches('/'));
                let program = (Owner::Root, Some(0o755));
                let written = entry::append_file(&mut archive, &self.path, target, program);
                written.map_err(failed(self.path.clone()))?;
            }
        }
        let python = if self.kind == Kind::Python { append_python(&mut archive) } else { Ok(()) };
        let ended = python.and_then(|()| archive.into_inner()?.flush());
        ended.map_err(failed(self.path.clone()))
    }

    fn has(&self, entry: &DirEntry) -> bool {
        let is_history = entry.depth() == 1 && entry.file_name() == LEFT_OUT;
        let is_made = entry.depth() > 0 && self.kind != Kind::Node && python::is_made(entry.path());
        !is_history && !is_made
    }
}

fn failed(path: PathBuf) -> impl FnOnce(io::Error) -> LocalError {
    |source| LocalError::Read { path, source }
}
