//! A connection's bytes, cut into chunks so that each direction can end by itself: Firecracker's vsock has no
//! half-close.
//!
//! ```text
//! length u16 LE | bytes         a length of 0 is the direction's end
//! ```

/// Most bytes in one chunk.
pub const MAX_CHUNK: usize = u16::MAX as usize;

/// Size of what stands before a chunk's bytes.
pub const HEADER_LEN: usize = 2;

/// The direction has no more bytes.
pub const END: [u8; HEADER_LEN] = [0; HEADER_LEN];

/// What stands before `length` bytes, which are at least one and at most [`MAX_CHUNK`].
pub fn header(length: usize) -> [u8; HEADER_LEN] {
    debug_assert!((1..=MAX_CHUNK).contains(&length));
    (length as u16).to_le_bytes()
}

/// Finds the chunks in a stream that arrives in pieces of any size.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes of the chunk that have not arrived.
    left: usize,
    /// The first byte of a header whose second has not arrived.
    half: Option<u8>,
    ended: bool,
}

impl Reader {
    /// The next run of a connection's bytes at the front of `bytes`, which then begins after it. `None` when
    /// there is none in it; all of `bytes` was taken then, up to the direction's end.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
        while !self.ended && !bytes.is_empty() {
            if self.left > 0 {
                let (run, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= run.len();
                *bytes = rest;
                return Some(run);
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            *bytes = rest;
            match self.half.take() {
                None => self.half = Some(byte),
                Some(low) => {
                    self.left = usize::from(u16::from_le_bytes([low, byte]));
                    self.ended = self.left == 0;
                }
            }
        }
        None
    }

    /// Whether the direction has ended. A stream that ends before was cut off.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}
