//! Clients' files: read, shown, edited and put back, with every other byte as it was; and containers' command lines.

use osvm_spec::clients::{ClientFile, Found, Listed, Spot, Start};
use osvm_spec::config::Entry;
use osvm_spec::{command, containers};

pub fn clients(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    container(text);
    let Ok(file) = ClientFile::parse(text) else { return };
    let shown = file.masked();
    assert!(ClientFile::parse(&shown).is_ok(), "{shown}");
    let places = file.places(Some("/p"));
    let Ok(listed) = file.servers(&places) else { return };
    for (index, one) in listed.iter().enumerate() {
        if matches!(one.is, Found::Stdio(_)) {
            rewritten(text, &one.spot, index % 2 == 0);
        }
        let left = file.without(&one.spot).expect("it was listed").expect("it is there");
        assert_eq!(servers(&left, one).len(), listed.len() - 1, "{left}");
    }
    added(text, &file, places);
}

fn start() -> Start {
    Start { command: "/usr/bin/osvm".to_owned(), args: vec!["mcp".to_owned(), "run".to_owned()] }
}

/// All servers of a text that has those of an earlier one, as far as they stand at this one's place.
fn servers(text: &str, one: &Listed) -> Vec<Listed> {
    let file = ClientFile::parse(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"));
    let mut places = file.places(Some("/p"));
    if !places.contains(&one.spot.place) {
        places.push(one.spot.place.clone());
    }
    file.servers(&places).expect("they were listed before")
}

/// Pointed at osvm, and back.
fn rewritten(text: &str, spot: &Spot, keep: bool) {
    let file = ClientFile::parse(text).expect("it was read before");
    let edited = file.pointed(spot, &start(), |_| keep).expect("it was read").expect("it is there");
    let again = ClientFile::parse(&edited).unwrap_or_else(|error| panic!("{error} in:\n{edited}"));
    let (old, new) = (written(&file, spot), written(&again, spot));
    let ((before, after), (now_before, now_after)) = (around(text, old), around(&edited, new));
    assert!(before == now_before && after == now_after, "{edited}");
    let back = again.put_back(spot, new, &file).expect("it was read");
    assert_eq!(back.as_deref(), Some(text));
}

fn written<'t>(file: &ClientFile<'t>, spot: &Spot) -> &'t str {
    file.written(spot).expect("it was read").expect("it is there")
}

fn around<'t>(text: &'t str, part: &str) -> (&'t str, &'t str) {
    let at = part.as_ptr().addr() - text.as_ptr().addr();
    (&text[..at], &text[at + part.len()..])
}

/// One server more, and away again.
fn added(text: &str, file: &ClientFile<'_>, mut places: Vec<Vec<String>>) {
    let spot = Spot { place: places.remove(0), name: "absent-for-certain".to_owned() };
    if !matches!(file.written(&spot), Ok(None)) {
        return;
    }
    let Ok(more) = file.with_entry(&spot, &start(), &[("type", "stdio")]) else { return };
    let again = ClientFile::parse(&more).unwrap_or_else(|error| panic!("{error} in:\n{more}"));
    assert!(again.written(&spot).is_ok_and(|entry| entry.is_some()), "{text}");
    let gone = again.without(&spot).expect("it was read").expect("it is there");
    assert!(ClientFile::parse(&gone).is_ok(), "{gone}");
}

/// What a container's command says is said again by the entry that it becomes.
fn container(text: &str) {
    let Ok(command) = command::split(text) else { return };
    let entry = Entry { command, ..Entry::new("s".parse().expect("a name")) };
    let Ok((lowered, _)) = containers::lower(entry) else { return };
    assert_eq!(containers::lower(lowered.clone()), Ok((lowered, Vec::new())));
}
