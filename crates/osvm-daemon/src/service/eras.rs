//! Whether servers that were met in the legacy era speak the modern one, too. Each is asked once for its image and
//! command, in a session that is thrown away, since the question can end a server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use osvm_fleet::Vm;
use osvm_fleet::state::State;
use osvm_mcp::{Client, Limits, ServerInfo};
use tokio::sync::OnceCell;

use super::greet::myself;

/// How long a server may take to answer; one that does not is taken for one of the legacy era.
const ASKED_WITHIN: Duration = Duration::from_secs(20);
/// Servers that are remembered. More of them, and all are asked again.
const MOST: usize = 1_000;

type Answer = OnceCell<Option<ServerInfo>>;

#[derive(Default)]
pub(super) struct Eras(Mutex<HashMap<String, Arc<Answer>>>);

impl Eras {
    /// What a VM's server says of itself to clients of the modern era, if it speaks that. An error says that this could
    /// not be found out.
    pub(super) async fn modern(&self, vm: &Vm<Client>) -> Result<Option<ServerInfo>, ()> {
        let image = vm.facts().ok_or(())?.image;
        let key = format!("{image} {:?} {:?}", vm.plan.command, vm.plan.args);
        let answer = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            Arc::clone(known.entry(key).or_default())
        };
        let asked = answer.get_or_try_init(|| ask(vm)).await;
        asked.cloned()
    }
}

/// An error says that the answer is none of the server's.
async fn ask(vm: &Vm<Client>) -> Result<Option<ServerInfo>, ()> {
    let server = vm.start_server().await.map_err(drop)?;
    let (session, limits) =
        (server.session, Limits { handshake: ASKED_WITHIN, ..Limits::default() });
    let met = Client::connect_modern(server.stdout, server.stdin, myself(), limits).await;
    let is_up = vm.state() == State::Ready;
    vm.close(session).await;
    match met {
        Ok(client) => Ok(Some(client.server().clone())),
        Err(_) if is_up => Ok(None),
        Err(_) => Err(()),
    }
}
