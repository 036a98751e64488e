//! The agent as the first process, which reaps everybody's children.

use std::time::Duration;

use osvm_wire::message::*;

use super::host::*;
use crate::agent::{Agent, Settings};
use crate::alone;

/// A program that leaves orphans behind, some of which end at once and some later, and then ends with `code`.
fn leaves_orphans(number: u8, code: i32) -> Spawn {
    let script = "for i in 1 2 3; do (sh -c ': &' &) ; (sleep 0.0$i &); done; exit";
    shell(number, &format!("{script} {code}"))
}

fn missing(number: u8) -> Spawn {
    let argv = vec!["/no/such/program".to_owned()];
    Spawn { argv, ..shell(number, "") }
}

/// Every start fails, or has its exit told, whatever else is reaped while it goes on.
async fn start_many() {
    let agent = Agent::start(Settings { as_init: true, ..settings() }, Dummy::default()).unwrap();
    for round in 0..8u8 {
        let starts = (0..8u8).map(|index| {
            let (agent, number) = (agent.clone(), round * 16 + index);
            tokio::spawn(async move {
                let failed = refusal(&agent, Request::Spawn(missing(number + 8))).await;
                assert!(matches!(failed, Refusal::FileNotFound { .. }), "{failed}");
                let code = i32::from(index);
                let client = Client::run(&agent, leaves_orphans(number, code), b"").await;
                assert_eq!(client.code(), Some(Outcome::Code(code)));
            })
        });
        for start in starts.collect::<Vec<_>>() {
            start.await.unwrap();
        }
    }
    let is_alone = || async {
        // Nobody's child is left, dead or alive.
        matches!(
            rustix::process::wait(rustix::process::WaitOptions::NOHANG),
            Err(rustix::io::Errno::CHILD)
        )
    };
    eventually("the end of all orphans", is_alone).await;
}

#[test]
fn as_the_first_process_the_agent_tells_every_exit_and_leaves_no_orphan() {
    if alone::inside_as_init() {
        assert_eq!(std::process::id(), 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), start_many()).await.expect("in time");
        });
    }
}
