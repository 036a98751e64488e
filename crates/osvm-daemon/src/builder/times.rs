//! How long the parts of a build take: as long as they did here the last time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Home;
use crate::text_file::{TextFile, TextFileError};

pub(super) struct Times {
    file: TextFile,
    /// Whether VMs are slow, which guesses are made for.
    emulated: bool,
}

/// Seconds under emulation on a machine of two cores, for parts that were never made here.
const GUESSES: [(&str, f64); 8] = [
    ("runtime", 20.0),
    ("build", 45.0),
    ("node", 25.0),
    ("installers", 30.0),
    ("bytecode", 25.0),
    ("npm", 60.0),
    ("pypi", 60.0),
    ("uv", 60.0),
];

impl Times {
    pub(super) fn of(home: &Home, emulated: bool) -> Self {
        Self { file: TextFile::new(home.build_times(), "build-times.lock"), emulated }
    }

    /// Waits for a part to be made, and notes how long that took.
    pub(super) async fn timed<T, E>(
        &self,
        part: &str,
        made: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begin = Instant::now();
        let made = made.await?;
        let noted = self.note(part, begin.elapsed());
        if let Err(error) = noted {
            tracing::debug!("{error}");
        }
        Ok(made)
    }

    /// Of all of them together, if each is known.
    pub(super) fn expected<'a>(&self, parts: impl Iterator<Item = &'a str>) -> Option<Duration> {
        let known = known(&self.file.text().unwrap_or_default());
        let seconds = parts.map(|part| known.get(part).copied().or_else(|| self.guess(part)));
        let all: Option<f64> = seconds.sum();
        all.and_then(|all| Duration::try_from_secs_f64(all).ok())
    }

    fn guess(&self, part: &str) -> Option<f64> {
        let guess = GUESSES.iter().find(|(name, _)| *name == part).map(|(_, seconds)| *seconds);
        guess.filter(|_| self.emulated)
    }

    fn note(&self, part: &str, took: Duration) -> Result<(), TextFileError> {
        self.file.edit(|text| {
            let mut known = known(text);
            known.insert(part.to_owned(), took.as_secs_f64().round());
            Ok(serde_json::to_string(&known).expect("it is plain data"))
        })
    }
}

/// What can't be read is not known; it is no more than a help.
fn known(text: &str) -> BTreeMap<String, f64> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(folder: &tempfile::TempDir, emulated: bool) -> Times {
        Times::of(&Home::new(folder.path().to_owned(), folder.path().to_owned()), emulated)
    }

    fn expected(times: &Times, parts: &[&str]) -> Option<u64> {
        times.expected(parts.iter().copied()).map(|all| all.as_secs())
    }

    #[tokio::test]
    async fn what_was_seen_here_takes_the_place_of_a_guess() {
        let folder = tempfile::tempdir().unwrap();
        let times = times(&folder, true);
        assert_eq!(expected(&times, &["build", "npm"]), Some(105));
        times.note("npm", Duration::from_millis(10_200)).unwrap();
        assert_eq!(expected(&times, &["build", "npm"]), Some(55));
        let failed: Result<(), &str> = times.timed("npm", async { Err("no") }).await;
        failed.unwrap_err();
        assert_eq!(expected(&times, &["npm"]), Some(10), "what failed took no time that counts");
        times.timed("npm", async { Ok::<_, &str>(()) }).await.unwrap();
        assert_eq!(expected(&times, &["npm"]), Some(0));
    }

    #[test]
    fn nobody_guesses_where_vms_are_fast_or_the_file_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let times = times(&folder, false);
        assert_eq!(expected(&times, &["npm"]), None);
        times.note("npm", Duration::from_secs(3)).unwrap();
        assert_eq!(expected(&times, &["npm"]), Some(3));
        assert_eq!(expected(&times, &["npm", "build"]), None);
        std::fs::write(times.file.path(), "{\"npm\":-1e300").unwrap();
        assert_eq!(expected(&times, &["npm"]), None);
        std::fs::write(times.file.path(), "{\"npm\":-1e300}").unwrap();
        assert_eq!(expected(&times, &["npm"]), None);
    }
}
