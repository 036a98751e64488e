//! What programs inside the VM send to the agent: queries for names, and requests to its proxy.

use std::net::IpAddr;

use osvm_guest::fuzz;

use crate::choice;

/// Longest answer, beyond its query: one record of an IPv6 address.
const RECORD: usize = 28;

/// First byte: what is found under every name.
pub fn dns(bytes: &[u8]) {
    let (found, query) = choice(bytes);
    let address: Option<IpAddr> = match found % 3 {
        0 => None,
        1 => Some([198, 18, 1, 1].into()),
        _ => Some([0xfd, 0, 0, 0, 0, 0, 0, 1].into()),
    };
    let mut asked = None;
    let answer = fuzz::dns(query, |name| {
        asked = Some(name.to_owned());
        address
    });
    if let Some(name) = &asked {
        assert!(name.len() < 255, "{name:?}");
        assert!(name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{name:?}");
    }
    let Some(answer) = answer else { return };
    assert!(answer.len() <= query.len() + RECORD);
    assert_eq!(answer[..2], query[..2], "it is the query's");
    assert!(answer[2] & 0x80 != 0, "it is an answer");
    let counts = (answer[5], answer[7]);
    assert_eq!(asked.is_some(), counts.0 == 1, "the question is repeated where it was understood");
    if asked.is_some() {
        let question = &answer[12..answer.len() - if counts.1 == 0 { 0 } else { rest(&answer) }];
        assert!(query[12..].starts_with(question), "the question is repeated as it was");
    }
}

/// Length of the record at an answer's end, of an IPv4 or an IPv6 address.
fn rest(answer: &[u8]) -> usize {
    let v4 = answer.len().checked_sub(16).map(|at| &answer[at..at + 4]);
    if v4 == Some(&[0xC0, 12, 0, 1]) { 16 } else { RECORD }
}

/// First byte: in what piece the rest arrives first.
pub fn proxy(bytes: &[u8]) {
    let (piece, bytes) = choice(bytes);
    let whole = fuzz::head(bytes);
    let early = fuzz::head(&bytes[..usize::from(piece).min(bytes.len())]);
    if let Ok(Some(_)) | Err(_) = &early {
        assert_eq!(early, whole, "what follows changes nothing");
    }
    let Ok(Some((host, port, length, head))) = whole else { return };
    assert!(length <= bytes.len() && port != 0 && !host.is_empty());
    let is_plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || b"-_.".contains(&b);
    assert!(host.parse::<IpAddr>().is_ok() || host.bytes().all(is_plain), "{host:?}");
    if let Some(head) = head {
        forwarded(&head);
    }
}

/// One whole head for the host itself, which says nothing of proxies.
fn forwarded(head: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(head).expect("what was rewritten is HTTP");
    assert_eq!(parsed, httparse::Status::Complete(head.len()));
    let path = request.path.expect("a whole head");
    assert!(path.starts_with('/') && !path.contains('#'), "{path:?}");
    let count = |name: &str| {
        request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count()
    };
    assert_eq!(count("connection"), 1);
    assert!(count("host") >= 1);
    assert_eq!(count("proxy-authorization") + count("proxy-connection") + count("keep-alive"), 0);
}
