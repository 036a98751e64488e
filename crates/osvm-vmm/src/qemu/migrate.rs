//! QEMU's migration, by which the state of a machine goes to a file and comes from one.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use serde_json::json;

use super::qmp::{Qmp, QmpError};

/// QEMU's name for the file that it writes to.
const LENT: &str = "state";
/// How often it is asked whether it is done.
const ASKED_EVERY: Duration = Duration::from_millis(1);
/// In bytes a second: QEMU spares networks unless it is told otherwise.
const FASTEST: u64 = 1 << 40;

/// What becomes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// It stays where it is: in a file that was or will be mapped shared.
    Stays,
    /// It moves with everything else.
    Moves,
}

/// Has a paused machine write its state.
pub(super) async fn write(
    qmp: &mut Qmp,
    to: BorrowedFd<'_>,
    memory: Memory,
) -> Result<(), QmpError> {
    qmp.lend(LENT, to).await?;
    let fast = json!({ "max-bandwidth": FASTEST });
    qmp.execute_with("migrate-set-parameters", &fast).await?;
    run(qmp, ("migrate", &format!("fd:{LENT}")), memory).await
}

/// Has a machine that waits for it read it from a descriptor that it has inherited.
pub(super) async fn read(qmp: &mut Qmp, from: RawFd, memory: Memory) -> Result<(), QmpError> {
    run(qmp, ("migrate-incoming", &format!("fd:{from}")), memory).await
}

async fn run(qmp: &mut Qmp, (command, uri): (&str, &str), memory: Memory) -> Result<(), QmpError> {
    let stays = memory == Memory::Stays;
    let stays = json!([{ "capability": "x-ignore-shared", "state": stays }]);
    qmp.execute_with("migrate-set-capabilities", &json!({ "capabilities": stays })).await?;
    qmp.execute_with(command, &json!({ "uri": uri })).await?;
    loop {
        let progress = qmp.execute("query-migrate").await?;
        match progress["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let why = progress["error-desc"].as_str().unwrap_or("it does not say why");
                return Err(QmpError::Refused(format!("{command}: {why}")));
            }
            _ => tokio::time::sleep(ASKED_EVERY).await,
        }
    }
}
