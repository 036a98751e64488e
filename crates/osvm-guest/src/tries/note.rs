//! What was asked for, each path once, on its way to the host: not too much of it, however much processes ask.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osvm_wire::HOSTS_PORT;
use osvm_wire::grant::{Grants, HostRequest, SYSTEM_FOLDERS, TriedPath};
use tokio::sync::Notify;

use super::filter::Watched;
use super::listen;
use crate::reach::{Host, tell};

/// Most paths that are told, and the longest.
const MOST: usize = 2048;
const LONGEST: usize = 1024;

/// Most bytes of paths in one message: the host reads no long ones.
const MOST_AT_ONCE: usize = 2048;

/// Pause before what was noted is told, so that much of it is told at once.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the host may take for one message.
const WITHIN: Duration = Duration::from_secs(10);

/// All that processes tried. Clones are the same.
#[derive(Clone)]
pub(crate) struct Tries(Arc<Notes>);

pub(super) struct Notes {
    /// Where folders are lent.
    lent: Vec<String>,
    noted: Mutex<Noted>,
    more: Notify,
    host: Host,
}

#[derive(Default)]
struct Noted {
    /// Whether each was to be written.
    known: BTreeMap<String, bool>,
    waiting: Vec<TriedPath>,
}

impl Tries {
    /// Tells the host from now on. To be called inside a Tokio runtime.
    pub(crate) fn start(grants: &Grants, host: Host) -> Self {
        let lent = grants.folders.iter().map(|folder| folder.at.clone()).collect();
        let (noted, more) = (Mutex::default(), Notify::new());
        let notes = Arc::new(Notes { lent, noted, more, host });
        tokio::spawn(tell_all(Arc::clone(&notes)));
        Self(notes)
    }

    /// Looks at the calls of a session's processes.
    pub(crate) fn listen(&self, watched: Watched) {
        listen::start(watched, Arc::clone(&self.0));
    }

    /// Paths among a command's arguments, also as in `--root=/data`.
    pub(crate) fn named_by(&self, argv: &[String]) {
        let values = argv.iter().skip(1).map(|word| match word.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => value,
            _ => word,
        });
        values.for_each(|path| self.0.note(path, false, true));
    }
}

impl Notes {
    pub(super) fn asked_for(&self, path: &str, written: bool) {
        self.note(path, written, false);
    }

    fn note(&self, path: &str, written: bool, named: bool) {
        let Some(parts) = parts(path) else { return };
        let path = format!("/{}", parts.join("/"));
        let lent = self.lent.iter().find(|at| Path::new(&path).starts_with(at));
        let path = lent.cloned().unwrap_or(path);
        if path.len() > LONGEST || self.is_known(&path, written) {
            return;
        }
        let found = match lent {
            Some(at) => at.split('/').skip(1).count(),
            None if path_exists(&path) => return,
            None => existing(&parts),
        };
        let found = found.try_into().unwrap_or(u16::MAX);
        self.add(TriedPath { path, found, written, named });
    }

    fn is_known(&self, path: &str, written: bool) -> bool {
        let noted = self.noted();
        let is_full = noted.known.len() >= MOST;
        noted.known.get(path).map_or(is_full, |before| *before || !written)
    }

    fn add(&self, tried: TriedPath) {
        // First, so that it is not told before.
        self.host.owe();
        let mut noted = self.noted();
        noted.known.insert(tried.path.clone(), tried.written);
        noted.waiting.push(tried);
        drop(noted);
        self.more.notify_one();
    }

    /// What fits into one message.
    fn take(&self) -> Vec<TriedPath> {
        let waiting = &mut self.noted().waiting;
        let mut size = 0;
        let fits = waiting.iter().take_while(|tried| {
            size += tried.path.len() + 8;
            size <= MOST_AT_ONCE
        });
        let count = fits.count().max(waiting.len().min(1));
        waiting.drain(..count).collect()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts of an absolute path without detours; none of another one, nor of one among the system's own.
fn parts(path: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let first = parts.first()?;
    (!SYSTEM_FOLDERS.contains(first)).then_some(parts)
}

fn path_exists(path: &str) -> bool {
    Path::new(path).symlink_metadata().is_ok()
}

/// How many of the parts exist, from the first one on.
fn existing(parts: &[&str]) -> usize {
    let exists = |length: &usize| path_exists(&format!("/{}", parts[..*length].join("/")));
    (1..parts.len()).take_while(exists).count()
}

async fn tell_all(notes: Arc<Notes>) {
    loop {
        notes.more.notified().await;
        tokio::time::sleep(PAUSE).await;
        loop {
            let paths = notes.take();
            if paths.is_empty() {
                break;
            }
            // A host that can't be told is away; what is lost was a hint.
            let count = paths.len();
            let request = HostRequest::Tried { paths };
            let _ = tokio::time::timeout(WITHIN, tell(&notes.host, HOSTS_PORT, &request)).await;
            notes.host.told(count);
        }
    }
}
