//! What was found, as a page of the documentation.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::clients::LEFT_OUT;
use super::kept::Kept;
use super::servers::Revision;
use super::suite::Check;

pub(super) fn text(kept: &Kept) -> String {
    let about = kept.about.join(", ");
    let mut text = format!(
        "# Conformance\n\n\
         Written by `cargo xtask conformance`: {about}.\n\n\
         ## Servers\n\n\
         The server scenarios of the official suite (`@modelcontextprotocol/conformance`), against one server twice: by\n\
         itself, over the HTTP transport of the Rust SDK (rmcp), and as a program in a microVM, over stdio, behind\n\
         `osvm mcp gateway`. The server is the example `conformance` of `crates/osvm-demo`. Figures are checks that\n\
         passed; scenarios of extensions are not among them. Where fewer passed behind osvm and\n\
         none failed, the suite had less to look at: the gateway opens no stream for an answer that is one message.\n\n"
    );
    servers(&mut text, &kept.servers);
    text += "\n## Clients\n\nThe client scenarios, with `osvm mcp call` in a pipe as the client, where nobody answers a form. The suite's\n\
             servers speak HTTP, osvm's are programs in microVMs: the program is a relay, which sends each message on. A server\n\
             of which it knows nothing yet, osvm asks by the handshake first: hence an `initialize` where a client of 2026-07-28\n\
             would send none.\n\n\
             | scenario | revision | passed | not passed |\n| --- | --- | ---: | --- |\n";
    for outcome in &kept.clients {
        let passed = count(&outcome.checks, "SUCCESS");
        let failed = outcome.checks.iter().filter(|check| is_bad(check)).map(said);
        let failed = match outcome.checks.is_empty() {
            true => "the suite has found nothing".to_owned(),
            false => failed.collect::<Vec<_>>().join("; "),
        };
        let cells = [&outcome.scenario, &outcome.revision, &passed.to_string(), &failed];
        text += &format!("| {} |\n", cells.map(String::as_str).join(" | "));
    }
    text += "\nLeft out are\n\n";
    for (scenarios, why) in LEFT_OUT {
        text += &format!("- {scenarios}: {why}.\n");
    }
    text
}

fn servers(text: &mut String, revisions: &[Revision]) {
    let mut head = ["| scenario |".to_owned(), "| --- |".to_owned()];
    for revision in revisions {
        head[0] += &format!(" {0}, by itself | {0}, behind osvm |", revision.revision);
        head[1] += " ---: | ---: |";
    }
    *text += &(head.join("\n") + "\n");
    let scenarios: BTreeSet<_> = revisions.iter().flat_map(Revision::scenarios).collect();
    for scenario in scenarios {
        let found = revisions.iter().flat_map(|revision| [&revision.alone, &revision.behind]);
        let cells =
            found.map(|found| found.get(scenario).map_or_else(String::new, |all| cell(all)));
        *text += &format!("| {scenario} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    let found = revisions.iter().flat_map(|revision| [&revision.alone, &revision.behind]);
    let sums = found.map(|found| cell(&found.values().flatten().cloned().collect::<Vec<_>>()));
    *text += &format!("| **all** | {} |\n", sums.collect::<Vec<_>>().join(" | "));
    for revision in revisions.iter().filter(|revision| !revision.again.is_empty()) {
        let again = revision.again.iter().map(|scenario| format!("`{scenario}`"));
        let again = again.collect::<Vec<_>>().join(", ");
        let _ = write!(
            text,
            "\nRun again behind osvm, of {}, since the suite waits half a second and a server's VM may start longer: {again}.\n",
            revision.revision
        );
    }
    for revision in revisions {
        for (place, found) in [("by itself", &revision.alone), ("behind osvm", &revision.behind)] {
            let bad = found.iter().flat_map(|(scenario, checks)| {
                checks.iter().filter(|check| is_bad(check)).map(move |check| (scenario, check))
            });
            for (index, (scenario, check)) in bad.enumerate() {
                if index == 0 {
                    let _ = write!(text, "\nNot passed of {}, {place}:\n\n", revision.revision);
                }
                let _ = writeln!(text, "- {scenario}: {}", said(check));
            }
        }
    }
}

/// How many passed, and what else there was.
fn cell(checks: &[Check]) -> String {
    let others = [("FAILURE", "failed"), ("WARNING", "warned")];
    let mut cell = count(checks, "SUCCESS").to_string();
    for (status, what) in others {
        match count(checks, status) {
            0 => {}
            count => cell += &format!(", {count} {what}"),
        }
    }
    cell
}

fn count(checks: &[Check], status: &str) -> usize {
    checks.iter().filter(|check| check.status == status).count()
}

fn is_bad(check: &Check) -> bool {
    ["FAILURE", "WARNING"].contains(&check.status.as_str())
}

/// Short enough for a table.
fn said(check: &Check) -> String {
    let why = check.why();
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let why: String = why.chars().take(200).collect();
    let kind = if check.failed() { "" } else { "warning, " };
    format!("`{}` ({kind}{why})", check.id)
}
