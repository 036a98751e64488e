//! What tells a call from every other: its mark, and what is asked and answered with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// Minutes of a day.
const DAY: u64 = 24 * 60;

/// The numbers that are not taken yet. All have nine digits: none is a part of another.
pub(super) struct Numbers(AtomicU64);

impl Default for Numbers {
    fn default() -> Self {
        Self(AtomicU64::new(100_000_001))
    }
}

impl Numbers {
    pub(super) fn mark(&self, client: usize) -> Mark {
        Mark { client, number: self.0.fetch_add(1, Ordering::Relaxed) }
    }
}

/// Of one call of one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    client: usize,
    number: u64,
}

impl Mark {
    /// What the catalogue has, for this call.
    pub(super) fn fill(self, template: &str) -> String {
        let minute = self.number % DAY;
        template
            .replace("{mark}", &self.text())
            .replace("{number}", &self.number.to_string())
            .replace("{clock}", &format!("{:02}:{:02}", minute / 60, minute % 60))
            .replace("{file}", &self.file())
    }

    fn text(self) -> String {
        format!("soak{}n{}e", self.client, self.number)
    }

    fn file(self) -> String {
        format!("{}.txt", self.text())
    }

    /// The file that the call reads, where it reads one.
    pub(super) fn lend(self, template: &str, work: &Path) -> Result<Option<Lent>> {
        if !template.contains("{file}") {
            return Ok(None);
        }
        let lent = Lent(work.join(self.file()));
        fs::write(&lent.0, format!("it is {}\n", self.number))
            .with_context(|| format!("write {}", lent.0.display()))?;
        Ok(Some(lent))
    }
}

/// A file that is there until this is dropped.
pub(super) struct Lent(PathBuf);

impl Drop for Lent {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_calls_have_a_mark_in_common() {
        let numbers = Numbers::default();
        let (one, other) = (numbers.mark(1), numbers.mark(1));
        for template in ["{mark}", "{number}", "{clock}", "{file}"] {
            let (one, other) = (one.fill(template), other.fill(template));
            assert!(!one.contains(&other) && !other.contains(&one), "{one} and {other}");
        }
    }

    #[test]
    fn a_time_of_day_is_one() {
        let mark = Mark { client: 1, number: 100 * DAY + 61 };
        assert_eq!(mark.fill("at {clock}"), "at 01:01");
    }

    #[test]
    fn a_file_is_there_for_the_call_that_reads_it_and_no_longer() {
        let (work, mark) = (tempfile::tempdir().unwrap(), Numbers::default().mark(1));
        let path = work.path().join(mark.fill("{file}"));
        let lent = mark.lend("/work/{file}", work.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(lent.is_some() && text.contains(&mark.fill("it is {number}")), "{text}");
        drop(lent);
        assert!(!path.exists());
        assert!(mark.lend("{mark}", work.path()).unwrap().is_none());
    }
}
