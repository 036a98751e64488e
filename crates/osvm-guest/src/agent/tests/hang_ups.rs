//! Streams that break at any byte: nothing of a session is lost, nothing comes twice.

use std::sync::Arc;

use osvm_wire::message::*;
use osvm_wire::session::MAX_DATA;

use super::host::*;
use crate::agent::Agent;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// One below `limit`.
    fn next(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Spawns over streams that break, as a host would: again until it works, or the session exists.
async fn spawn_over(agent: &Arc<Agent>, spawn: &Spawn, cuts: &mut Numbers) {
    loop {
        let mut talk = dial(agent, cuts.next(300));
        let asked = talk.outgoing.send(&Request::Spawn(spawn.clone())).await;
        let reply = match asked {
            Ok(()) => talk.incoming.receive().await.unwrap_or(None),
            Err(_) => None,
        };
        match reply {
            None => {}
            Some(Reply::Spawned { .. } | Reply::Refused(Refusal::SessionExists(_))) => return,
            Some(other) => panic!("unexpected {other:?}"),
        }
    }
}

/// Attaches and carries until the stream breaks.
async fn carry_over(agent: &Arc<Agent>, client: &mut Client, bytes: usize) {
    let mut talk = dial(agent, bytes);
    let attach = Attach { session: id(1), received: Some(client.received()) };
    if talk.outgoing.send(&Request::Attach(attach)).await.is_err() {
        return;
    }
    let Ok(Some(reply)) = talk.incoming.receive().await else { return };
    let Reply::Attached(attached) = reply else { panic!("unexpected {reply:?}") };
    client.stdin.rewind(attached.stdin_received).unwrap();
    client.stdin.ack(attached.stdin_taken).unwrap();
    client.stdout.count.repeat_ack();
    client.stderr.count.repeat_ack();
    let _ = client.carry(&mut talk, Client::is_over).await;
}

async fn no_byte_is_lost_or_doubled(seed: u64) {
    let agent = agent();
    let mut cuts = Numbers(seed);
    let input: Vec<u8> = (0..400_000).map(|at| (at % 251) as u8).collect();
    spawn_over(&agent, &shell(1, "tee /dev/stderr; exit 9"), &mut cuts).await;
    let mut client = Client::new(&input);
    let mut hang_ups = 0;
    while !client.is_over() {
        // Some streams break at once, some after many frames.
        let bytes = if cuts.next(3) == 0 { cuts.next(200) } else { cuts.next(6 * MAX_DATA) };
        carry_over(&agent, &mut client, bytes).await;
        hang_ups += 1;
        assert!(hang_ups < 10_000, "no progress");
    }
    assert!(hang_ups > 5, "the link broke only {hang_ups} times");
    assert!(client.stdout.bytes == input && client.stderr.bytes == input);
    assert_eq!(client.code(), Some(Outcome::Code(9)));
}

#[tokio::test]
async fn no_byte_is_lost_or_doubled_over_many_hang_ups() {
    for seed in 0..8 {
        no_byte_is_lost_or_doubled(seed).await;
    }
}
