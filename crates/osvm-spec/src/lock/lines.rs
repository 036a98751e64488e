//! Differences as lines to read: a title, then what went and what came, with what is around it.

use std::fmt;

use similar::{ChangeTag, TextDiff};

use super::escape::escape;
use super::{Definition, Difference, Part, PartChange, Pin};

/// A line without its end, fit for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub mark: Mark,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Title,
    /// As it was.
    Same,
    Removed,
    Added,
}

/// Characters after which a line goes on in the next: nothing is hidden beyond the edge.
const WIDTH: usize = 160;
/// Lines of one part that are compared and shown. Told where there are more.
const MAX_LINES: usize = 2000;
/// Unchanged lines around a change.
const CONTEXT: usize = 3;

impl Difference {
    pub fn lines(&self) -> Vec<Line> {
        match self {
            Self::Image { was, now } => vec![title("image changed"), removed(was), added(now)],
            Self::Package { name, was, now } => package(name, was, now),
            Self::ToolAdded(tool) => whole("tool added", tool, Mark::Added),
            Self::ToolRemoved(tool) => whole("tool removed", tool, Mark::Removed),
            Self::ToolChanged { name, parts } => {
                parts.iter().flat_map(|change| part_lines(name, change)).collect()
            }
        }
    }
}

fn package(name: &str, was: &[Pin], now: &[Pin]) -> Vec<Line> {
    let what = match (was, now) {
        ([], _) => "added",
        (_, []) => "removed",
        _ => "changed",
    };
    let pin = |pin: &Pin| format!("{} {}", pin.version, pin.integrity);
    let gone = was.iter().filter(|pin| !now.contains(pin)).map(pin);
    let come = now.iter().filter(|pin| !was.contains(pin)).map(pin);
    let mut lines = vec![title(&format!("package {name} {what}"))];
    lines.extend(gone.map(|text| removed(&text)));
    lines.extend(come.map(|text| added(&text)));
    lines
}

fn whole(what: &str, tool: &Definition, mark: Mark) -> Vec<Line> {
    let mut lines = vec![title(&format!("{what}: {}", tool.name()))];
    for part in Part::ALL {
        if let Some(text) = tool.part(part) {
            lines.push(Line::new(mark, &format!("{part}:")));
            let text = bounded(readable(text));
            lines.extend(text.iter().map(|line| Line::new(mark, &format!("  {line}"))));
        }
    }
    lines
}

fn part_lines(tool: &str, change: &PartChange) -> Vec<Line> {
    let lines_of = |text: &Option<String>| text.as_deref().map(readable).unwrap_or_default();
    let (was, now) = (lines_of(&change.was), lines_of(&change.now));
    let what = match (&change.was, &change.now) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let mut lines = vec![title(&format!("tool {tool}: {} {what}", change.part))];
    lines.extend(compared(was, now));
    lines
}

fn compared(mut was: Vec<String>, mut now: Vec<String>) -> Vec<Line> {
    if was == now {
        return vec![Line::new(Mark::Same, "(the same lines, broken or quoted otherwise)")];
    }
    // However far down the first change is, it is among the lines that are shown.
    let same = was.iter().zip(&now).take_while(|(was, now)| was == now).count();
    let start = same.saturating_sub(CONTEXT);
    let (was, now) = (bounded(was.split_off(start)), bounded(now.split_off(start)));
    let was: Vec<_> = was.iter().map(String::as_str).collect();
    let now: Vec<_> = now.iter().map(String::as_str).collect();
    let diff = TextDiff::from_slices(&was, &now);
    let mut lines = Vec::new();
    for (index, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if index > 0 {
            lines.push(Line::new(Mark::Same, "..."));
        }
        let changes = group.iter().flat_map(|op| diff.iter_changes(op));
        lines.extend(changes.map(|change| Line::new(mark(change.tag()), change.value())));
    }
    lines
}

fn mark(tag: ChangeTag) -> Mark {
    match tag {
        ChangeTag::Equal => Mark::Same,
        ChangeTag::Delete => Mark::Removed,
        ChangeTag::Insert => Mark::Added,
    }
}

/// A text's own lines, or a value's with one member each; long ones cut into several.
fn readable(json: &str) -> Vec<String> {
    let text = serde_json::from_str::<String>(json).unwrap_or_else(|_| indent(json));
    text.split('\n').flat_map(wrap).collect()
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MAX_LINES);
    if more > 0 {
        lines.truncate(MAX_LINES);
        lines.push(format!("... and {more} more lines, which are too many to show"));
    }
    lines
}

fn wrap(line: &str) -> Vec<String> {
    let characters: Vec<_> = line.chars().collect();
    match characters.is_empty() {
        true => vec![String::new()],
        false => characters.chunks(WIDTH).map(|part| part.iter().collect()).collect(),
    }
}

/// Canonical JSON with a line for each member. Numbers stay as they are, which a parsed value's would not.
fn indent(json: &str) -> String {
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0_usize, false, false);
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    for c in json.chars() {
        if in_string {
            out.push(c);
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                depth += 1;
                out.push(c);
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn title(text: &str) -> Line {
    Line::new(Mark::Title, text)
}

fn removed(text: &impl ToString) -> Line {
    Line::new(Mark::Removed, &text.to_string())
}

fn added(text: &impl ToString) -> Line {
    Line::new(Mark::Added, &text.to_string())
}

impl Line {
    fn new(mark: Mark, text: &str) -> Self {
        Self { mark, text: escape(text) }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.mark {
            Mark::Title => "",
            Mark::Same => "  ",
            Mark::Removed => "- ",
            Mark::Added => "+ ",
        };
        write!(f, "{sign}{}", self.text)
    }
}
