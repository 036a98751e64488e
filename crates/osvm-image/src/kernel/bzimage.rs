//! A compressed kernel, as `Documentation/arch/x86/boot.rst` of the Linux sources describes it:
//! real-mode code, a header in it, and the compressed `vmlinux` as its payload.

use thiserror::Error;

use crate::decompress;

/// Why no kernel comes out of a `bzImage`.
#[derive(Debug, Error)]
pub enum BzImageError {
    #[error("it is not a bzImage")]
    Magic,
    #[error("it is cut short: {found} of {expected} bytes")]
    Truncated { found: usize, expected: usize },
    #[error("its boot protocol {major}.{minor} is older than 2.8", major = .0 >> 8, minor = .0 & 255)]
    Old(u16),
    #[error(
        "its payload is compressed in a way that is not known here (gzip, xz, zstd and lz4 are)"
    )]
    Compression,
    #[error("its payload can't be decompressed")]
    Payload(#[source] std::io::Error),
}

/// A kernel unpacked is tens of MiB; a debug build of everything stays below this.
pub(super) const MAX_KERNEL: usize = 1 << 30;
/// What is packed into a `bzImage` has no debugging symbols any more.
const MAX_PAYLOAD: usize = 256 << 20;

/// Size of the part whose fields are read below.
const HEADER: usize = 0x250;
const SECTOR: usize = 512;

/// A whole compressed kernel.
pub(super) struct BzImage<'a> {
    bytes: &'a [u8],
    /// Where the protected-mode code begins.
    code: usize,
}

pub(super) fn is_bzimage(start: &[u8]) -> bool {
    start.get(0x1fe..0x200) == Some(&[0x55, 0xaa]) && start.get(0x202..0x206) == Some(b"HdrS")
}

impl<'a> BzImage<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, BzImageError> {
        if !is_bzimage(bytes) {
            return Err(BzImageError::Magic);
        }
        if bytes.len() < HEADER {
            return Err(BzImageError::Truncated { found: bytes.len(), expected: HEADER });
        }
        let image = Self { bytes, code: (usize::from(bytes[0x1f1]) + 1) * SECTOR };
        let protocol = image.u16(0x206);
        // 2.8 brought the fields that say where the payload is.
        if protocol < 0x208 {
            return Err(BzImageError::Old(protocol));
        }
        let expected = image.code.saturating_add((image.u32(0x1f4)).saturating_mul(16));
        if bytes.len() < expected {
            return Err(BzImageError::Truncated { found: bytes.len(), expected });
        }
        Ok(image)
    }

    /// As in `uname -r`: the first word of the string that the header points to.
    pub(super) fn version(&self) -> Option<String> {
        let start = usize::from(self.u16(0x20e)) + SECTOR;
        let text = self.bytes.get(start..)?;
        let text = &text[..text.len().min(256)];
        let word = text.split(|byte| *byte == b' ' || *byte == 0).next()?;
        let printable = !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
        printable.then(|| String::from_utf8_lossy(word).into_owned())
    }

    /// The `vmlinux` inside.
    pub(super) fn vmlinux(&self) -> Result<Vec<u8>, BzImageError> {
        let start = self.code.saturating_add(self.u32(0x248));
        let end = start.saturating_add(self.u32(0x24c));
        let truncated = BzImageError::Truncated { found: self.bytes.len(), expected: end };
        let payload = self.bytes.get(start..end).ok_or(truncated)?;
        if decompress::Compression::of(payload) == decompress::Compression::None {
            return Err(BzImageError::Compression);
        }
        decompress::decompress_bounded(payload, MAX_PAYLOAD).map_err(BzImageError::Payload)
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn u32(&self, at: usize) -> usize {
        let bytes = self.bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decompress::tests::{gzip, lz4, zstd};

    /// A `bzImage` of the given payload, with a version string.
    pub(in crate::kernel) fn bzimage(payload: &[u8]) -> Vec<u8> {
        const SECTORS: u8 = 3;
        let mut image = vec![0; (usize::from(SECTORS) + 1) * SECTOR];
        image[0x1f1] = SECTORS;
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x20e..0x210].copy_from_slice(&0x200_u16.to_le_bytes());
        image[0x400..0x414].copy_from_slice(b"6.1.0-test (me) #1\0\0");
        let padded = payload.len().next_multiple_of(16);
        image[0x1f4..0x1f8].copy_from_slice(&u32::try_from(padded / 16).unwrap().to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(payload);
        image.resize(image.len() + padded - payload.len(), 0);
        image
    }

    /// The size that the kernel's build appends to every payload but gzip's.
    fn sized(mut packed: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
        packed.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        packed
    }

    /// [`code`] packed with `xz --check=crc32 --x86 --lzma2=dict=1MiB`, as a kernel's build does.
    const XZ_X86: &[u8] = include_bytes!("../../tests/data/calls.xz");

    /// Calls of a few addresses from many: what the x86 filter of xz rewrites.
    fn code() -> Vec<u8> {
        let call = |i: u32| {
            let target = 0x10000 + (i % 7) * 64;
            let relative = target.wrapping_sub(i * 7 + 5).to_le_bytes();
            [&[0xe8], relative.as_slice(), &[0x90, u8::try_from(i % 251).unwrap()]].concat()
        };
        (0..2000).flat_map(call).collect()
    }

    #[test]
    fn the_payload_comes_out_of_every_compression() {
        let code = code();
        let sizeless = [zstd(&code), lz4(&code), XZ_X86.to_vec()];
        for packed in sizeless.map(|packed| sized(packed, &code)).into_iter().chain([gzip(&code)]) {
            let image = bzimage(&packed);
            let vmlinux = BzImage::new(&image).unwrap().vmlinux().unwrap();
            assert!(vmlinux == code, "compression {:x?}", &packed[..4]);
        }
    }

    #[test]
    fn the_version_is_its_first_word() {
        let image = bzimage(&gzip(b"x"));
        assert_eq!(BzImage::new(&image).unwrap().version().unwrap(), "6.1.0-test");
    }

    #[test]
    fn a_cut_image_says_how_much_is_there() {
        let image = bzimage(&gzip(&[1; 1000]));
        let cut = BzImage::new(&image[..image.len() - 1]).err().unwrap();
        assert!(cut.to_string().contains(&format!("of {} bytes", image.len())), "{cut}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<(usize, u8)>(), 0..40)) {
            let mut image = bzimage(&gzip(&[1; 1000]));
            for (at, byte) in noise {
                let at = at % image.len();
                image[at] = byte;
            }
            if let Ok(image) = BzImage::new(&image) {
                let _ = (image.version(), image.vmlinux());
            }
        }
    }
}
