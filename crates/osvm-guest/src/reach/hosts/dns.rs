//! Answers to DNS queries, as bytes (RFC 1035). No I/O.
//!
//! Of a query only the header and its one question are read, and of an answer no more is written than the
//! question again and one address.

use std::net::IpAddr;

/// Longest query: what any resolver sends over UDP without asking first.
pub(super) const MAX_QUERY: usize = 1232;

/// How long a resolver may keep an address, in seconds.
const TTL: u32 = 60;

const HEADER: usize = 12;

/// The kinds of record that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Aaaa,
    Other,
}

/// What there is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Address(IpAddr),
    /// The name is there, and has no record of this kind.
    NoRecord,
    /// No such name. Not "refused", which musl takes for no answer at all and waits on, and Go asks again about.
    NoName,
    /// The name may be there.
    Failed,
}

const FORMAT_ERROR: u8 = 1;
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

/// The answer to a query, with `find` knowing the names, in lower case and without a final dot. `None` for what is
/// no query and deserves no answer.
pub(super) fn answer(query: &[u8], find: impl FnOnce(&str, Kind) -> Found) -> Option<Vec<u8>> {
    const RESPONSE: u8 = 0x80;
    const OPERATION: u8 = 0x78;
    let header: &[u8; HEADER] = query.first_chunk()?;
    if header[2] & RESPONSE != 0 {
        return None;
    }
    if header[2] & OPERATION != 0 {
        return Some(reply(header, NOT_IMPLEMENTED, None, None));
    }
    let questions = u16::from_be_bytes([header[4], header[5]]);
    let Some(question) = Question::parse(&query[HEADER..]).filter(|_| questions == 1) else {
        return Some(reply(header, FORMAT_ERROR, None, None));
    };
    let (code, address) = match find(&question.name, question.kind) {
        Found::Address(address) => (0, Some(address)),
        Found::NoRecord => (0, None),
        Found::NoName => (NAME_ERROR, None),
        Found::Failed => (SERVER_FAILURE, None),
    };
    Some(reply(header, code, Some(question.bytes), address))
}

struct Question<'q> {
    name: String,
    kind: Kind,
    bytes: &'q [u8],
}

impl<'q> Question<'q> {
    fn parse(bytes: &'q [u8]) -> Option<Self> {
        const INTERNET: u16 = 1;
        let (name, end) = parse_name(bytes)?;
        let &[a, b, c, d] = bytes.get(end..)?.first_chunk::<4>()?;
        let kind = match (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])) {
            (1, INTERNET) => Kind::A,
            (28, INTERNET) => Kind::Aaaa,
            _ => Kind::Other,
        };
        Some(Self { name, kind, bytes: &bytes[..end + 4] })
    }
}

/// The name at the front, and where it ends. A question's name has nothing before it that it could point to, so
/// there are labels only.
fn parse_name(bytes: &[u8]) -> Option<(String, usize)> {
    const LONGEST: usize = 255;
    const LONGEST_LABEL: usize = 63;
    let mut name = String::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        let label = bytes.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length > LONGEST_LABEL || at > LONGEST {
            return None;
        }
        if length == 0 {
            return Some((name, at));
        }
        if !name.is_empty() {
            name.push('.');
        }
        // What is not plain text, or has dots inside, matches no name and must not look like one.
        let part = |byte: &u8| if byte.is_ascii_graphic() && *byte != b'.' { *byte } else { b'?' };
        name.extend(label.iter().map(part).map(|byte| char::from(byte.to_ascii_lowercase())));
    }
}

fn reply(
    query: &[u8; HEADER],
    code: u8,
    question: Option<&[u8]>,
    address: Option<IpAddr>,
) -> Vec<u8> {
    const RESPONSE: u8 = 0x80;
    const RECURSION_WANTED: u8 = 0x01;
    const OPERATION: u8 = 0x78;
    const RECURSION_THERE: u8 = 0x80;
    let flags = RESPONSE | query[2] & (OPERATION | RECURSION_WANTED);
    let counts = [u8::from(question.is_some()), u8::from(address.is_some())];
    let mut bytes = vec![query[0], query[1], flags, RECURSION_THERE | code];
    bytes.extend([0, counts[0], 0, counts[1], 0, 0, 0, 0]);
    bytes.extend(question.unwrap_or_default());
    match address {
        Some(IpAddr::V4(address)) => record(&mut bytes, 1, &address.octets()),
        Some(IpAddr::V6(address)) => record(&mut bytes, 28, &address.octets()),
        None => {}
    }
    bytes
}

