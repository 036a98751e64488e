//! What a VM may begin from.

use std::io;
use std::path::Path;

use osvm_spec::TemplateLevel;
use osvm_vmm::Driver;
use osvm_wire::message::{SessionId, Spawn};

use super::Key;
use crate::plan::{Plan, Purpose};
use crate::prepare::Prepared;
use crate::reach;

/// Of the server that waits in a template: the same in all of them, and so in all of their clones.
const WAITING: SessionId = SessionId(*b"waits for a host");

/// A template, whether it is there yet or not.
pub(crate) struct Beginning {
    pub(crate) key: Key,
    /// The server that waits in it.
    pub(crate) waiting: Option<Spawn>,
}

impl Beginning {
    /// Those that the VM may have, the best one first; none where it has to boot.
    pub(crate) fn all(
        plan: &Plan,
        prepared: &Prepared,
        driver: &dyn Driver,
        proc: &Path,
    ) -> io::Result<Vec<Self>> {
        if plan.template == TemplateLevel::None || !driver.capabilities().snapshot {
            return Ok(Vec::new());
        }
        let key = Key::of(plan, prepared, driver, proc)?;
        let mut all = Vec::new();
        if let Some(server) = waiting(plan, prepared) {
            all.push(Self { key: key.with(&server)?, waiting: Some(server) });
        }
        all.push(Self { key, waiting: None });
        Ok(all)
    }
}

/// The server, if it may wait in a template: it is given nothing that comes later.
fn waiting(plan: &Plan, prepared: &Prepared) -> Option<Spawn> {
    let may = plan.template == TemplateLevel::Started
        && plan.purpose == Purpose::Serve
        && plan.secrets.is_empty()
        && reach::ports(plan).is_empty();
    let server = may.then(|| plan.server_in(&prepared.image, WAITING))?;
    (!server.argv.is_empty()).then_some(server)
}
