//! What was found, as a page of the documentation.

use super::added::START_WITHIN;
use super::crowd::{OPEN, PATIENCE};
use super::kept::{Kept, Row, Times};
use super::ledger::{Fault, Kind};

const HEAD: &str = "\
| server | from | added as | version | called | calls | median | 99th percentile | its VM |
| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |
";

pub(super) fn text(kept: &Kept) -> String {
    let (about, verdict, method) = (kept.about.join(", "), verdict(kept), method(kept));
    let rows: String = kept.rows.iter().map(line).collect();
    let all = total(&kept.all);
    format!(
        "# Many clients, many servers\n\nWritten by `cargo xtask soak`: {about}.\n\n{verdict}\n\n{method}\n{HEAD}{rows}{all}"
    )
}

fn verdict(kept: &Kept) -> String {
    let (servers, clients, minutes) = (kept.rows.len(), kept.clients, kept.minutes);
    let ran = format!(
        "{servers} servers, each in a microVM of its own, behind one gateway, {clients} clients, {minutes} minutes,\n{} calls:",
        kept.all.calls
    );
    match &kept.faults[..] {
        [] => format!("{ran} no reply was lost, doubled or crossed, and none failed."),
        faults => {
            let told: String = faults.iter().map(|fault| format!("\n- {}", told(fault))).collect();
            format!("{ran} {} faults.\n{told}", faults.len())
        }
    }
}

fn method(kept: &Kept) -> String {
    let legacy = kept.clients.div_ceil(2);
    let modern = kept.clients - legacy;
    format!(
        "Clients call all servers in turns at `/mcp`, over Streamable HTTP with the gateway's token, {OPEN} calls of each open at\n\
         a time: {legacy} with sessions (2025-11-25), in which each server is a process of the client's own, {modern} without\n\
         (2026-07-28), who share a process of each server. Their requests have the same ids. Each call has a mark of its own in\n\
         its arguments, which its answer must hold (of some tools it is an error that names it); each answer must come where it\n\
         was asked for, once, with nothing after it, and within {} s. Nothing may come where nothing was asked.\n\
         A server may take {START_WITHIN} s to start (`launch_timeout_seconds`). Before times are counted, each client has called\n\
         each server once. The host's processors do the work of all VMs and clients, and where VMs are emulated that is little:\n\
         times tell how long a queue was, not what a call costs, and of the calls that are open most wait for the server that\n\
         takes longest for one. A VM's memory is what the host had given it at the end.\n",
        PATIENCE.as_secs()
    )
}

fn line(row: &Row) -> String {
    let cells = [
        row.name.clone(),
        row.from.clone(),
        format!("`{}`", row.command.replace('|', "\\|")),
        row.version.clone().unwrap_or_default(),
        format!("`{}`", row.call),
        times(&row.times),
        row.memory.map(|mib| format!("{mib} MiB")).unwrap_or_default(),
    ];
    format!("| {} |\n", cells.join(" | "))
}

fn total(all: &Times) -> String {
    format!("| all | | | | | {} | |\n", times(all))
}

fn times(times: &Times) -> String {
    format!("{} | {:.2} s | {:.2} s", times.calls, times.median, times.p99)
}

/// In one line.
pub(super) fn told(fault: &Fault) -> String {
    let kind = match fault.kind {
        Kind::Lost => "lost",
        Kind::Doubled => "doubled",
        Kind::Crossed => "crossed",
        Kind::Failed => "failed",
    };
    let what = fault.what.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{kind}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(faults: Vec<Fault>) -> Kept {
        let times = |calls| Times { calls, median: 0.5, p99: 1.25 };
        let row = Row {
            name: "a".to_owned(),
            from: "npm".to_owned(),
            version: Some("2.1".to_owned()),
            command: "npx a".to_owned(),
            call: "echo".to_owned(),
            times: times(7),
            memory: Some(300),
        };
        let about = vec!["osvm 1".to_owned(), "a day".to_owned()];
        Kept { about, clients: 3, minutes: 10.0, rows: vec![row], all: times(7), faults }
    }

    #[test]
    fn a_page_has_a_verdict_and_a_line_for_each_server() {
        let text = text(&kept(Vec::new()));
        assert!(text.contains("`cargo xtask soak`: osvm 1, a day.\n\n1 servers"), "{text}");
        assert!(text.contains("3 clients, 10 minutes,\n7 calls: no reply was lost"), "{text}");
        assert!(text.contains("2 with sessions (2025-11-25)"), "{text}");
        let line = "| a | npm | `npx a` | 2.1 | `echo` | 7 | 0.50 s | 1.25 s | 300 MiB |\n| all |";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_page_with_faults_says_so_and_which() {
        let fault = Fault { kind: Kind::Lost, what: "client 1: request 1\nof a".to_owned() };
        let text = text(&kept(vec![fault]));
        assert!(text.contains("1 faults.\n\n- lost: client 1: request 1 of a\n"), "{text}");
        assert!(!text.contains("no reply was lost"), "{text}");
    }
}
