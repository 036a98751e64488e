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
/// Of a server that has run in the template's machine, and is gone.
const REHEARSED: SessionId = SessionId(*b"has run for once");

/// A template, whether it is there yet or not.
pub(crate) struct Beginning {
    pub(crate) key: Key,
    pub(crate) content: Content,
}

/// What is in a template beside a guest that has booted.
pub(crate) enum Content {
    /// A server that waits to be spoken to.
    Waiting(Spawn),
    /// Those pages of the image that this server reads as it starts.
    Warm(Spawn),
    Nothing,
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
            all.push(Self { key: key.with(&server)?, content: Content::Waiting(server) });
        }
        if let Some(server) = rehearsed(plan, prepared) {
            all.push(Self { key: key.with(&server)?, content: Content::Warm(server) });
        }
        all.push(Self { key, content: Content::Nothing });
        Ok(all)
    }

    pub(crate) fn is_warm(&self) -> bool {
        matches!(self.content, Content::Warm(_))
    }
}

/// The server, if it may wait in a template: it is given nothing that comes later.
fn waiting(plan: &Plan, prepared: &Prepared) -> Option<Spawn> {
    let may = plan.template == TemplateLevel::Started
        && plan.secrets.is_empty()
        && reach::ports(plan).is_empty();
    server(plan, prepared, WAITING).filter(|_| may)
}

/// The server with nothing of its environment but the image's own, where there are pages to be read.
fn rehearsed(plan: &Plan, prepared: &Prepared) -> Option<Spawn> {
    prepared.disk.as_ref()?;
    let server = server(plan, prepared, REHEARSED)?;
    Some(Spawn { env: prepared.image.env.clone(), ..server })
}

fn server(plan: &Plan, prepared: &Prepared, session: SessionId) -> Option<Spawn> {
    let serves = plan.purpose == Purpose::Serve;
    let server = serves.then(|| plan.server_in(&prepared.image, session))?;
    (!server.argv.is_empty()).then_some(server)
}
