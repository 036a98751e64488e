//! What was seen, as a page of the documentation.

use std::time::Duration;

use anyhow::Error;

use super::catalogue::Server;
use super::trial::{Attempt, Shown};

pub(super) struct Row<'a> {
    server: &'a Server,
    shown: Shown,
    failure: Option<Error>,
}

const HEAD: &str = "\
| server | from | added as | image | added | started | tools | memory | a call | |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
";

impl<'a> Row<'a> {
    pub(super) fn of(server: &'a Server, (shown, ended): Attempt) -> Self {
        Self { server, shown, failure: ended.err() }
    }

    pub(super) fn line(&self) -> String {
        let (server, shown) = (self.server, &self.shown);
        let told = match &self.failure {
            None => server.note.clone(),
            Some(error) => format!("failed: {}", one_line(&format!("{error:#}"))),
        };
        let call = shown.call.map(|took| format!("`{}` {}", server.tool, seconds(took)));
        let cells = [
            server.name.clone(),
            server.from.clone(),
            format!("`{}`", server.command_line().replace('|', "\\|")),
            mib(shown.disk),
            shown.add.map(seconds).unwrap_or_default(),
            shown.start.map(seconds).unwrap_or_default(),
            shown.tools.map(|count| count.to_string()).unwrap_or_default(),
            mib(shown.memory),
            call.unwrap_or_default(),
            told,
        ];
        format!("| {} |", cells.join(" | "))
    }
}

pub(super) fn page(rows: &[Row<'_>], about: &str) -> String {
    let works = rows.iter().filter(|row| row.failure.is_none()).count();
    let lines: String = rows.iter().map(|row| row.line() + "\n").collect();
    format!(
        "# Other people's servers\n\n\
         Written by `cargo xtask servers`: {works} of {} servers were added as their READMEs say, started in a microVM of\n\
         512 MiB, listed their tools and answered a call. {about}; a shared machine with two cores. \"Added\" is the\n\
         image made, and the server started once; \"started\" is the time to the listed tools with the image there. `{{work}}`\n\
         is a folder of the host's, `{{made}}` what a script of the catalogue (`xtask/servers.toml`) has made.\n\n{HEAD}{lines}",
        rows.len()
    )
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn mib(size: Option<u64>) -> String {
    size.map(|mib| format!("{mib} MiB")).unwrap_or_default()
}

/// Short enough for a table.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
