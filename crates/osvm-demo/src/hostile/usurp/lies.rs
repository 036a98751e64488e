//! What a false agent says. Frames that are wrong in each single way are sent to the host's reader by its own
//! tests; here it takes one that only a checksum tells from a true one.

use osvm_wire::frame;
use osvm_wire::message::Reply;

/// A reply whose last byte was changed on the way.
pub(super) fn broken_checksum() -> Vec<u8> {
    let mut lie = frame::encode(&Reply::Prepared).expect("a reply without content is small");
    if let Some(last) = lie.last_mut() {
        *last ^= 0xff;
    }
    lie
}
