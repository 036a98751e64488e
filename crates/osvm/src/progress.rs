//! A line on a terminal that says what long work is doing. In a pipe there is no such line.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::output;

/// Shown until dropped, then wiped.
pub(crate) struct Progress {
    line: Option<(Sender<News>, JoinHandle<()>)>,
}

enum News {
    Text(String),
    Expected(Duration),
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
        self.tell(News::Text(text.into()));
    }

    /// How long all of it takes, from now on.
    pub(crate) fn expect(&self, all: Duration) {
        self.tell(News::Expected(all));
    }

    fn tell(&self, news: News) {
        if let Some((texts, _)) = &self.line {
            // The other end lives as long as this one.
            let _ = texts.send(news);
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

fn spin(mut text: String, heard: &Receiver<News>) {
    let start = Instant::now();
    let mut expected = None;
    for frame in FRAMES.iter().cycle() {
        let elapsed = start.elapsed();
        show(&format!("{frame} {text} ({})", times(elapsed, expected)));
        match heard.recv_timeout(BEAT) {
            Ok(News::Text(next)) => text = next,
            Ok(News::Expected(all)) => expected = Some(start.elapsed() + all),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    show("");
}

fn times(elapsed: Duration, expected: Option<Duration>) -> String {
    match expected {
        None => format!("{:.1} s", elapsed.as_secs_f64()),
        Some(all) if elapsed > all => format!("{} s, longer than expected", elapsed.as_secs()),
        Some(all) => format!("{} of about {}", span(elapsed), span(all)),
    }
}

/// For people who wait.
pub(crate) fn span(time: Duration) -> String {
    match time.as_secs_f64().round() {
        seconds if seconds < 100.0 => format!("{seconds} s"),
        seconds => format!("{:.1} min", seconds / 60.0),
    }
}

/// How fast bytes come, to say when the last will.
#[derive(Default)]
pub(crate) struct Pace {
    begin: Option<(Instant, u64)>,
}

/// Before, there is nothing to go by.
const FIRST: Duration = Duration::from_secs(1);

impl Pace {
    /// How long it takes to come from `done` to `total`, if that can be told.
    pub(crate) fn left(&mut self, done: u64, total: u64) -> Option<Duration> {
        self.left_at(Instant::now(), done, total)
    }

    fn left_at(&mut self, now: Instant, done: u64, total: u64) -> Option<Duration> {
        let (begin, before) = *self.begin.get_or_insert((now, done));
        // Other bytes than a moment ago: of layers that are unpacked once they are here.
        if done < before {
            self.begin = Some((now, done));
            return None;
        }
        let (took, came) = (now - begin, done - before);
        let known = took >= FIRST && came > 0;
        let left = total.saturating_sub(done) as f64 / came as f64;
        known.then(|| Duration::try_from_secs_f64(took.as_secs_f64() * left).ok()).flatten()
    }
}

fn show(line: &str) {
    let _ = io::stderr().write_all(format!("\r\x1b[K{line}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_expected_is_told_until_it_is_wrong() {
        assert_eq!(times(Duration::from_millis(1250), None), "1.2 s");
        assert_eq!(times(seconds(3), Some(seconds(190))), "3 s of about 3.2 min");
        assert_eq!(times(seconds(41), Some(seconds(40))), "41 s, longer than expected");
    }

    #[test]
    fn what_is_left_follows_from_what_came() {
        let mut pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.left_at(start, 1000, 5000), None);
        assert_eq!(pace.left_at(start + seconds(2), 2000, 5000), Some(seconds(6)));
        assert_eq!(pace.left_at(start + seconds(8), 5000, 5000), Some(seconds(0)));
        assert_eq!(pace.left_at(start + seconds(9), 10, 5000), None, "other bytes");
        assert_eq!(pace.left_at(start + seconds(19), 10, 5000), None, "nothing came");
    }
}
