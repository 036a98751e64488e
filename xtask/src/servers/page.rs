//! What was seen, as a page of the documentation.

use std::time::Duration;

use super::catalogue::{Catalogue, Server};
use super::outcomes::{Outcome, Outcomes};

const HEAD: &str = "\
| server | from | added as | image | added | started | tools | memory | a call | |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
";

pub(super) fn row(server: &Server, outcome: &Outcome) -> String {
    let told = match &outcome.failure {
        None => server.note.clone(),
        Some(why) => format!("failed: {}", one_line(why)),
    };
    let call = outcome.call.map(|took| format!("`{}` {}", server.tool, seconds(took)));
    let cells = [
        server.name.clone(),
        server.from.clone(),
        format!("`{}`", server.command_line().replace('|', "\\|")),
        mib(outcome.disk),
        outcome.add.map(seconds).unwrap_or_default(),
        outcome.start.map(seconds).unwrap_or_default(),
        outcome.tools.map(|count| count.to_string()).unwrap_or_default(),
        mib(outcome.memory),
        call.unwrap_or_default(),
        told,
    ];
    format!("| {} |", cells.join(" | "))
}

pub(super) fn text(catalogue: &Catalogue, outcomes: &Outcomes, about: &str) -> String {
    let tried = catalogue.servers.iter();
    let tried: Vec<_> =
        tried.filter_map(|server| Some((server, outcomes.get(&server.name)?))).collect();
    let works = tried.iter().filter(|(_, outcome)| outcome.failure.is_none()).count();
    let rows: String = tried.iter().map(|(server, outcome)| row(server, outcome) + "\n").collect();
    format!(
        "# Other people's servers\n\n\
         Written by `cargo xtask servers`: {works} of {} servers were added as their READMEs say, started in a microVM,\n\
         listed their tools and answered a call. {about}, on a shared machine with two cores that had other work to do;\n\
         VMs of 512 MiB where nothing else is said. \"Added\" is the image made, with its first start; \"started\" the\n\
         time to the list of tools with the image there. `{{work}}` is a folder of the host's, `{{made}}` what a script of the\n\
         catalogue (`xtask/servers.toml`) has made.\n\n{HEAD}{rows}",
        tried.len()
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
