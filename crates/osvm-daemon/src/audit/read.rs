//! The record as it is looked at: some of its lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use osvm_spec::ServerName;

use super::chain::LONGEST;
use super::{Outcome, Record};

/// Which calls are wanted; all, where nothing is said.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub server: Option<ServerName>,
    pub tool: Option<String>,
    pub outcome: Option<Outcome>,
    /// At most this long ago.
    pub since: Option<Duration>,
    /// The last of them, at most so many.
    pub last: Option<usize>,
}

/// Calls of the record, in its order.
#[derive(Debug, Default)]
pub struct Found {
    pub calls: VecDeque<Record>,
    /// Size of the whole file.
    pub bytes: u64,
}

/// What is wanted of a file; one that is not there is empty. Lines that are no records are passed over: `verify` names
/// them.
pub fn read(path: &Path, wanted: &Wanted, now: SystemTime) -> io::Result<Found> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        opened => opened?,
    };
    let mut found = Found { bytes: file.metadata()?.len(), ..Found::default() };
    let since = wanted.since.and_then(|since| now.checked_sub(since));
    let (mut file, mut line) = (BufReader::new(file), Vec::new());
    loop {
        line.clear();
        if (&mut file).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let Ok(record) = serde_json::from_slice::<Record>(&line) else { continue };
        if wanted.has(&record, since) {
            found.calls.push_back(record);
        }
        if wanted.last.is_some_and(|last| found.calls.len() > last) {
            found.calls.pop_front();
        }
    }
}

impl Wanted {
    fn has(&self, record: &Record, since: Option<SystemTime>) -> bool {
        let is_recent = |since| humantime::parse_rfc3339(&record.time).is_ok_and(|at| at >= since);
        self.server.as_ref().is_none_or(|server| *server == record.server)
            && self.tool.as_ref().is_none_or(|tool| *tool == record.tool)
            && self.outcome.is_none_or(|outcome| outcome == record.outcome)
            && since.is_none_or(is_recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str, server: &str, tool: &str) -> String {
        let outcome = if tool == "y" { "input_required" } else { "ok" };
        format!(
            r#"{{"number":1,"time":"{time}","caller":{{"user":0,"way":"call"}},"server":"{server}","tool":"{tool}","arguments":{{"sha256":"","bytes":0}},"outcome":"{outcome}","ms":1,"previous":""}}"#
        )
    }

    #[test]
    fn what_is_wanted_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let lines = [
            line("2026-01-01T00:00:00.000Z", "a", "x"),
            "no record".to_owned(),
            line("2026-01-01T01:00:00.000Z", "a", "y"),
            line("2026-01-01T02:00:00.000Z", "b", "x"),
        ];
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let now = humantime::parse_rfc3339("2026-01-01T02:30:00Z").unwrap();
        let find = |wanted: &Wanted| {
            let found = read(&path, wanted, now).unwrap().calls;
            found.into_iter().map(|it| format!("{}{}", it.server, it.tool)).collect::<Vec<_>>()
        };
        let all = Wanted::default();
        assert_eq!(find(&all), ["ax", "ay", "bx"]);
        assert_eq!(find(&Wanted { last: Some(2), ..all.clone() }), ["ay", "bx"]);
        assert_eq!(
            find(&Wanted { server: Some("a".parse().unwrap()), ..all.clone() }),
            ["ax", "ay"]
        );
        assert_eq!(find(&Wanted { tool: Some("x".into()), ..all.clone() }), ["ax", "bx"]);
        let outcome = Some(Outcome::InputRequired);
        assert_eq!(find(&Wanted { outcome, ..all.clone() }), ["ay"]);
        let since = Some(Duration::from_secs(90 * 60));
        assert_eq!(find(&Wanted { since, ..all.clone() }), ["ay", "bx"]);
        assert!(read(&folder.path().join("none"), &all, now).unwrap().calls.is_empty());
    }
}
