//! What was found, as a page of the documentation.

use super::kept::Kept;
use super::place::Way;
use super::row::{Era, Row};

const INTRODUCTION: &str = "\
MCP clients that others have made, with one server twice: by itself, and as a program in a microVM, behind
`osvm mcp run` (stdio) and `osvm mcp gateway` with its token (HTTP). The server is the example `conformance` of
`crates/osvm-demo`, whose own HTTP is the Rust SDK's (rmcp). Figures are the steps that ended with an answer by
itself, and those of them that ended with the same answer, value for value, through osvm. That something is refused
which is not there, is an answer, too.

- Inspector is its command (`--cli`), a process for each method, with `--protocol-era legacy` and `modern`. It has no
  option to cancel a call, nor to answer a question.
- The SDKs are driven by scripts (`xtask/src/peers`): lists, calls with progress, with log messages and cancelled,
  resources, prompts, completion, answers to sampling, forms and roots, and what is told of a resource and of tools
  that have changed. For 2026-07-28 they negotiate (`auto`); that they came to it is in the first step's answer.
  `@modelcontextprotocol/sdk` speaks the handshake's revisions alone.
- mcp-conform speaks the handshake's revision 2025-03-26 alone, and can't show a token: hence over stdio.
";

const HEAD: &str = "\
| client | revision | over | by itself | through osvm | otherwise through osvm |
| --- | --- | --- | ---: | ---: | --- |
";

pub(super) fn text(kept: &Kept) -> String {
    let about = kept.about.join(", ");
    let (table, left) = (table(&kept.rows), left(&kept.rows));
    format!(
        "# Other people's clients\n\nWritten by `cargo xtask peers`: {about}.\n\n{INTRODUCTION}\n{table}{left}"
    )
}

pub(super) fn table(rows: &[Row]) -> String {
    rows.iter().fold(HEAD.to_owned(), |table, row| table + &line(row))
}

fn line(row: &Row) -> String {
    let different = row.different().iter().map(|what| cell(what)).collect::<Vec<_>>().join("; ");
    let (alone, through) = (row.answered_alone(), row.answered_through());
    let (era, way) = (era(row.era), way(row.way));
    format!(
        "| {} | {era} | {way} | {alone} of {} | {through} | {different} |\n",
        row.peer,
        row.alone.len()
    )
}

/// The steps that no row counts, for they have no answer by itself either.
fn left(rows: &[Row]) -> String {
    let of = |row: &Row| {
        let (peer, era, way) = (&row.peer, era(row.era), way(row.way));
        let unanswered: Vec<_> = row.unanswered().iter().map(|what| cell(what)).collect();
        (!unanswered.is_empty())
            .then(|| format!("- {peer}, {era}, {way}: {}\n", unanswered.join("; ")))
    };
    let left: String = rows.iter().filter_map(of).collect();
    match left.is_empty() {
        true => String::new(),
        false => format!("\nWithout an answer by itself, too, and why:\n\n{left}"),
    }
}

fn era(era: Era) -> &'static str {
    match era {
        Era::Legacy => "to 2025-11-25",
        Era::Modern => "2026-07-28",
    }
}

fn way(way: Way) -> &'static str {
    match way {
        Way::Stdio => "stdio",
        Way::Http => "HTTP",
    }
}

/// Short enough for a table, and of one line.
fn cell(text: &str) -> String {
    const LONG: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    match line.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use serde_json::json;

    use super::super::row::tests::row;
    use super::super::step::Step;
    use super::*;

    #[test]
    fn a_row_says_how_much_was_the_same_and_what_was_not() {
        let (good, bad) = (Step::answer("a", json!(1)), Step::failed("a", "late,\nor | never"));
        let table = table(&[row(from_ref(&good), from_ref(&good)), row(from_ref(&good), &[bad])]);
        let lines: Vec<_> = table.lines().skip(2).collect();
        let same = "| peer 1 | to 2025-11-25 | stdio | 1 of 1 | 1 |  |";
        let other = "| peer 1 | to 2025-11-25 | stdio | 1 of 1 | 0 | a (late, or \\| never) |";
        assert_eq!(lines, [same, other]);
    }

    #[test]
    fn what_has_no_answer_by_itself_stands_below_the_table() {
        let failed = [Step::failed("a", "not known")];
        let kept = Kept { about: vec!["osvm 1".to_owned()], rows: vec![row(&failed, &failed)] };
        let text = text(&kept);
        assert!(text.contains("`cargo xtask peers`: osvm 1."), "{text}");
        assert!(text.ends_with("- peer 1, to 2025-11-25, stdio: a (not known)\n"), "{text}");
        assert_eq!(left(&[]), "");
    }

    #[test]
    fn a_long_reason_is_cut() {
        assert_eq!(cell(&"a".repeat(400)).len(), 303);
    }
}
