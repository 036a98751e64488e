//! Chunks of a connection, however the stream is cut.

use crate::chunk::{END, MAX_CHUNK, Reader, header};

/// Two chunks and the end, as they travel.
fn stream(first: &[u8], second: &[u8]) -> Vec<u8> {
    let chunk = |bytes: &[u8]| [&header(bytes.len())[..], bytes].concat();
    [chunk(first), chunk(second), END.to_vec()].concat()
}

fn read(stream: &[u8], step: usize) -> (Vec<u8>, bool) {
    let (mut reader, mut all) = (Reader::default(), Vec::new());
    for mut piece in stream.chunks(step) {
        while let Some(run) = reader.next(&mut piece) {
            all.extend_from_slice(run);
        }
    }
    (all, reader.has_ended())
}

#[test]
fn chunks_are_found_however_the_stream_is_cut() {
    let (first, second) = (vec![1; MAX_CHUNK], vec![2; 300]);
    let (stream, whole) = (stream(&first, &second), [first, second].concat());
    for step in [1, 2, 3, 255, 4096, stream.len()] {
        assert_eq!(read(&stream, step), (whole.clone(), true), "in steps of {step}");
    }
}

#[test]
fn a_stream_that_was_cut_off_has_not_ended() {
    let stream = stream(b"one", b"two");
    for length in 0..stream.len() {
        assert!(!read(&stream[..length], 7).1, "after {length} bytes");
    }
}

#[test]
fn nothing_is_taken_after_the_end() {
    let mut reader = Reader::default();
    let stream = [&END[..], b"more"].concat();
    let mut rest = &stream[..];
    assert_eq!(reader.next(&mut rest), None);
    assert_eq!(rest, b"more");
    assert_eq!(reader.next(&mut rest), None);
}
