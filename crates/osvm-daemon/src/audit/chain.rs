//! Whether each line follows from the one before it, and if not, which one was changed, removed or inserted.
//!
//! The digests have no key: whoever may write the file can compute all of them anew from some line on. That, and lines
//! that were cut off at the end, show only against a last digest that was kept elsewhere.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, Read};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::BEGINNING;

/// Longest line that is one; the daemon's have two bodies at most.
pub(super) const LONGEST: u64 = 4 << 20;

/// What a whole file proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub lines: u64,
    /// Digest of the last line, to be kept elsewhere.
    pub last: String,
    /// Places, in the order of the file, where a line does not follow from the one before.
    pub faults: Vec<Fault>,
}

/// What is wrong, by lines of the file, which count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    Changed {
        line: u64,
    },
    Inserted {
        line: u64,
    },
    /// Before this line.
    Removed {
        before: u64,
        count: u64,
    },
    /// It is no record.
    Unreadable {
        line: u64,
    },
}

/// What a line says of its place.
#[derive(Deserialize)]
struct Place {
    number: u64,
    previous: String,
}

/// Reads a file to its end.
pub fn verify(mut file: impl BufRead) -> io::Result<Verified> {
    let mut chain = Chain::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut file).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(chain.end());
        }
        chain.add(line.strip_suffix(b"\n").unwrap_or(&line));
    }
}

struct Chain {
    lines: u64,
    /// Digests of the last two lines.
    digests: VecDeque<String>,
    /// Of the last line that has one.
    number: u64,
    faults: Vec<Fault>,
}

impl Default for Chain {
    fn default() -> Self {
        let digests = VecDeque::from([BEGINNING.to_owned()]);
        Self { lines: 0, digests, number: 0, faults: Vec::new() }
    }
}

impl Chain {
    fn add(&mut self, line: &[u8]) {
        self.lines += 1;
        match serde_json::from_slice::<Place>(line) {
            Ok(place) => self.follow(&place),
            Err(_) => {
                self.number += 1;
                self.faults.push(Fault::Unreadable { line: self.lines });
            }
        }
        self.digests.push_back(digest(line));
        if self.digests.len() > 2 {
            self.digests.pop_front();
        }
    }

    fn follow(&mut self, place: &Place) {
        let (line, number) = (self.lines, place.number);
        let [.., last] = self.digests.make_contiguous() else { return };
        let is_linked = place.previous == *last;
        let skips_one = self.digests.len() > 1 && place.previous == self.digests[0];
        let expected = self.number + 1;
        self.number = number;
        let fault = match () {
            () if is_linked && number == expected => return,
            () if skips_one => Fault::Inserted { line: line - 1 },
            () if number > expected => Fault::Removed { before: line, count: number - expected },
            () if line > 1 && !is_linked => Fault::Changed { line: line - 1 },
            () => Fault::Changed { line },
        };
        // A line that can't be read was named already.
        if !matches!(fault, Fault::Changed { line } if self.faults.last() == Some(&Fault::Unreadable { line }))
        {
            self.faults.push(fault);
        }
    }

    fn end(self) -> Verified {
        let Self { lines, mut digests, faults, .. } = self;
        let last = digests.pop_back().unwrap_or_default();
        Verified { lines, last, faults }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { line } => write!(f, "line {line} was changed"),
            Self::Inserted { line } => write!(f, "line {line} was inserted"),
            Self::Removed { before, count: 1 } => {
                write!(f, "a line before line {before} was removed")
            }
            Self::Removed { before, count } => {
                write!(f, "{count} lines before line {before} were removed")
            }
            Self::Unreadable { line } => write!(f, "line {line} is no record"),
        }
    }
}

/// In hexadecimal digits.
pub(super) fn digest(line: &[u8]) -> String {
    Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as the daemon would write them.
    fn lines(count: u64) -> Vec<String> {
        let mut previous = BEGINNING.to_owned();
        let line = |number| {
            let line = format!(r#"{{"number":{number},"tool":"t","previous":"{previous}"}}"#);
            previous = digest(line.as_bytes());
            line
        };
        (1..=count).map(line).collect()
    }

    fn check(lines: &[String]) -> Vec<Fault> {
        verify((lines.join("\n") + "\n").as_bytes()).unwrap().faults
    }

    #[test]
    fn what_nobody_touched_is_whole() {
        let whole = verify((lines(5).join("\n") + "\n").as_bytes()).unwrap();
        assert_eq!((whole.lines, whole.faults.len()), (5, 0));
        assert_eq!(whole.last, digest(lines(5)[4].as_bytes()));
        let none = verify(&b""[..]).unwrap();
        assert_eq!((none.lines, none.last.as_str()), (0, BEGINNING));
    }

    #[test]
    fn a_changed_line_is_named() {
        for at in 0..4 {
            let mut all = lines(5);
            all[at] = all[at].replace("\"t\"", "\"u\"");
            assert_eq!(check(&all), [Fault::Changed { line: at as u64 + 1 }]);
        }
        let mut all = lines(5);
        all[2].replace_range(..1, "x");
        assert_eq!(check(&all), [Fault::Unreadable { line: 3 }]);
    }

    #[test]
    fn removed_lines_are_named() {
        for at in 0..4 {
            let mut all = lines(5);
            all.remove(at);
            assert_eq!(check(&all), [Fault::Removed { before: at as u64 + 1, count: 1 }]);
        }
        let mut all = lines(5);
        all.drain(1..3);
        assert_eq!(check(&all), [Fault::Removed { before: 2, count: 2 }]);
    }

    #[test]
    fn an_inserted_line_is_named() {
        for at in 1..4 {
            let mut all = lines(5);
            let previous = digest(all[at - 1].as_bytes());
            all.insert(at, format!(r#"{{"number":{},"previous":"{previous}"}}"#, at + 1));
            assert_eq!(check(&all), [Fault::Inserted { line: at as u64 + 1 }]);
        }
    }

    #[test]
    fn lines_without_end_are_read_in_pieces() {
        let long = vec![b'x'; 2 * usize::try_from(LONGEST).unwrap()];
        assert_eq!(verify(&long[..]).unwrap().faults.len(), 2);
    }
}
