//! The compressions that kernels, packages and archives come in, told by their first bytes. What is
//! decompressed is hostile: memory is bounded here, and the amount by whoever reads.

use std::io::{self, BufRead, BufReader, Cursor, Read};

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
    /// The frame that the kernel's own build writes: blocks with a length in front.
    Lz4Legacy,
}

/// Longest of the magic numbers.
const MAGIC: usize = 6;
/// Of an xz decoder; `xz -9` wants 64 MiB.
const XZ_MEMORY_KIB: u32 = 128 * 1024;
/// Largest distance that a zstd frame may refer back to, as a power of two: what `zstd` itself takes.
const ZSTD_WINDOW: u32 = 27;

const MAGICS: [(&[u8], Compression); 4] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (&LZ4_MAGIC, Compression::Lz4Legacy),
];

impl Compression {
    /// By the magic number at the start.
    pub(crate) fn of(start: &[u8]) -> Self {
        let known = MAGICS.into_iter().find(|(magic, _)| start.starts_with(magic));
        known.map_or(Self::None, |(_, compression)| compression)
    }

    /// The one that such a byte can be the first of; its decoder sees about the rest.
    pub(crate) fn from_first(byte: u8) -> Self {
        let known = MAGICS.into_iter().find(|(magic, _)| magic[0] == byte);
        known.map_or(Self::None, |(_, compression)| compression)
    }
}

/// What `from` holds, decompressed as it is read, whatever its compression.
pub(crate) fn reader<'a>(mut from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    from.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    decoder(compression, BufReader::new(Cursor::new(start).chain(from)))
}

/// What is compressed at the start of `from`. Takes no more of it than that, where it ends by itself.
pub(crate) fn decoder<'a>(
    compression: Compression,
    from: impl BufRead + 'a,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(from),
        Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(from)),
        // Only one stream: the kernel's build puts a size behind it.
        Compression::Xz => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(from, false, XZ_MEMORY_KIB))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Compression::Lz4Legacy => Box::new(Lz4Legacy::new(from)?),
    })
}

/// All of it, if it is not over `limit` bytes. What follows the compressed data is passed over.
pub(crate) fn decompress_bounded(bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let plain = decoder(Compression::of(bytes), bytes)?;
    plain.take(limit as u64 + 1).read_to_end(&mut out)?;
    if out.len() > limit {
        return Err(invalid(format!("it is over {limit} bytes decompressed")));
    }
    Ok(out)
}

const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Largest block that `lz4 -l` writes.
const LZ4_BLOCK: usize = 8 << 20;
/// What such a block may have when it can't be compressed.
const LZ4_PACKED: usize = LZ4_BLOCK + LZ4_BLOCK / 255 + 16;

/// Reads blocks, each with its compressed length in front, until a length that is none.
struct Lz4Legacy<R> {
    from: R,
    block: Cursor<Vec<u8>>,
}

impl<R: Read> Lz4Legacy<R> {
    fn new(mut from: R) -> io::Result<Self> {
        from.read_exact(&mut LZ4_MAGIC.clone())?;
        Ok(Self { from, block: Cursor::default() })
    }

    /// False at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let Some(length) = self.next_length()? else { return Ok(false) };
        let mut packed = Vec::new();
        self.from.by_ref().take(length as u64).read_to_end(&mut packed)?;
        // The size of a small kernel looks like a length, and nothing follows it.
        if packed.is_empty() {
            return Ok(false);
        }
        if packed.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let block = lz4_flex::block::decompress(&packed, LZ4_BLOCK);
        self.block = Cursor::new(block.map_err(|error| invalid(error.to_string()))?);
        Ok(true)
    }

    /// Nothing at the end, where there are no bytes, zeroes, or a size that the kernel's build put.
    fn next_length(&mut self) -> io::Result<Option<usize>> {
        loop {
            let mut length = Vec::new();
            self.from.by_ref().take(4).read_to_end(&mut length)?;
            let Ok(length) = <[u8; 4]>::try_from(length) else { return Ok(None) };
            // Another frame follows the first.
            if length != LZ4_MAGIC {
                let length = u32::from_le_bytes(length) as usize;
                return Ok(Some(length).filter(|length| (1..=LZ4_PACKED).contains(length)));
            }
        }
    }
}

impl<R: Read> Read for Lz4Legacy<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.block.read(buffer)?;
            if count > 0 || buffer.is_empty() || !self.next_block()? {
                return Ok(count);
            }
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Packers for the tests of this crate.
#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 1).unwrap()
    }

    /// As `lz4 -l` packs what fits in one block.
    pub(crate) fn lz4(bytes: &[u8]) -> Vec<u8> {
        let block = lz4_flex::block::compress(bytes);
        let length = u32::try_from(block.len()).unwrap().to_le_bytes();
        [&LZ4_MAGIC, length.as_slice(), &block].concat()
    }

    /// 14,000 bytes packed with `xz --x86`.
    const XZ: &[u8] = include_bytes!("../tests/data/calls.xz");

    #[test]
    fn every_compression_is_recognised_bounded_and_may_have_a_tail() {
        for pack in [gzip, zstd, lz4] {
            let mut packed = pack(&[7; 1000]);
            packed.extend(1000_u32.to_le_bytes());
            assert_eq!(decompress_bounded(&packed, 1000).unwrap(), [7; 1000]);
            assert!(decompress_bounded(&packed, 999).is_err());
        }
        assert_eq!(decompress_bounded(XZ, 14_000).unwrap().len(), 14_000);
    }

    #[test]
    fn what_is_not_compressed_passes_through() {
        assert_eq!(decompress_bounded(b"plain", 100).unwrap(), b"plain");
    }

    #[test]
    fn what_follows_is_left_to_the_next_reader() {
        for packed in [gzip(b"first"), zstd(b"first"), XZ.to_vec()] {
            let both = [packed.as_slice(), b"second"].concat();
            let mut rest = both.as_slice();
            let mut first = decoder(Compression::of(&both), &mut rest).unwrap();
            io::copy(&mut first, &mut io::sink()).unwrap();
            drop(first);
            assert_eq!(rest, b"second", "{:x?}", &packed[..4]);
        }
    }

    #[test]
    fn two_frames_of_lz4_are_one() {
        let both = [lz4(b"one "), lz4(b"two")].concat();
        assert_eq!(decompress_bounded(&both, 100).unwrap(), b"one two");
    }

    #[test]
    fn an_xz_that_wants_gigabytes_is_refused() {
        // The byte with the size of the dictionary, of a block header without its checksum.
        let mut hungry = XZ.to_vec();
        let size = hungry.iter().position(|byte| *byte == 0x21).unwrap() + 2;
        hungry[size] = 40;
        assert!(decompress_bounded(&hungry, 100_000).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            which in 0..4_usize,
            noise in proptest::collection::vec(any::<(usize, u8)>(), 0..20),
            cut in 0..2000_usize,
        ) {
            let mut packed =
                [gzip(&[7; 9000]), zstd(&[7; 9000]), lz4(&[7; 9000]), XZ.to_vec()][which].clone();
            for (at, byte) in noise {
                let at = MAGIC + at % (packed.len() - MAGIC);
                packed[at] = byte;
            }
            packed.truncate(cut.max(MAGIC));
            let _ = decompress_bounded(&packed, 100_000);
        }
    }
}
