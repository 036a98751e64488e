//! What a hostile server is remembered by: a file that anything may be in, and a conversation in which it says anything.

use osvm_mcp::envelope::{Envelope, Kind};
use osvm_mcp::{Discovery, Manifest};

/// First line: the file. Then lines, each of which begins with what happens: `<` the server says it, `=` it is there, `!`
/// it is gone, `?` the client asks it while no server is there, and else while one is.
pub fn manifest(bytes: &[u8]) {
    let (file, lines) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    let mut kept = Manifest::parse(&String::from_utf8_lossy(file));
    let mut discovery = Discovery::new(kept.clone());
    for line in lines.split(|byte| *byte == b'\n') {
        match line.split_first() {
            Some((b'<', line)) => {
                let _ = discovery.heard(line);
            }
            Some((b'=', _)) => {
                discovery.begins(false);
                discovery.checks().iter().for_each(|check| asks(check));
            }
            Some((b'!', _)) => discovery.lost(),
            Some((b'?', line)) => answered(&mut discovery, line),
            _ => discovery.asked(line),
        }
    }
    discovery.take_news().into_iter().for_each(|news| kept.add(news));
    let text = kept.to_text();
    assert_eq!(Manifest::parse(&text).to_text().len(), text.len(), "it is read as it was written");
}

/// Only what is asked is answered, with its id.
fn answered(discovery: &mut Discovery, line: &[u8]) {
    let Some(answer) = discovery.answer(line) else { return };
    let asked = String::from_utf8_lossy(line);
    let asked = Envelope::parse(&asked).expect("a request");
    let answer = String::from_utf8(answer).expect("a message is text");
    let answer = Envelope::parse(answer.trim_end()).expect("an answer is a message");
    assert_eq!((asked.kind(), answer.kind()), (Kind::Request, Kind::Response));
    let id = |message: &Envelope<'_>| message.id.expect("both have one").get().to_owned();
    assert_eq!(id(&answer), id(&asked));
}

fn asks(check: &[u8]) {
    let text = std::str::from_utf8(check).expect("a message is text");
    let check = Envelope::parse(text.trim_end()).expect("what is asked is a message");
    assert_eq!(check.kind(), Kind::Request);
}
