//! Layers to files, a file a layer. What is there already is not asked for again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use ureq::Body;
use ureq::http::{Method, Response, header};

use super::{Ask, RegistryError, Repository};
use crate::oci::manifest::Blob;

const BUFFER: usize = 64 << 10;
/// After so many bytes an interruption is a new one.
const PROGRESS: u64 = 1 << 20;

impl Repository<'_> {
    /// The whole layer, whose digest is not yet checked.
    pub(super) fn download(&mut self, blob: &Blob) -> Result<File, RegistryError> {
        let path = self.place(blob);
        let keeping = |source| RegistryError::Keep { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(keeping)?;
        let size = blob.expected.as_ref().map_or(0, |(_, size)| *size);
        let (mut failures, mut since) = (0, 0);
        loop {
            let here = file.metadata().map_err(keeping)?.len();
            if here == size {
                break;
            }
            if here >= since + PROGRESS {
                (failures, since) = (0, here);
            }
            match self.go_on(blob, &mut file, here, size) {
                Err(error) if error.may_pass() => self.wait(error, &mut failures)?,
                gone => gone?,
            }
        }
        self.done += size;
        (self.progress)(self.done, self.total);
        file.rewind().map_err(keeping)?;
        Ok(file)
    }

    pub(super) fn place(&self, blob: &Blob) -> PathBuf {
        self.folder.join(blob.name.replace(':', "-"))
    }

    /// Adds to what is here, or begins anew.
    fn go_on(
        &mut self,
        blob: &Blob,
        file: &mut File,
        here: u64,
        size: u64,
    ) -> Result<(), RegistryError> {
        let path = self.place(blob);
        let keeping = |source| RegistryError::Keep { path: path.clone(), source };
        let url = format!("{}/blobs/{}", self.base, blob.name);
        let from = if here < size { here } else { 0 };
        let ask = Ask { url: &url, method: &Method::GET, accept: "*/*", from };
        let answer = self.ask_once(ask)?;
        let from = if continues(&answer, from) { from } else { 0 };
        file.set_len(from).and_then(|()| file.seek(SeekFrom::Start(from))).map_err(keeping)?;
        if answer.status() == 416 {
            return Err(cut(&url)(io::ErrorKind::InvalidData.into()));
        }
        let mut body = answer.into_body().into_reader().take(size - from);
        let (mut buffer, mut at) = (vec![0; BUFFER], from);
        while at < size {
            let count = body.read(&mut buffer).map_err(cut(&url))?;
            if count == 0 {
                return Err(cut(&url)(io::ErrorKind::UnexpectedEof.into()));
            }
            file.write_all(&buffer[..count]).map_err(keeping)?;
            at += count as u64;
            (self.progress)(self.done + at, self.total);
        }
        Ok(())
    }
}

/// Whether these are the bytes from there on.
fn continues(answer: &Response<Body>, from: u64) -> bool {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    answer.status() == 206 && start.and_then(|start| start.parse().ok()) == Some(from)
}

fn cut(url: &str) -> impl Fn(io::Error) -> RegistryError {
    move |source| RegistryError::Cut { url: url.to_owned(), source }
}
