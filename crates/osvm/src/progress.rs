//! A line on a terminal that says what long work is doing. In a pipe there is no such line.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::output;

/// Shown until dropped, then wiped.
pub(crate) struct Progress {
    line: Option<(Sender<String>, JoinHandle<()>)>,
}

const FRAMES: [char; 4] = ['|', '/', '-', '\\'];
const BEAT: Duration = Duration::from_millis(120);

impl Progress {
    pub(crate) fn start(text: impl Into<String>) -> Self {
        if !io::stderr().is_terminal() {
            return Self { line: None };
        }
        let (texts, heard) = channel();
        let text = text.into();
        Self { line: Some((texts, thread::spawn(move || spin(text, &heard)))) }
    }

    pub(crate) fn say(&self, text: impl Into<String>) {
        if let Some((texts, _)) = &self.line {
            // The other end lives as long as this one.
            let _ = texts.send(text.into());
        }
    }

    /// A line that stays.
    pub(crate) fn warn(&self, text: &str) {
        if self.line.is_some() {
            show("");
        }
        output::warning(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((texts, thread)) = self.line.take() {
            drop(texts);
            let _ = thread.join();
        }
    }
}

fn spin(mut text: String, heard: &Receiver<String>) {
    let start = Instant::now();
    for frame in FRAMES.iter().cycle() {
        show(&format!("{frame} {text} ({:.1} s)", start.elapsed().as_secs_f64()));
        match heard.recv_timeout(BEAT) {
            Ok(next) => text = next,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    show("");
}

fn show(line: &str) {
    let _ = io::stderr().write_all(format!("\r\x1b[K{line}").as_bytes());
}
