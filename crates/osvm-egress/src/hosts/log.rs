//! A VM's egress log: a line for each decision.
//!
//! ```text
//! TIME opened HOST:PORT WHERE
//! TIME allowed HOST:PORT WHERE sent BYTES received BYTES in SECONDS s[; REASON]
//! TIME refused HOST:PORT[ in the guest]: REASON
//! TIME failed HOST:PORT: REASON
//! TIME tried PATH: read|written|named, COUNT parts exist
//! ```
//!
//! WHERE is an address, or `via HOST:PORT` of a proxy. An allowed connection has a line when it is made, and one when it
//! has ended, with the reason where that was not its two programs' wish. Paths are told by a guest that is recorded.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use osvm_wire::grant::TriedPath;

use super::meter::Meter;
use super::policy::Target;

/// A log that has grown this long gets one more line, and no other.
const LIMIT: u64 = 4 * 1024 * 1024;

const LAST: &str = "the log has reached 4 MiB and ends here; connections go on\n";

/// Longest part of a guest's own words in a line.
const LONGEST: usize = 300;

/// An open log, which others may append to as well.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
}

/// Which file a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LogId(u64, u64);

/// Whose line it is.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    Target(Target),
    /// What is no host and port, as the guest wrote it.
    Words {
        host: String,
        port: Option<u16>,
    },
    /// The guest said nothing that can be understood.
    Nothing,
}

/// A connection that was made. Its last line is written when this is dropped, and so also for one that was cut off.
#[derive(Debug)]
pub(crate) struct Account {
    /// Gone once there is nothing to be said.
    log: Option<Arc<Log>>,
    target: Target,
    place: String,
    meter: Arc<Meter>,
    reason: Option<String>,
}

impl Log {
    /// `file` is open for appending.
    pub(crate) fn new(file: OwnedFd) -> Self {
        Self { file: file.into() }
    }

    /// The same for every descriptor of the same log.
    pub(crate) fn id(&self) -> io::Result<LogId> {
        let found = self.file.metadata()?;
        Ok(LogId(found.dev(), found.ino()))
    }

    pub(crate) fn refused(&self, subject: &Subject, why: &dyn fmt::Display) {
        self.write(&format!("refused {subject}: {why}"));
    }

    /// By the agent, which had no use for the host's answer.
    pub(crate) fn refused_in_guest(&self, subject: &Subject, why: &dyn fmt::Display) {
        self.write(&format!("refused {subject} in the guest: {why}"));
    }

    pub(crate) fn failed(&self, subject: &Subject, why: &dyn fmt::Display) {
        self.write(&format!("failed {subject}: {why}"));
    }

    /// A path that is longer than a line may be is left out: half of it would be another one.
    pub(crate) fn tried(&self, tried: &TriedPath) {
        let TriedPath { path, found, written, named } = tried;
        if path.escape_default().nth(LONGEST).is_some() {
            return;
        }
        let how = match (named, written) {
            (_, true) => "written",
            (true, false) => "named",
            (false, false) => "read",
        };
        self.write(&format!("tried {}: {how}, {found} parts exist", Escaped(path)));
    }

    fn write(&self, words: &str) {
        if let Err(error) = self.append(SystemTime::now(), words) {
            tracing::warn!(%error, "a line of an egress log is lost");
        }
    }

    /// Each line by one write, so that writers do not mix theirs. The size alone tells whether the log has
    /// ended, whoever wrote it.
    fn append(&self, now: SystemTime, words: &str) -> io::Result<()> {
        let time = humantime::format_rfc3339_seconds(now);
        let mut text = format!("{time} {words}\n");
        let size = self.file.metadata()?.len();
        if size >= LIMIT {
            return Ok(());
        }
        if size + text.len() as u64 >= LIMIT {
            text += &format!("{time} {LAST}");
        }
        (&self.file).write_all(text.as_bytes())
    }
}

impl Account {
    pub(crate) fn open(log: Arc<Log>, target: Target, place: String, meter: Arc<Meter>) -> Self {
        log.write(&format!("opened {target} {place}"));
        Self { log: Some(log), target, place, meter, reason: None }
    }

    /// Why the connection ends, where its programs did not end it.
    pub(crate) fn close(mut self, reason: Option<String>) {
        self.reason = reason;
    }