fn record(bytes: &mut Vec<u8>, kind: u8, data: &[u8]) {
    /// The name is that of the question, right after the header.
    const QUESTION: [u8; 2] = [0xC0, HEADER as u8];
    bytes.extend(QUESTION);
    bytes.extend([0, kind, 0, 1]);
    bytes.extend(TTL.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
}

/// Answers a query where `find` knows some names' addresses, for the fuzzing crate.
pub fn fuzz(query: &[u8], find: impl FnOnce(&str) -> Option<IpAddr>) -> Option<Vec<u8>> {
    answer(query, |name, kind| match (find(name), kind) {
        (Some(address), Kind::A) if address.is_ipv4() => Found::Address(address),
        (Some(address), Kind::Aaaa) if address.is_ipv6() => Found::Address(address),
        (Some(_), _) => Found::NoRecord,
        (None, _) => Found::NoName,
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut bytes = b"\xAB\xCD\x01\x20\0\x01\0\0\0\0\0\0".to_vec();
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, kind, 0, 1]);
        bytes
    }

    fn find(name: &str, kind: Kind) -> Found {
        match (name, kind) {
            ("api.example.com", Kind::A) => Found::Address([198, 18, 1, 1].into()),
            ("localhost", Kind::Aaaa) => Found::Address(std::net::Ipv6Addr::LOCALHOST.into()),
            ("api.example.com" | "localhost", _) => Found::NoRecord,
            ("full.example.com", _) => Found::Failed,
            _ => Found::NoName,
        }
    }

    fn code(answer: &[u8]) -> u8 {
        answer[3] & 0xF
    }

    #[test]
    fn a_granted_name_has_an_address() {
        let query = query("API.example.com", 1);
        let answer = answer(&query, find).unwrap();
        let expected = [
            &b"\xAB\xCD\x81\x80\0\x01\0\x01\0\0\0\0"[..],
            &query[HEADER..],
            &[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 18, 1, 1],
        ];
        assert_eq!(answer, expected.concat());
    }

    #[test]
    fn a_granted_name_has_no_record_of_another_kind() {
        for kind in [28, 65, 64, 16, 15] {
            let answer = answer(&query("api.example.com", kind), find).unwrap();
            assert_eq!((code(&answer), answer[7]), (0, 0), "{kind}");
        }
        let answer = answer(&query("localhost", 28), find).unwrap();
        assert_eq!((code(&answer), answer[7], answer[answer.len() - 1]), (0, 1, 1));
    }

    #[test]
    fn other_names_do_not_exist_and_failures_are_told_apart() {
        let code_of = |name| code(&answer(&query(name, 1), find).unwrap());
        assert_eq!(code_of("evil.example.com"), NAME_ERROR);
        assert_eq!(code_of("full.example.com"), SERVER_FAILURE);
    }

    #[test]
    fn what_follows_the_question_is_not_looked_at() {
        let mut query = query("api.example.com", 1);
        query[11] = 1;
        query.extend(b"\0\0\x29\x10\0\0\0\0\0\0\x0c");
        let answer = answer(&query, find).unwrap();
        assert_eq!((code(&answer), answer[7], answer[11]), (0, 1, 0));
    }

    #[test]
    fn what_is_no_plain_query_is_refused_or_ignored() {
        assert_eq!(answer(b"short", find), None);
        let mut response = query("api.example.com", 1);
        response[2] |= 0x80;
        assert_eq!(answer(&response, find), None);
        let mut update = query("api.example.com", 1);
        update[2] |= 5 << 3;
        assert_eq!(code(&answer(&update, find).unwrap()), NOT_IMPLEMENTED);
        let mut two = query("api.example.com", 1);
        two[5] = 2;
        assert_eq!(code(&answer(&two, find).unwrap()), FORMAT_ERROR);
        let pointer = b"\xAB\xCD\x01\x20\0\x01\0\0\0\0\0\0\xC0\x0C\0\x01\0\x01";
        assert_eq!(code(&answer(pointer, find).unwrap()), FORMAT_ERROR);
    }

    #[test]
    fn a_label_with_a_dot_inside_is_no_other_name() {
        let mut query = query("api-example.com", 1);
        query[HEADER + 4] = b'.';
        assert_eq!(code(&answer(&query, find).unwrap()), NAME_ERROR);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..600)) {
            if let Some(answer) = answer(&bytes, find) {
                prop_assert!(answer.len() <= bytes.len() + 28);
                prop_assert_eq!(&answer[..2], &bytes[..2]);
            }
        }

        #[test]
        fn a_damaged_query_does_no_harm(at in 0usize..32, byte in any::<u8>(), cut in 0usize..32) {
            let mut query = query("api.example.com", 1);
            let end = query.len() - cut.min(query.len());
            let at = at.min(query.len() - 1);
            query[at] = byte;
            let _ = answer(&query[..end], find);
        }
    }
}
