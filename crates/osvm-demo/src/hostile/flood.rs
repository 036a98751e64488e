//! Writes more than anybody wants to read, to everything that leads to the host.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{later, testify};

const KIB: u64 = 1 << 10;

/// What is written at a time.
const CHUNK: usize = 64 << 10;

/// The same to a console, which may be a serial port whose every byte takes the VMM's time.
const CONSOLE_CHUNK: usize = 1 << 10;

/// How deep JSON is nested: deeper than any stack.
const DEPTH: usize = 500_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flood {
    to: String,
    kind: String,
    kib: u64,
    /// Ends it sooner.
    seconds: Option<u64>,
}

/// How much was taken and what ended it. What floods standard output has no answer after it: it says so on
/// the console.
pub(super) fn flood(flood: Flood) -> Value {
    if flood.to != "stdout" {
        return flood.run();
    }
    later(move || testify(&flood.run()));
    json!({ "begins": "after this answer" })
}

impl Flood {
    fn run(&self) -> Value {
        let mut written = 0;
        let poured = self.open().and_then(|mut sink| self.pour(&mut sink, &mut written));
        let error = poured.err().map(|error| error.to_string());
        json!({ "flood": self.to, "kind": self.kind, "bytes": written, "error": error })
    }

    fn open(&self) -> io::Result<File> {
        let own = |stream: io::Result<std::os::fd::OwnedFd>| stream.map(File::from);
        match self.to.as_str() {
            "stdout" => own(io::stdout().as_fd().try_clone_to_owned()),
            "stderr" => own(io::stderr().as_fd().try_clone_to_owned()),
            "console" => fs::OpenOptions::new().write(true).open("/dev/console"),
            "kmsg" => {
                // The kernel's own brake on this device; a root may take it off.
                let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on");
                fs::OpenOptions::new().write(true).open("/dev/kmsg")
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "nowhere to write to")),
        }
    }

    fn pour(&self, sink: &mut impl Write, written: &mut u64) -> io::Result<()> {
        let pattern = pattern(&self.kind)?;
        let repeated = match self.to.as_str() {
            // A line at a time.
            "kmsg" => 1,
            "console" => CONSOLE_CHUNK.div_ceil(pattern.len()),
            _ => CHUNK.div_ceil(pattern.len()),
        };
        let chunk = pattern.repeat(repeated);
        let (start, within) = (Instant::now(), self.seconds.map(Duration::from_secs));
        let is_time = || within.is_none_or(|within| start.elapsed() < within);
        while *written < self.kib * KIB && is_time() {
            write_whole(sink, &chunk)?;
            *written += chunk.len() as u64;
        }
        Ok(())
    }
}

fn pattern(kind: &str) -> io::Result<Vec<u8>> {
    let line = |text: &str| Ok(format!("{text}\n").into_bytes());
    match kind {
        "lines" => line("a line that nobody wants to read"),
        // Of the highest level, so that the console shows it.
        "alarms" => line("<0>a line that nobody wants to read"),
        "one line" => Ok(vec![b'x']),
        "zeros" => Ok(vec![0]),
        "no text" => Ok(b"\xff\xfe\x80\xc0\xaf\n".to_vec()),
        "depth" => Ok([vec![b'['; DEPTH], vec![b']'; DEPTH], vec![b'\n']].concat()),
        "messages" => line(
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":0}}"#,
        ),
        "questions" => line(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        "answers" => line(r#"{"jsonrpc":"2.0","id":4000000000,"result":{"content":[]}}"#),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "nothing to write")),
    }
}

/// Also to a pipe that somebody has made non-blocking.
fn write_whole(sink: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_as_large_as_asked_or_ends_when_its_time_is_over() {
        let flood = |seconds| {
            let (to, kind) = ("stderr".to_owned(), "messages".to_owned());
            Flood { to, kind, kib: 2048, seconds }
        };
        let (mut sink, mut written) = (Vec::new(), 0);
        flood(Some(0)).pour(&mut sink, &mut written).unwrap();
        assert_eq!((written, sink.len()), (0, 0));
        let flood = flood(None);
        flood.pour(&mut sink, &mut written).unwrap();
        assert!(written >= 2048 * KIB && sink.len() as u64 == written);
        let lines = String::from_utf8(sink).unwrap();
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let (to, kind) = ("heaven".to_owned(), "zeros".to_owned());
        let nowhere = Flood { to, kind, kib: 1, seconds: None }.run();
        assert_eq!(
            (&nowhere["bytes"], &nowhere["error"]),
            (&json!(0), &json!("nowhere to write to"))
        );
    }
}
