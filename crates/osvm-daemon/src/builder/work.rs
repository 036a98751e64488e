//! One script in a VM of its own: a request goes in, a layer or another archive comes out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

use osvm_image::builder::{WARNING, complaint};
use osvm_image::store::Hold;
use osvm_spec::{Digest, Hosts};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{News, Say};
use crate::api::{ApiError, ErrorKind, WorkRequest};
use crate::client::{Client, Upgraded};
use crate::stream::{ExecExit, ExecFrame, MAX_PAYLOAD};

pub(super) struct Work {
    pub(super) image: Digest,
    /// A script and what runs it. Its last words say why it failed.
    pub(super) argv: Vec<String>,
    pub(super) hosts: Hosts,
}

/// Files of a build lie in the VM's memory, half of which they may take.
const MEMORY_MB: u64 = 3072;
const VCPUS: u64 = 2;
/// Compilers under emulation are slow.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// Most that may come out.
const MAX_LAYER: u64 = 8 << 30;

impl Work {
    /// Of Python's: a request is its input, a layer its output.
    pub(super) fn python(image: Digest, script: &str, hosts: Hosts) -> Self {
        let argv = ["python3", "-c", script].map(str::to_owned).to_vec();
        Self { image, argv, hosts }
    }

    /// Fills the layer that is held.
    pub(super) async fn run(
        self,
        client: &Client,
        request: &impl Serialize,
        hold: &Hold,
        say: &Say,
    ) -> Result<(), ApiError> {
        let input = serde_json::to_vec(request).expect("a request is plain data");
        let mut draft = hold.draft().map_err(|error| ApiError::failed(&error))?;
        self.fill(client, &input, draft.file(), say).await?;
        draft.finish().map_err(|error| ApiError::failed(&error))
    }

    /// Writes its output into a file. Half of it may be there when it fails.
    pub(super) async fn fill(
        self,
        client: &Client,
        input: &[u8],
        output: &mut File,
        say: &Say,
    ) -> Result<(), ApiError> {
        let (memory_mb, vcpus) = (MEMORY_MB, VCPUS);
        let Self { image, argv, hosts } = self;
        let work = WorkRequest { image, argv, memory_mb, vcpus, hosts };
        let stream = client.work(&work).await?;
        let mut words = Words::new(say);
        let ended = timeout(LIMIT, converse(stream, input, output, &mut words)).await;
        let exit = ended.map_err(|_| took_too_long())??;
        match exit.code {
            Some(0) => Ok(()),
            _ => Err(words.last(&exit)),
        }
    }
}

async fn converse(
    stream: Upgraded,
    input: &[u8],
    output: &mut File,
    words: &mut Words<'_>,
) -> Result<ExecExit, ApiError> {
    let (from_guest, to_guest) = tokio::io::split(stream);
    let (_, exit) = tokio::join!(send(to_guest, input), receive(from_guest, output, words));
    exit
}

/// Who does not read it all has ended, and says why.
async fn send(mut to_guest: impl AsyncWrite + Unpin, input: &[u8]) {
    let end: &[u8] = &[];
    for piece in input.chunks(MAX_PAYLOAD).chain([end]) {
        if ExecFrame::Stdin(piece.to_vec()).write(&mut to_guest).await.is_err() {
            return;
        }
    }
}

async fn receive(
    mut from_guest: impl AsyncRead + Unpin,
    output: &mut File,
    words: &mut Words<'_>,
) -> Result<ExecExit, ApiError> {
    let mut size = 0;
    loop {
        match ExecFrame::read(&mut from_guest).await {
            Ok(Some(ExecFrame::Stdout(bytes))) => {
                size += bytes.len() as u64;
                if size > MAX_LAYER {
                    let message = format!("what was installed has over {} GiB", MAX_LAYER >> 30);
                    return Err(ApiError::new(ErrorKind::Failed, message));
                }
                output.write_all(&bytes).map_err(|error| ApiError::failed(&error))?;
            }
            Ok(Some(ExecFrame::Stderr(bytes))) => words.hear(&bytes),
            Ok(Some(ExecFrame::Exit(exit))) => return Ok(exit),
            Ok(Some(ExecFrame::Stdin(_)) | None) => return Err(lost("it ended early")),
            Err(error) => return Err(lost(&error.to_string())),
        }
    }
}

/// What a script says of its work, line by line.
struct Words<'a> {
    say: &'a Say,
    line: Vec<u8>,
    /// The newest last.
    lines: VecDeque<String>,
}

impl<'a> Words<'a> {
    /// Lines that are kept, and the bytes of each.
    const KEPT: usize = 20;
    const LONGEST: usize = 500;

    fn new(say: &'a Say) -> Self {
        Self { say, line: Vec::new(), lines: VecDeque::new() }
    }

    fn hear(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                byte if self.line.len() < Self::LONGEST => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim().to_owned();
        if line.is_empty() {
            return;
        }
        (self.say)(match line.strip_prefix(WARNING) {
            Some(warning) => News::Warning(warning),
            None => News::Step(&line),
        });
        if self.lines.len() == Self::KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Why the script ended as it did.
    fn last(mut self, exit: &ExecExit) -> ApiError {
        self.end_line();
        if exit.oom_killed {
            return ApiError::new(ErrorKind::Failed, "the build needed more memory than it has");
        }
        let reason = self.lines.iter().rev().find_map(|line| complaint(line));
        let message = match reason.or(self.lines.back().map(String::as_str)) {
            Some(reason) => format!("failed to {reason}"),
            None => "the build ended without a word".to_owned(),
        };
        ApiError::new(ErrorKind::Failed, message)
    }
}

fn took_too_long() -> ApiError {
    let minutes = LIMIT.as_secs() / 60;
    ApiError::new(ErrorKind::TimedOut, format!("the build took over {minutes} minutes"))
}

fn lost(why: &str) -> ApiError {
    let message = format!("the build's VM was lost: {why}");
    ApiError::new(ErrorKind::Unavailable, message).hint("osvm mcp microvm status")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_last_reason_is_what_went_wrong() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let say: Say = Arc::new(move |news| {
            let News::Step(line) = news else { panic!("{news:?}") };
            kept.lock().unwrap().push(line.to_owned());
        });
        let mut words = Words::new(&say);
        words.hear(b"fetching a\nfetch");
        words.hear(b"ing b\n\nerror: install a: no such version\nbye");
        let exit = ExecExit { code: Some(1), signal: None, oom_killed: false };
        assert_eq!(words.last(&exit).message, "failed to install a: no such version");
        let heard = heard.lock().unwrap();
        assert_eq!(heard[..2], ["fetching a", "fetching b"]);
        assert_eq!(heard.len(), 4);
    }

    #[test]
    fn endless_words_are_cut() {
        let say: Say = Arc::new(|_| {});
        let mut words = Words::new(&say);
        (0..100).for_each(|_| words.hear(&[b'x'; 1000]));
        (0..100).for_each(|_| words.hear(b"\ny"));
        assert_eq!(words.lines.len(), Words::KEPT);
        let exit = ExecExit { code: None, signal: Some(9), oom_killed: true };
        assert!(words.last(&exit).message.contains("memory"));
    }
}
