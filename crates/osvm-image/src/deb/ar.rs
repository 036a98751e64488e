//! The archive around a Debian package: a magic line, then members of a
//! header of sixty characters and the bytes themselves, each member on an even place. Nothing is
//! allocated by what a header claims.

use std::io::{self, Read, Take};

const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Name (16), time (12), owner (6), group (6), mode (8), size (10), and [`END`].
const HEADER: usize = 60;
const END: &[u8] = b"`\n";

/// The first member whose name begins so; none at the archive's end.
pub(super) fn member<R: Read>(mut from: R, prefix: &str) -> io::Result<Option<Take<R>>> {
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(damaged("it is no ar archive"));
    }
    while let Some(header) = header(&mut from)? {
        let size = size(&header)?;
        if header.starts_with(prefix.as_bytes()) {
            return Ok(Some(from.take(size)));
        }
        pass(&mut from, size.next_multiple_of(2))?;
    }
    Ok(None)
}

fn header(from: &mut impl Read) -> io::Result<Option<[u8; HEADER]>> {
    let mut header = Vec::new();
    from.take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    let header: [u8; HEADER] = header.try_into().map_err(|_| io::ErrorKind::UnexpectedEof)?;
    if !header.ends_with(END) {
        return Err(damaged("the header of a member is damaged"));
    }
    Ok(Some(header))
}

/// Ten decimal digits at most, so no sum of two overflows.
fn size(header: &[u8; HEADER]) -> io::Result<u64> {
    let digits = header[48..58].trim_ascii_end();
    let text = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| damaged("a member's size is no number"))
}

fn pass(from: &mut impl Read, count: u64) -> io::Result<()> {
    let passed = io::copy(&mut from.take(count), &mut io::sink())?;
    if passed == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = MAGIC.to_vec();
        for (name, bytes) in members {
            archive.extend(header(name, &bytes.len().to_string()));
            archive.extend(*bytes);
            archive.resize(archive.len().next_multiple_of(2), b'\n');
        }
        archive
    }

    fn header(name: &str, size: &str) -> Vec<u8> {
        format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644).into_bytes()
    }

    fn data(archive: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(mut found) = member(archive, "data")? else { return Ok(None) };
        let mut bytes = Vec::new();
        found.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    #[test]
    fn a_member_is_found_behind_others_of_odd_sizes() {
        let bytes = archive(&[("debian-binary", b"2.0"), ("control", b""), ("data.tar", b"me")]);
        assert_eq!(data(&bytes).unwrap().unwrap(), b"me");
        assert_eq!(data(&archive(&[("other", b"x")])).unwrap(), None);
    }

    #[test]
    fn what_a_header_claims_is_neither_believed_nor_allocated() {
        for size in ["9999999999", "-1", "", "1e3", "+5"] {
            let bytes = [MAGIC.as_slice(), &header("first", size), b"x"].concat();
            assert!(data(&bytes).is_err(), "{size}");
        }
        let huge = [MAGIC.as_slice(), &header("data.tar", "9999999999"), b"x"].concat();
        assert_eq!(data(&huge).unwrap().unwrap(), b"x");
    }

    #[test]
    fn what_is_no_archive_or_ends_early_is_refused() {
        let whole = archive(&[("first", b"12345"), ("data.tar", b"me")]);
        let before = whole.len() - 2;
        for length in (0..before).filter(|length| ![8, 74].contains(length)) {
            assert!(data(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(data(b"!<thin>\n").is_err());
    }
}
