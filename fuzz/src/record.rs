//! `state.json`: whatever is in it, it is a record or it is refused.

use crate::choice;

/// First byte: whether the rest is a whole file, or a VM's part with a head that fits.
pub fn record(bytes: &[u8]) {
    let (whole, bytes) = choice(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if whole % 2 == 0 {
        osvm_fleet::fuzz::record(text);
    } else {
        let checksum = crc32fast::hash(bytes);
        let head = format!(r#"{{"magic":"osvm-vm","version":1,"checksum":{checksum},"vm":"#);
        osvm_fleet::fuzz::record(&format!("{head}{text}}}"));
    }
}
