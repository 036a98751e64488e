//! A door for the fuzzing crate to a reader that no public item reaches. No part of the interface.

use crate::record::Record;

/// Reads a VM's record. What is believed is written and read again as the same.
pub fn record(text: &str) {
    let Ok(record) = Record::from_text(text) else { return };
    let written = record.to_text().expect("a record is plain data");
    let again = Record::from_text(&written).expect("what was written is read");
    assert_eq!(again.to_text().expect("a record is plain data"), written);
}
