//! The configuration file: parsed, resolved, and edited without harm to what the user wrote.

use std::path::Path;

use osvm_spec::config::Entry;
use osvm_spec::{Config, Overrides, Places, ServerName, command, edit};

const FILE: &str = "isolation_config.toml";

pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(argv) = command::split(text) {
        assert_eq!(command::split(&command::join(&argv)).as_ref(), Ok(&argv));
    }
    let Ok(config) = Config::parse(text, FILE) else { return };
    let places = Places { home: Some(Path::new("/home/me")), base: Path::new("/home/me/.osvm") };
    for entry in &config.servers {
        let _ = config.resolve(&entry.id, &Overrides::default(), &places);
    }
    let absent: ServerName = "absent-for-certain".parse().expect("a name");
    if config.server(&absent).is_none() {
        adding(text, &config, absent);
    }
    for index in 0..config.servers.len() {
        removing(text, &config, index);
        switching(text, &config, index);
    }
}

fn parse(text: &str) -> Config {
    Config::parse(text, FILE).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
}

/// One server more, and every line of the user's still there, in its order.
fn adding(text: &str, before: &Config, name: ServerName) {
    let entry = Entry::new(name.clone());
    let added = edit::add(text, FILE, &entry).expect("it is not there yet");
    let mut expected = before.clone();
    expected.servers.push(entry);
    assert_eq!(parse(&added), expected, "{added}");
    let mut lines = added.lines();
    if before.servers.is_empty() || text.contains("[[servers]]") {
        for line in comments(text) {
            assert!(lines.any(|kept| kept.trim() == line), "{line:?} is lost in:\n{added}");
        }
    }
    assert_eq!(parse(&edit::remove(&added, FILE, &name).expect("it is there")), *before);
}

fn removing(text: &str, before: &Config, index: usize) {
    let mut expected = before.clone();
    let gone = expected.servers.remove(index);
    let left = edit::remove(text, FILE, &gone.id).expect("it is there");
    assert_eq!(parse(&left), expected, "{left}");
}

fn switching(text: &str, before: &Config, index: usize) {
    let name = &before.servers[index].id;
    for enabled in [false, true] {
        let mut expected = before.clone();
        expected.servers[index].enabled = enabled;
        let switched = edit::set_enabled(text, FILE, name, enabled).expect("it is there");
        assert_eq!(parse(&switched), expected, "{switched}");
    }
}

/// Lines that are comments, or look like one inside a text of several lines.
fn comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| line.starts_with('#'))
}
