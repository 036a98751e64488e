//! Figures, the floors and limits they are held against, and how they are shown.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    /// The least and the most of what the value is the middle of.
    spread: Option<[f64; 2]>,
    /// Value over floor, where there is a floor.
    ratio: Option<f64>,
    /// What the ratio, or the value where there is none, should not exceed.
    target: Option<f64>,
}

impl Figure {
    pub(super) fn millis(what: &str, value: Duration) -> Self {
        Self::new(what, value.as_secs_f64() * 1e3, "ms")
    }

    /// The middle one, with least and most.
    pub(super) fn times(what: &str, times: &[Duration]) -> Self {
        let millis = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let spread = [millis(times.iter().min()), millis(times.iter().max())];
        Self { spread: Some(spread), ..Self::millis(what, median(times)) }
    }

    pub(super) fn count(what: &str, value: f64) -> Self {
        Self::new(what, value, "")
    }

    pub(super) fn kib(what: &str, value: f64) -> Self {
        Self::new(what, value, "KiB")
    }

    pub(super) fn mib(what: &str, value: f64) -> Self {
        Self::new(what, value, "MiB")
    }

    pub(super) fn against(self, floor: Duration, target: f64) -> Self {
        self.beside(floor).at_most(target)
    }

    /// Also as a multiple of that, without a target.
    pub(super) fn beside(mut self, floor: Duration) -> Self {
        self.ratio = Some(self.value / (floor.as_secs_f64() * 1e3));
        self
    }

    pub(super) fn at_most(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    fn new(what: &str, value: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), value, unit, spread: None, ratio: None, target: None }
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            None if self.ratio.is_some() => "no target",
            None => "floor",
            Some(target) if self.ratio.unwrap_or(self.value) <= target => "reached",
            Some(_) => "missed",
        }
    }
}

/// The middle one; zero of none.
pub(super) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// As Markdown.
pub(super) fn text(figures: &[Figure]) -> String {
    let mut text =
        "| what | measured | ratio | target | |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for figure in figures {
        let number = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.2}"));
        let shown = |value: f64| format!("{value:.*}", if value < 10.0 { 2 } else { 1 });
        let spread =
            figure.spread.map(|[least, most]| format!(" ({} to {})", shown(least), shown(most)));
        text += &format!(
            "| {} | {} {}{} | {} | {} | {} |\n",
            figure.what,
            shown(figure.value),
            figure.unit,
            spread.unwrap_or_default(),
            number(figure.ratio),
            number(figure.target),
            figure.verdict()
        );
    }
    text
}

pub(super) fn save(figures: &[Figure], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let file = folder.join("figures.json");
    let json = serde_json::to_string_pretty(figures)?;
    fs::write(&file, json).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_held_against_the_target_and_not_the_time() {
        let second = Duration::from_secs(1);
        let figure = Figure::millis("x", second * 3).against(second * 2, 1.4);
        assert_eq!(figure.verdict(), "missed");
        assert_eq!(Figure::millis("x", second * 3).against(second * 3, 1.4).verdict(), "reached");
    }

    #[test]
    fn times_are_shown_as_the_middle_one_with_least_and_most() {
        let times = [5, 1, 30].map(Duration::from_millis);
        let text = text(&[Figure::times("x", &times)]);
        assert!(text.contains("| x | 5.00 ms (1.00 to 30.0) |"), "{text}");
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[5, 1, 3].map(Duration::from_secs)), Duration::from_secs(3));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
