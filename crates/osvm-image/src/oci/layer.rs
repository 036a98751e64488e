//! Decompresses layers into the spool, and holds them to their digests and sizes.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::manifest::Blob;
use super::{Limits, OciError, Spool};
use crate::Digest;
use crate::decompress::Compression;
use crate::files;

/// The largest distance that a zstd frame may refer back to, as a power of two: bounds memory to 32 MiB.
/// `zstd` writes no larger one without `--ultra` or `--long`.
const ZSTD_WINDOW: u32 = 25;
/// Bytes of a layer whose ratio is not asked.
const FREE: u64 = 64 << 20;
const BUFFER: usize = 64 << 10;

/// A layer on its way into the spool.
pub(super) struct Unpack<'a> {
    pub(super) blob: &'a Blob,
    pub(super) spool: &'a mut Spool,
    pub(super) limits: &'a Limits,
    /// Hears how many compressed bytes were read.
    pub(super) progress: &'a dyn Fn(u64),
}

impl Unpack<'_> {
    /// Puts what `from` holds into the spool and tells where it is.
    pub(super) fn run(mut self, from: impl Read) -> Result<Range<u64>, OciError> {
        let count = Cell::new(0);
        let size = self.blob.expected.as_ref().map_or(u64::MAX, |(_, size)| *size);
        // One byte more shows that there is more than there should be.
        let from = from.take(size.saturating_add(1));
        let hash = self.blob.expected.is_some().then(Sha256::new);
        let packed = Packed { from, hash, count: &count };
        let mut packed = BufReader::with_capacity(BUFFER, packed);
        let plain = self.decompress(&mut packed, &count);
        // What is broken is told as such only if it is not something else altogether.
        if matches!(&plain, Ok(_) | Err(OciError::Blob { .. })) {
            io::copy(&mut packed, &mut io::sink()).map_err(|source| self.broken(source))?;
            if let Some(hash) = packed.into_inner().hash {
                self.blob.check(digest(hash), count.get())?;
            }
        }
        let (range, hash) = plain?;
        hash.map_or(Ok(()), |hash| self.blob.check_plain(digest(hash)))?;
        Ok(range)
    }

    fn decompress(
        &mut self,
        packed: &mut impl BufRead,
        count: &Cell<u64>,
    ) -> Result<(Range<u64>, Option<Sha256>), OciError> {
        self.spool.align()?;
        let start = self.spool.end();
        let mut plain = decoder(packed).map_err(|source| self.broken(source))?;
        let mut hash = self.blob.diff_id.is_some().then(Sha256::new);
        let mut buffer = vec![0; BUFFER];
        loop {
            match plain.read(&mut buffer) {
                Ok(0) => return Ok((start..self.spool.end(), hash)),
                Ok(read) => {
                    hash.iter_mut().for_each(|hash| hash.update(&buffer[..read]));
                    self.spool.put(&buffer[..read])?;
                }
                Err(source) => return Err(self.broken(source)),
            }
            self.check(self.spool.end() - start, count.get())?;
            (self.progress)(count.get());
        }
    }

    fn check(&self, plain: u64, packed: u64) -> Result<(), OciError> {
        self.limits.hold(self.spool.end(), self.limits.bytes, "bytes")?;
        let ratio = self.limits.ratio;
        if plain.saturating_sub(FREE) > packed.saturating_mul(ratio) {
            return Err(OciError::Ratio { what: self.blob.name.clone(), ratio });
        }
        Ok(())
    }

    fn broken(&self, source: io::Error) -> OciError {
        OciError::Blob { what: self.blob.name.clone(), source }
    }
}

/// Counts what is read through it, and hashes it where its digest is known.
struct Packed<'a, R> {
    from: R,
    hash: Option<Sha256>,
    count: &'a Cell<u64>,
}

impl<R: Read> Read for Packed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hash.iter_mut().for_each(|hash| hash.update(&buffer[..count]));
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Told by the first bytes: media types of layers are often wrong. Several streams, one behind the
/// other, are one layer.
fn decoder<'a>(from: &'a mut impl BufRead) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    from.by_ref().take(4).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let from = Cursor::new(start).chain(from);
    Ok(match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        _ => Box::new(from),
    })
}

/// Whether something begins as a compressed layer does.
pub(super) fn is_packed(start: &[u8]) -> bool {
    matches!(Compression::of(start), Compression::Gzip | Compression::Zstd)
}

pub(super) fn digest(hash: Sha256) -> Digest {
    let digest = format!("sha256:{}", files::hex(&hash.finalize()));
    digest.parse().expect("a hash is a digest")
}
