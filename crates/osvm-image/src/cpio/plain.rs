//! Makes one plain stream of archives out of what a kernel takes as an initramfs: archives one after
//! another, each plain or compressed, with zeroes between them. Every archive is checked on the way.

use std::io::{self, BufRead, BufReader, Read, Write};

use super::{ALIGNMENT, CpioError, MAGIC, Reader};
use crate::decompress::{self, Compression};

/// More than guests have memory for.
const MAX_BYTES: u64 = 16 << 30;

/// Writes `from` to `out`, decompressed. The content of the file called `wanted`, of at most `limit`
/// bytes, is returned if it is there.
pub(crate) fn plain(
    from: impl Read,
    out: impl Write,
    wanted: &str,
    limit: usize,
) -> Result<Option<Vec<u8>>, CpioError> {
    let mut plain = Plain { out, written: 0, archives: 0, wanted, limit, found: None };
    plain.parts(&mut BufReader::new(from))?;
    if plain.archives == 0 {
        return Err(CpioError::Magic);
    }
    Ok(plain.found)
}

struct Plain<'a, W> {
    out: W,
    written: u64,
    archives: u32,
    wanted: &'a str,
    limit: usize,
    found: Option<Vec<u8>>,
}

impl<W: Write> Plain<'_, W> {
    /// Archives and compressed parts, which hold archives only.
    fn parts(&mut self, from: &mut impl BufRead) -> Result<(), CpioError> {
        while let Some(first) = skip_zeroes(&mut *from)? {
            if first == MAGIC[0] {
                self.archive(&mut *from)?;
                continue;
            }
            let compression = Compression::from_first(first);
            if compression == Compression::None {
                return Err(CpioError::Magic);
            }
            let part = decompress::decoder(compression, &mut *from).map_err(CpioError::Read)?;
            let mut part = BufReader::new(part);
            while skip_zeroes(&mut part)?.is_some() {
                self.archive(&mut part)?;
            }
        }
        Ok(())
    }

    fn archive(&mut self, from: impl Read) -> Result<(), CpioError> {
        self.align()?;
        let mut copy = Copy { from, out: &mut self.out, written: &mut self.written, failed: None };
        let checked = check(&mut copy, self.wanted, self.limit);
        if let Some(error) = copy.failed {
            return Err(CpioError::Write(error));
        }
        self.found = checked?.or(self.found.take());
        self.archives += 1;
        Ok(())
    }

    /// A plain archive begins on a multiple of four bytes.
    fn align(&mut self) -> Result<(), CpioError> {
        let padding = self.written.next_multiple_of(ALIGNMENT) - self.written;
        let zeroes = &[0; ALIGNMENT as usize][..usize::try_from(padding).expect("below four")];
        self.out.write_all(zeroes).map_err(CpioError::Write)?;
        self.written += padding;
        Ok(())
    }
}

/// The first byte that is not zero, which stays; nothing at the end.
fn skip_zeroes(from: &mut impl BufRead) -> Result<Option<u8>, CpioError> {
    loop {
        let bytes = from.fill_buf().map_err(CpioError::Read)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let zeroes = bytes.iter().take_while(|byte| **byte == 0).count();
        let first = bytes.get(zeroes).copied();
        from.consume(zeroes);
        if first.is_some() {
            return Ok(first);
        }
    }
}

/// Reads one archive to its end; the content of the file called `wanted`, if it is there.
fn check(from: impl Read, wanted: &str, limit: usize) -> Result<Option<Vec<u8>>, CpioError> {
    let mut reader = Reader::new(from);
    let mut found = None;
    while let Some(entry) = reader.next()? {
        if entry.is_file() && entry.name == wanted {
            found = Some(reader.content(&entry, limit)?);
        } else {
            reader.skip(&entry)?;
        }
    }
    Ok(found)
}

/// Writes what is read through it.
struct Copy<'a, R, W> {
    from: R,
    out: W,
    written: &'a mut u64,
    /// Why nothing more can be written.
    failed: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Copy<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        *self.written += count as u64;
        if *self.written > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is over 16 GiB unpacked"));
        }
        if let Err(error) = self.out.write_all(&buffer[..count]) {
            self.failed = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpio::Writer;
    use crate::decompress::tests::{gzip, lz4, zstd};

    fn archive(name: &str, content: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.file(name, 0o644, content).unwrap();
        writer.finish().unwrap()
    }

    fn run(bytes: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), CpioError> {
        let mut out = Vec::new();
        let found = plain(bytes, &mut out, "wanted", 100)?;
        Ok((out, found))
    }

    #[test]
    fn a_plain_archive_stays_as_it_is() {
        let bytes = archive("/wanted", b"me");
        assert_eq!(run(&bytes).unwrap(), (bytes, Some(b"me".to_vec())));
    }

    #[test]
    fn compressed_and_plain_archives_become_one_stream() {
        let (first, second) = (archive("a", b"1"), archive("wanted", b"2"));
        for pack in [gzip, zstd, lz4] {
            let mixed = [first.as_slice(), &[0; 512], &pack(&second)].concat();
            let (out, found) = run(&mixed).unwrap();
            assert_eq!(out, [first.as_slice(), &second].concat());
            assert_eq!(found.unwrap(), b"2");
            let inside = pack(&[first.as_slice(), &[0; 8], &second].concat());
            assert_eq!(run(&inside).unwrap().0, out);
        }
        let packed_first = [gzip(&first), second.clone()].concat();
        assert_eq!(run(&packed_first).unwrap().0, [first, second].concat());
    }

    #[test]
    fn what_is_no_archive_or_none_at_all_is_refused() {
        for bytes in [b"".as_slice(), &[0; 600], b"#!/bin/sh", &gzip(b"a text"), &gzip(b"")] {
            assert!(matches!(run(bytes), Err(CpioError::Magic)), "{bytes:x?}");
        }
        let then_text = [archive("a", b"1"), b"more of it".to_vec()].concat();
        assert!(matches!(run(&then_text), Err(CpioError::Magic)));
    }

    #[test]
    fn a_cut_archive_is_refused_compressed_too() {
        let whole = archive("a", &[5; 3000]);
        assert!(matches!(run(&whole[..2000]), Err(CpioError::Truncated)));
        for pack in [gzip, zstd, lz4] {
            let packed = pack(&whole);
            assert!(run(&packed[..packed.len() / 2]).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            which in 0..4_usize,
            noise in proptest::collection::vec(any::<(usize, u8)>(), 0..12),
        ) {
            let whole = [archive("wanted", b"x"), archive("a", &[5; 300])].concat();
            let mut bytes = [whole.clone(), gzip(&whole), zstd(&whole), lz4(&whole)][which].clone();
            for (at, byte) in noise {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = run(&bytes);
        }
    }
}
