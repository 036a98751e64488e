//! The kernel's random pool. Clones of one template begin with the same one.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, Setter, ioctl};

/// `_IOW('R', 3, int[2])`, random(4).
const RNDADDENTROPY: Opcode = 0x4008_5203;
/// `_IO('R', 7)`: draw a new key from the pool now.
const RNDRESEEDCRNG: Opcode = 0x5207;

const CHUNK: usize = 64;

/// The kernel's `struct rand_pool_info` with room for one chunk.
#[repr(C)]
struct PoolInfo {
    bits: i32,
    size: i32,
    bytes: [u8; CHUNK],
}

/// Mixes the bytes in, counts them as random, and makes the kernel use them at once.
pub(super) fn add(entropy: &[u8]) -> Result<(), Errno> {
    let pool = open(c"/dev/urandom", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    for chunk in entropy.chunks(CHUNK) {
        let mut bytes = [0; CHUNK];
        bytes[..chunk.len()].copy_from_slice(chunk);
        let info = PoolInfo { bits: chunk.len() as i32 * 8, size: chunk.len() as i32, bytes };
        // SAFETY: the kernel reads a rand_pool_info, `size` bytes of it behind the two numbers, which is
        // what `PoolInfo` is laid out as; it writes nothing.
        unsafe { ioctl(&pool, Setter::<RNDADDENTROPY, PoolInfo>::new(info)) }?;
    }
    // SAFETY: this request takes no argument.
    unsafe { ioctl(&pool, NoArg::<RNDRESEEDCRNG>::new()) }
}