    /// Of what was refused after all. Without a byte sent there was no connection to speak of.
    pub(crate) fn refuse(mut self, why: &dyn fmt::Display) {
        if let Some(log) = &self.log {
            log.refused(&Subject::Target(self.target.clone()), why);
        }
        if self.meter.sent() == 0 {
            self.log = None;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.write(&self.to_string());
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, place, meter, .. } = self;
        let (sent, received) = (meter.sent(), meter.received());
        let seconds = meter.age().as_secs_f64();
        write!(f, "allowed {target} {place} sent {sent} received {received} in {seconds:.1} s")?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, "; {reason}"))
    }
}

impl Subject {
    pub(crate) fn new(host: &str, port: Option<u16>) -> Self {
        let known = port.and_then(|port| Target::new(host, port).ok());
        known.map_or_else(|| Self::Words { host: host.to_owned(), port }, Self::Target)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => target.fmt(f),
            Self::Words { host, port } => {
                write!(f, "{}", Escaped(host))?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Nothing => f.write_str("-"),
        }
    }
}

/// Words of somebody who is not trusted, without anything that a terminal or a reader of lines takes for more,
/// and not many of them.
pub(crate) struct Escaped<'t>(pub(crate) &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        if !self.0.is_empty() && self.0.len() <= LONGEST && self.0.chars().all(is_plain) {
            return f.write_str(self.0);
        }
        let shown: String = self.0.escape_default().take(LONGEST).collect();
        write!(f, "\"{shown}\"")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn log(folder: &tempfile::TempDir) -> (std::path::PathBuf, Log) {
        let path = folder.path().join("egress.log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        (path, Log::new(file.into()))
    }

    #[test]
    fn a_line_begins_with_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = log(&folder);
        let now = UNIX_EPOCH + Duration::from_secs(1_795_694_400);
        log.append(now, "refused evil.com:443: no rule allows it").unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text, "2026-11-26T12:00:00Z refused evil.com:443: no rule allows it\n");
    }

    #[test]
    fn a_connection_has_a_line_when_it_is_made_and_one_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = log(&folder);
        let target = Target::new("api.example.com", 443).unwrap();
        let open = || {
            Account::open(
                Arc::new(Log::new(log.file.try_clone().unwrap().into())),
                target.clone(),
                "203.0.113.7".into(),
                Meter::start(),
            )
        };
        let opened = "opened api.example.com:443 203.0.113.7";
        let first = open();
        assert_eq!(fs::read_to_string(&path).unwrap()[21..], format!("{opened}\n"));
        drop(first);
        open().close(Some("no byte for 600 s".into()));
        let text = fs::read_to_string(path).unwrap();
        let ends: Vec<_> = text.lines().map(|line| &line[21..]).collect();
        assert_eq!(
            ends,
            [
                opened,
                "allowed api.example.com:443 203.0.113.7 sent 0 received 0 in 0.0 s",
                opened,
                "allowed api.example.com:443 203.0.113.7 sent 0 received 0 in 0.0 s; no byte for 600 s",
            ]
        );
    }

    #[test]
    fn a_path_is_told_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = log(&folder);
        let tried =
            |path: &str| TriedPath { path: path.to_owned(), found: 1, written: true, named: false };
        log.tried(&tried("/home/me/a b"));
        log.tried(&tried(&format!("/{}", "ü".repeat(100))));
        let text = fs::read_to_string(path).unwrap();
        let ends: Vec<_> = text.lines().map(|line| &line[21..]).collect();
        assert_eq!(ends, ["tried \"/home/me/a b\": written, 1 parts exist"]);
    }

    #[test]
    fn a_full_log_says_so_once_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = log(&folder);
        log.file.set_len(LIMIT - 100).unwrap();
        for _ in 0..8 {
            log.refused(&Subject::new("evil.com", Some(443)), &"no rule allows it");
        }
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with(LAST) && text.matches(LAST).count() == 1);
        assert_eq!(text.matches("refused").count(), 2);
    }

    #[test]
    fn a_guests_words_make_no_lines_of_their_own() {
        for (host, port, shown) in [
            ("evil.com", Some(443), "evil.com:443"),
            ("EVIL.com.", Some(443), "evil.com:443"),
            ("evil.com", None, "evil.com"),
            ("", None, "\"\""),
            ("a b", Some(1), "\"a b\":1"),
            (
                "a\n2026-11-26T12:00:00Z allowed",
                Some(80),
                "\"a\\n2026-11-26T12:00:00Z allowed\":80",
            ),
            ("\u{1b}[2J\u{202e}", Some(80), "\"\\u{1b}[2J\\u{202e}\":80"),
        ] {
            assert_eq!(Subject::new(host, port).to_string(), shown);
        }
        let long = "a ".repeat(10_000);
        assert!(Subject::new(&long, Some(80)).to_string().len() < 2 * LONGEST);
    }
}
