//! What each client's file looks like, read and edited.

mod edits;
mod hostile;
mod reading;

use super::*;

/// A file as each client has it.
const SAMPLES: [(&str, &str); 8] = [
    ("claude-desktop", include_str!("../../../../tests/clients/claude-desktop.json")),
    ("claude-code", include_str!("../../../../tests/clients/claude-code.json")),
    ("cursor", include_str!("../../../../tests/clients/cursor.json")),
    ("vscode", include_str!("../../../../tests/clients/vscode.json")),
    ("windsurf", include_str!("../../../../tests/clients/windsurf.json")),
    ("zed", include_str!("../../../../tests/clients/zed.json")),
    ("gemini", include_str!("../../../../tests/clients/gemini.json")),
    (".mcp.json", include_str!("../../../../tests/clients/mcp.json")),
];

const PROJECT: &str = "/home/ada/engine";

fn sample(name: &str) -> &'static str {
    SAMPLES.iter().find(|(own, _)| *own == name).unwrap().1
}

fn parse(text: &str) -> ClientFile<'_> {
    ClientFile::parse(text).unwrap()
}

/// All that stands in a sample, found without knowing whose it is.
fn servers(text: &str) -> Vec<Listed> {
    let file = parse(text);
    file.servers(&file.places(Some(PROJECT))).unwrap()
}

fn named(text: &str, name: &str) -> Listed {
    servers(text).into_iter().find(|listed| listed.spot.name == name).unwrap()
}

fn stdio(text: &str, name: &str) -> Stdio {
    match named(text, name).is {
        Found::Stdio(stdio) => stdio,
        other => panic!("{other:?}"),
    }
}

fn osvm(name: &str) -> Start {
    let args = ["mcp", "run", name].map(str::to_owned).to_vec();
    Start { command: "/usr/bin/osvm".to_owned(), args }
}
