//! Whether a client has begun as its era has it. Of a call that goes to the server the server sees to that; of one that
//! is handed out, nobody else does.

use serde_json::value::RawValue;

use super::call::Asked;
use super::id::Id;
use crate::bridge::{Meta, Refusal};
use crate::envelope::Envelope;
use crate::era::Era;
use crate::protocol::INVALID_REQUEST;

/// Times that a client may begin without having been answered.
const MOST: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Of the `initialize` that is not answered, as its client sends it again, too.
    asked: Vec<Id>,
    is_agreed: bool,
}

impl Handshake {
    /// The client begins, under that id.
    pub(super) fn begins(&mut self, id: Option<&RawValue>) {
        self.asked.extend(id.and_then(Id::of).filter(|_| self.asked.len() < MOST));
    }

    /// A response of the server's, under that id.
    pub(super) fn answered(&mut self, id: &Id, message: &Envelope<'_>) {
        // What some clients take for the same.
        let alike = id.alike();
        let is_it = |asked: &Id| asked == id || Some(asked) == alike.as_ref();
        if self.asked.extract_if(.., |asked| is_it(asked)).count() > 0 {
            self.is_agreed |= message.result.is_some();
        }
    }

    /// Why the client can't make that call, if so.
    pub(super) fn fault(&self, asked: &Asked<'_>) -> Option<Refusal> {
        match asked.era {
            Era::Modern => Meta::read(asked.params).err(),
            Era::Legacy if self.is_agreed => None,
            Era::Legacy => {
                let why = "tools/call has to wait until initialize is answered";
                Some(Refusal::new(INVALID_REQUEST, why))
            }
        }
    }
}
