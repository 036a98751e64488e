//! The archive format of an initramfs: `newc` cpio, as `Documentation/driver-api/early-userspace/
//! buffer-format.rst` of the Linux sources describes it. Written, and checked before it is believed.

mod plain;
mod read;
mod write;

pub(crate) use plain::plain;
pub use read::{CpioError, Entry, Reader};
pub use write::Writer;

/// What every header begins with.
const MAGIC: &[u8; 6] = b"070701";
/// Magic and thirteen numbers of eight hexadecimal digits.
const HEADER: usize = 110;
/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;

/// Headers, contents and archives begin on multiples of it.
pub(crate) const ALIGNMENT: u64 = 4;

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.folder("/bin", 0o755).unwrap();
        writer.file("/bin/server", 0o755, b"#!/bin/sh\n").unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let bytes = archive();
        let mut reader = Reader::new(bytes.as_slice());
        let mut seen = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            seen.push((entry.name.clone(), entry.mode, reader.content(&entry, 100).unwrap()));
        }
        assert_eq!(
            seen,
            [
                ("bin".to_owned(), 0o040_755, Vec::new()),
                ("bin/server".to_owned(), 0o100_755, b"#!/bin/sh\n".to_vec()),
            ]
        );
    }

    #[test]
    fn a_cut_archive_is_told_from_a_whole_one_at_every_length() {
        let bytes = archive();
        let whole = |bytes: &[u8]| -> Result<(), CpioError> {
            let mut reader = Reader::new(bytes);
            while let Some(entry) = reader.next()? {
                reader.skip(&entry)?;
            }
            Ok(())
        };
        whole(&bytes).unwrap();
        // The last bytes are padding behind the trailer, which nobody needs.
        let end = bytes.windows(10).position(|window| window == TRAILER.as_bytes()).unwrap() + 10;
        for length in 0..end {
            assert!(whole(&bytes[..length]).is_err(), "{length} of {end} bytes");
        }
    }

    #[test]
    fn names_that_leave_the_root_are_refused() {
        for name in ["../etc/passwd", "a/../../b", ".."] {
            let mut writer = Writer::new(Vec::new());
            writer.file(name, 0o644, b"x").unwrap();
            let bytes = writer.finish().unwrap();
            assert!(
                matches!(Reader::new(bytes.as_slice()).next(), Err(CpioError::Path(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn an_entry_that_claims_gigabytes_costs_nothing() {
        let mut bytes = archive();
        bytes[54..62].copy_from_slice(b"ffffffff");
        let mut reader = Reader::new(bytes.as_slice());
        let entry = reader.next().unwrap().unwrap();
        assert!(reader.content(&entry, 1 << 20).is_err());
    }
}
