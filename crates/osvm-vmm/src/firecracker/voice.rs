//! What Firecracker tells of itself: its log and its metrics.
//!
//! It is given named pipes for them, not files. A pipe holds 64 KiB, also while no daemon is there
//! to read; Firecracker opens it without blocking and drops what does not fit. So nothing that a
//! guest makes it write can fill the disk or stop it, and what was said while a daemon was away is
//! heard by the next one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use super::workplace::Workplace;
use crate::{CappedLog, Process, VmmError, logs};

/// In its workplace.
pub(super) const LOG_PIPE: &str = "log.pipe";
pub(super) const METRICS_PIPE: &str = "metrics.pipe";

/// A hundred minutes of metrics, kept twice.
const METRICS_CAP: u64 = 1 << 20;

/// Between two looks into a pipe: whoever floods it costs one look in that time.
const REST: Duration = Duration::from_millis(100);

/// Listens until it is dropped, or the process has ended and all it said has been written down.
#[derive(Debug)]
pub(super) struct Voice {
    tasks: [AbortHandle; 2],
    all: TaskTracker,
}

impl Voice {
    /// Makes the pipes in `place`.
    pub(super) fn make(place: &Workplace) -> Result<(), VmmError> {
        for name in [LOG_PIPE, METRICS_PIPE] {
            let path = place.path(name);
            let made = mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
            let made = made.map_err(std::io::Error::from).and_then(|()| place.hand_over(&path));
            made.map_err(|source| VmmError::File { act: "make pipe", path, source })?;
        }
        Ok(())
    }

    /// Copies what comes out of the pipes in `place` to the logs. Expects a Tokio runtime.
    pub(super) fn listen(
        place: &Workplace,
        logs: &Path,
        process: &Process,
    ) -> Result<Self, VmmError> {
        let open = |pipe, log, cap| Transcript::open(place.path(pipe), logs.join(log), cap);
        let log = open(LOG_PIPE, logs::VMM, CappedLog::CAP)?;
        let metrics = open(METRICS_PIPE, logs::METRICS, METRICS_CAP)?;
        let all = TaskTracker::new();
        let copy =
            |from: Transcript| all.spawn(from.until_the_end_of(process.clone())).abort_handle();
        let tasks = [log, metrics].map(copy);
        all.close();
        Ok(Self { tasks, all })
    }

    /// Waits until the process has ended and everything is written down that it has said.
    pub(super) async fn finish(&self) {
        self.all.wait().await;
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// One pipe and where its content goes.
struct Transcript {
    pipe: Receiver,
    log: CappedLog,
}

impl Transcript {
    fn open(pipe: PathBuf, log: PathBuf, cap: u64) -> Result<Self, VmmError> {
        let failed = |act, path| move |source| VmmError::File { act, path, source };
        Ok(Self {
            // For both directions, so that it has no end while nobody else has it open.
            pipe: OpenOptions::new()
                .read_write(true)
                .open_receiver(&pipe)
                .map_err(failed("open pipe", pipe))?,
            log: CappedLog::open(&log, cap).map_err(failed("create", log))?,
        })
    }

    async fn until_the_end_of(mut self, process: Process) {
        loop {
            tokio::select! {
                _ = process.exited() => break,
                ready = self.pipe.readable() => if ready.is_err() { return },
            }
            self.look();
            tokio::select! {
                _ = process.exited() => break,
                () = tokio::time::sleep(REST) => {}
            }
        }
        self.look();
    }

    /// Writes down what the pipe holds now, at most as much as one can hold.
    fn look(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        if let Ok(count @ 1..) = self.pipe.try_read(&mut buffer) {
            // A full disk must not stop the reading.
            let _ = self.log.write(&buffer[..count]);
        }
    }
}
