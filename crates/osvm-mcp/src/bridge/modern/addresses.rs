//! Addresses that a legacy server wants its user to open before it does what it was asked: it fails, and is to be asked
//! again. A modern client is asked to open them, as it is asked anything else, and its retry is the request made anew.
//!
//! Others fail by the same code. What does not say what is to be opened passes as it is.

use super::super::Step;
use super::super::messages::{self, ADDRESS_REQUIRED, CAPABILITY_MISSING, Refusal};
use super::super::meta::Meta;
use super::super::splice::{Edit, each_field, edited, field, missing, quoted, without};
use super::inputs::{MOST_ASKED, USED};
use super::{Asking, ModernClient};
use crate::envelope::{Envelope, each_element};
use crate::protocol::{INTERNAL_ERROR, INVALID_PARAMS};

/// In the round's place of a state: the request is to be made anew. A call's own rounds begin with 1.
pub(super) const ANEW: u64 = 0;

/// Requests that are to be made anew at most. The oldest are none of them any more.
const MOST_ANEW: usize = 256;

const ASKS: &str = "elicitation/create";
/// What a client states that can be asked so.
const REQUIRED: &str = r#"{"elicitation":{"url":{}}}"#;

impl ModernClient {
    /// The server's answer to a call as the client's era has it.
    pub(super) fn told(&mut self, number: u64, call: &Asking, message: &Envelope<'_>) -> Vec<u8> {
        let addresses = message.error.and_then(|error| addresses(error.get()));
        let (Some(addresses), Some(inputs)) = (addresses, &call.inputs) else {
            return call.answered(message, []);
        };
        if addresses.iter().any(|params| call.offers.allow(ASKS, params).is_err()) {
            return call.answered(message, lacking(message));
        }
        let asked = addresses.iter().zip(1..).map(|(params, number)| {
            format!(r#""address-{number}":{{"method":"{ASKS}","params":{params}}}"#)
        });
        let asked = asked.collect::<Vec<_>>().join(",");
        self.anew.insert(number);
        if self.anew.len() > MOST_ANEW {
            self.anew.pop_first();
        }
        let state = quoted(&self.seal.close(number, ANEW, inputs.subject));
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{{{asked}}},"requestState":{state}}}"#
        );
        messages::result(&call.id, &result)
    }

    /// Makes a request anew whose client was asked to have addresses opened, once.
    pub(super) fn ask_anew(
        &mut self,
        number: u64,
        message: &Envelope<'_>,
        client: String,
        meta: &Meta<'_>,
        responses: &str,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        if !self.anew.remove(&number) {
            return Err(Refusal::new(INVALID_PARAMS, USED));
        }
        if !are_accepted(responses) {
            let why = "the server needs an address to be opened, and the client's user did not";
            return Err(Refusal::new(INTERNAL_ERROR, why));
        }
        let text = bare(message);
        let plain = text.as_deref().and_then(|text| Envelope::parse(text).ok());
        let plain =
            plain.ok_or_else(|| Refusal::new(INVALID_PARAMS, "the parameters are no object"))?;
        self.open(&plain, client, meta, step)
    }
}

/// What an error wants to be opened, as parameters of questions.
fn addresses(error: &str) -> Option<Vec<String>> {
    if field(error, "code")? != ADDRESS_REQUIRED {
        return None;
    }
    let (mut asked, mut is_fit) = (Vec::new(), true);
    each_element(field(field(error, "data")?, "elicitations")?, &mut |elicitation| {
        let said = elicitation.get();
        let is_url = field(said, "mode") == Some(r#""url""#) && field(said, "url").is_some();
        // The modern era has no ids of them.
        match without(said, &["elicitationId"]).filter(|_| is_url && asked.len() < MOST_ASKED) {
            Some(params) => asked.push(params),
            None => is_fit = false,
        }
        is_fit
    })
    .ok()?;
    Some(asked).filter(|asked| !asked.is_empty())
}

/// What makes such an error the one of the modern era for a client that can't be asked, with all that it says.
fn lacking<'a>(message: &Envelope<'a>) -> Vec<Edit<'a>> {
    let part = |name| message.error.and_then(|error| field(error.get(), name));
    let code = part("code").map(|part| Edit { part, with: CAPABILITY_MISSING.to_owned() });
    let data = part("data").and_then(|data| missing(data, [("requiredCapabilities", REQUIRED)]));
    code.into_iter().chain(data).collect()
}

/// Whether there are answers, none of which says no.
fn are_accepted(responses: &str) -> bool {
    let (mut many, mut accepted) = (0, 0);
    let read = each_field(responses, &mut |_, response| {
        many += 1;
        accepted += usize::from(field(response.get(), "action") == Some(r#""accept""#));
        many == accepted
    });
    read.is_some() && many > 0 && many == accepted
}

/// The request without what it brings.
fn bare(message: &Envelope<'_>) -> Option<String> {
    let part = message.params?.get();
    let with = without(part, &["inputResponses", "requestState"])?;
    Some(edited(message.text(), [Edit { part, with }]))
}
