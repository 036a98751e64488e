//! The VM as a whole: its clock, random pool, name and ids, what it uses, and its end.

mod boot_id;
mod clock;
mod entropy;
mod id;
pub(crate) mod power;
pub(crate) mod stats;

use std::path::Path;

use osvm_wire::message::{Prepare, Refusal};

use crate::console::say;
use crate::init::SCRATCH;

/// What an agent does to the machine it runs in. A trait, because tests run the agent in a machine whose clock and
/// power are not theirs.
pub trait Machine: Send + Sync + 'static {
    fn prepare(&self, prepare: &Prepare) -> Result<(), Refusal>;
    /// Makes it another machine than all that went on from where it was.
    fn renew_id(&self);
    /// Makes its boot another one than that which any process may have asked the kernel for.
    fn renew_boot_id(&self) -> Result<(), Refusal>;
    /// Called when all sessions have ended. Does not return in a VM.
    fn power_off(&self);
}

/// The VM that this process is PID 1 of.
pub(crate) struct Vm;

impl Machine for Vm {
    fn prepare(&self, prepare: &Prepare) -> Result<(), Refusal> {
        clock::set(prepare.unix_nanos).map_err(failed("set the clock"))?;
        entropy::add(&prepare.entropy).map_err(failed("reseed the random pool"))?;
        rustix::system::sethostname(prepare.hostname.as_bytes())
            .map_err(failed("set the host name"))
    }

    fn renew_id(&self) {
        if let Err(error) = id::renew(Path::new("/")) {
            // An odd image is no reason to have no VM.
            say(format_args!("failed to write the machine's id: {error}"));
        }
    }

    fn renew_boot_id(&self) -> Result<(), Refusal> {
        boot_id::renew(Path::new("/proc"), Path::new(SCRATCH))
            .map_err(failed("give the machine a boot id of its own"))
    }

    fn power_off(&self) {
        power::off();
    }
}

fn failed<E: Into<std::io::Error>>(act: &'static str) -> impl Fn(E) -> Refusal {
    move |error| Refusal::Failed { act: act.to_owned(), why: error.into().to_string() }
}
