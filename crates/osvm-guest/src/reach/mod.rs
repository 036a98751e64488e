//! What the guest may reach outside, hosts and folders, by streams that the agent opens to the host.

mod call;
mod host;
mod hosts;

use osvm_wire::message::Refusal;

pub(crate) use self::host::{Host, HostStream, Link, Opening};

fn failed<E: std::fmt::Display>(act: impl Into<String>) -> impl FnOnce(E) -> Refusal {
    move |error| Refusal::Failed { act: act.into(), why: error.to_string() }
}
