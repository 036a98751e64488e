//! FUSE's messages to a lent folder: whatever they ask, nothing beside the folder is seen or changed, nothing in one that
//! is lent to be read, and nothing that makes the host run code.

mod scene;

use osvm_egress::fuzz::Share;
use osvm_spec::Access;

use crate::choice;
use scene::Scene;

/// Size of what stands before a request's own fields.
const HEADER_LEN: usize = 40;

/// Most messages of one input.
const MOST: usize = 64;

/// First byte: how the folder is lent, and whether messages are whole or get a head that fits:
///
/// ```text
/// call u8 | node u8 | length u8 | the request's own fields
/// ```
pub fn folders(bytes: &[u8]) {
    let (how, bytes) = choice(bytes);
    let access = [Access::Ro, Access::Rw, Access::RwAll][usize::from(how % 3)];
    let scene = Scene::new();
    let share = Share::new(scene.lent(), access);
    for message in messages(bytes, how >= 128).into_iter().take(MOST) {
        let Some(answer) = share.answer(&message) else { continue };
        assert_eq!(answer[..4], u32::try_from(answer.len()).expect("short").to_ne_bytes());
        assert_eq!(answer[8..16], message[8..16], "it is the message's");
        assert!(!scene.tells(&answer), "what lies beside the folder is out of sight");
    }
    drop(share);
    scene.check(access);
}

fn messages(mut bytes: &[u8], are_whole: bool) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    if are_whole {
        while let Some((&length, rest)) = bytes.split_first() {
            let (message, rest) = rest.split_at(usize::from(length).min(rest.len()));
            messages.push(tamed(message.to_vec()));
            bytes = rest;
        }
    }
    while let Some((&[call, node, length], rest)) = bytes.split_first_chunk() {
        let (fields, rest) = rest.split_at(usize::from(length).min(rest.len()));
        messages.push(tamed(letter(call.into(), node.into(), fields)));
        bytes = rest;
    }
    messages
}

fn letter(call: u32, node: u64, fields: &[u8]) -> Vec<u8> {
    let mut letter = vec![0; HEADER_LEN];
    let length = u32::try_from(HEADER_LEN + fields.len()).expect("short");
    letter[..4].copy_from_slice(&length.to_ne_bytes());
    letter[4..8].copy_from_slice(&call.to_ne_bytes());
    letter[8..16].copy_from_slice(&7u64.to_ne_bytes());
    letter[16..24].copy_from_slice(&node.to_ne_bytes());
    letter.extend(fields);
    letter
}

/// What would fill the disk asks for no more than a few MiB: a guest that may write there may do that.
fn tamed(mut message: Vec<u8>) -> Vec<u8> {
    const ALLOCATE: u8 = 43;
    const COPY: u8 = 47;
    let numbers: &[usize] = match message.get(4) {
        Some(&ALLOCATE) => &[8, 16],
        Some(&COPY) => &[48],
        _ => &[],
    };
    for at in numbers {
        if let Some(high) = message.get_mut(HEADER_LEN + at + 2..HEADER_LEN + at + 8) {
            high.fill(0);
        }
    }
    message
}
