//! Templates of this home: machines that were saved when their agents had answered, with a server that waits or without
//! one, so that others begin there.
//!
//! ```text
//! $OSVM_HOME/templates/<key's hash>/   what the driver has written, and template.json, which says what it is of
//!                     /.new-<random>/  one that is being made
//! ```
//!
//! A template is of use to machines that have everything in common with it ([`Key`]). It is made once, by whoever needs
//! it first, while others wait; but for one whose image's pages are warm, which nobody waits for ([`crate::rehearsals`]).
//! What is read from disk is held against its record; what does not fit is removed and made again.

mod beginning;
mod key;
mod record;

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use osvm_vmm::{Driver, Template};
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

use crate::drivers::{chain, vmm_cause};
use crate::remove::remove;
use crate::state::{Cause, CauseKind};
pub(crate) use beginning::{Beginning, Content};
pub(crate) use key::Key;
use record::Record;

/// Templates that are open at a time; the memory that their clones have in common is taken for as long.
const MOST_OPEN: usize = 8;
/// Templates on disk. Beyond that, those go that were used longest ago.
const MOST_KEPT: usize = 32;
const DRAFT: &str = ".new-";
/// How long no other one is made where it could not be: it takes a whole boot to find that out.
const GIVEN_UP_FOR: Duration = Duration::from_secs(600);

/// All of one home.
pub(crate) struct Templates {
    folder: PathBuf,
    open: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    slot: Slot,
    used: Instant,
}

/// Held by whoever looks for the template, or makes it.
type Slot = Arc<tokio::sync::Mutex<Known>>;

#[derive(Default)]
struct Known {
    template: Option<Arc<dyn Template>>,
    given_up: Option<Instant>,
}

/// Where one template is, or will be; nobody else looks there meanwhile.
pub(crate) struct Place {
    known: OwnedMutexGuard<Known>,
    templates: PathBuf,
    path: PathBuf,
    key: Key,
}

impl Templates {
    pub(crate) fn in_home(home: &Path) -> Self {
        Self { folder: home.join("templates"), open: Mutex::default() }
    }

    /// Waits for those who look for the same one.
    pub(crate) async fn place(&self, key: Key) -> Place {
        let known = self.slot(key.name()).lock_owned().await;
        self.place_of(key, known)
    }

    /// Whether the files of the template are in that folder, too, from now on: if they are there, in nobody's hands, and as
    /// they were written.
    pub(crate) async fn lend(&self, key: Key, folder: PathBuf) -> bool {
        let Some(place) = self.free_place(key) else { return false };
        let lent = spawn_blocking(move || {
            link_all(&place.path, &folder).map_err(|error| error.to_string())?;
            // Of another key's, somebody may just be removing what has not been used for long.
            Record::check(&folder, &place.key)
        });
        matches!(lent.await, Ok(Ok(())))
    }

    /// The one that was lent to that folder, for a machine of that key; if it still is what others are cloned from, with
    /// them.
    pub(crate) async fn lent(
        &self,
        key: Key,
        folder: PathBuf,
        driver: &dyn Driver,
    ) -> Result<Arc<dyn Template>, Cause> {
        if let Some(mut place) = self.free_place(key.clone())
            && Record::is_same(&place.path, &folder)
            && let Some(template) = place.open(driver).await
        {
            return Ok(template);
        }
        let opened = open(&folder, &key, driver).await;
        opened.unwrap_or_else(|| Err("nobody has looked at it".to_owned())).map_err(|why| {
            let message = format!("the template in {} is of no use: {why}", folder.display());
            Cause::new(CauseKind::Machine, message)
        })
    }

    fn free_place(&self, key: Key) -> Option<Place> {
        let known = self.slot(key.name()).try_lock_owned().ok()?;
        Some(self.place_of(key, known))
    }

    fn place_of(&self, key: Key, known: OwnedMutexGuard<Known>) -> Place {
        let path = self.folder.join(key.name());
        Place { known, templates: self.folder.clone(), path, key }
    }

    /// Removes what earlier daemons have begun to make. None may be being made.
    pub(crate) fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(DRAFT)
                && let Err(error) = remove(&entry.path())
            {
                tracing::warn!(draft = %entry.path().display(), %error, "clean-up");
            }
        }
    }

    /// A folder to save a machine in.
    pub(crate) fn draft(&self) -> Result<TempDir, Cause> {
        let make = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            tempfile::Builder::new().prefix(DRAFT).tempdir_in(&self.folder)
        };
        make().map_err(|error| unkept(&self.folder, &error))
    }

    /// Gives back what an open one takes; it is opened again when it is needed.
    pub(crate) fn close(&self, key: &Key) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut known) = open.get(&key.name()).and_then(|entry| entry.slot.try_lock().ok())
        {
            known.template = None;
        }
    }

    /// Those that nobody has looked for in so long and none is being cloned from, but for these. Which were closed, by name.
    pub(crate) fn close_unused(&self, unused: Duration, stay: &[String]) -> Vec<String> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let old = open
            .iter()
            .filter(|(name, entry)| entry.used.elapsed() >= unused && !stay.contains(name));
        old.filter(|(_, entry)| entry.close_unless_held()).map(|(name, _)| name.clone()).collect()
    }

    /// Whether it is in memory, and nobody waits for it.
    pub(crate) fn is_open(&self, key: &Key) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.get(&key.name()).and_then(|entry| entry.slot.try_lock().ok());
        known.is_some_and(|known| known.template.is_some())
    }

    /// With room made for it. One that is in somebody's hands stays.
    fn slot(&self, name: String) -> Slot {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while open.len() >= MOST_OPEN && !open.contains_key(&name) {
            let unused = open.iter().filter(|(_, entry)| entry.slot.try_lock().is_ok());
            let oldest = unused.min_by_key(|(_, entry)| entry.used).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            open.remove(&oldest);
        }
        let entry = open
            .entry(name)
            .or_insert_with(|| Entry { slot: Slot::default(), used: Instant::now() });
        entry.used = Instant::now();
        Arc::clone(&entry.slot)
    }
}

impl Entry {
    /// Whether there was an open one.
    fn close_unless_held(&self) -> bool {
        let Ok(mut known) = self.slot.try_lock() else { return false };
        known.template.take_if(|template| Arc::strong_count(template) == 1).is_some()
    }
}

impl Place {
    /// The template, if it was made before and is what it was.
    pub(crate) async fn open(&mut self, driver: &dyn Driver) -> Option<Arc<dyn Template>> {
        if self.known.template.is_none() {
            match open(&self.path, &self.key, driver).await? {
                Ok(template) => self.known.template = Some(template),
                Err(why) => self.remove(&why),
            }
        }
        self.known.template.clone()
    }

    /// Whether it was found a short time ago that it can't be made.
    pub(crate) fn is_given_up(&self) -> bool {
        self.known.given_up.is_some_and(|since| since.elapsed() < GIVEN_UP_FOR)
    }

    pub(crate) fn give_up(&mut self) {
        self.known.given_up = Some(Instant::now());
    }

    /// What was saved is the template from now on.
    pub(crate) async fn keep(
        &mut self,
        draft: TempDir,
        driver: &dyn Driver,
    ) -> Result<Arc<dyn Template>, Cause> {
        let (path, key, templates) = (self.path.clone(), self.key.clone(), self.templates.clone());
        let kept = spawn_blocking(move || {
            Record::write(draft.path(), &key)?;
            remove(&path)?;
            fs::rename(draft.path(), &path)?;
            prune(&templates)
        });
        let kept = kept.await.map_err(io::Error::from).flatten();
        kept.map_err(|error| unkept(&self.path, &error))?;
        let template = driver.load(&self.path).await.map_err(|error| vmm_cause(&error))?;
        self.known.template = Some(Arc::clone(&template));
        Ok(template)
    }

    /// No machine comes to be from this one; if it was made again meanwhile, that is another.
    pub(crate) fn drop(&mut self, template: &Arc<dyn Template>, why: &str) {
        if self.known.template.take_if(|open| Arc::ptr_eq(open, template)).is_some() {
            self.remove(why);
        }
    }

    fn remove(&self, why: &str) {
        if !self.path.exists() {
            return;
        }
        tracing::warn!(template = %self.path.display(), why, "template is removed");
        if let Err(error) = remove(&self.path) {
            tracing::warn!(template = %self.path.display(), %error, "template can't be removed");
        }
    }
}

/// What is in a folder, if it is as it was written, or why it is of no use; nothing where the daemon ends meanwhile.
async fn open(
    folder: &Path,
    key: &Key,
    driver: &dyn Driver,
) -> Option<Result<Arc<dyn Template>, String>> {
    let (path, key) = (folder.to_owned(), key.clone());
    let checked = spawn_blocking(move || Record::check(&path, &key)).await.ok()?;
    Some(match checked {
        Ok(()) => driver.load(folder).await.map_err(|error| chain(&error)),
        Err(why) => Err(why),
    })
}

fn unkept(path: &Path, error: &io::Error) -> Cause {
    Cause::new(
        CauseKind::Machine,
        format!("failed to keep a template in {}: {error}", path.display()),
    )
}

/// The same files under other names, in a folder that is made.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    let files = fs::read_dir(from)?;
    fs::create_dir(to)?;
    for entry in files {
        let entry = entry?;
        fs::hard_link(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Those that are used longest ago.
fn prune(templates: &Path) -> io::Result<()> {
    let age = |entry: fs::DirEntry| {
        let used = record::used(&entry.path()).or_else(|_| entry.metadata()?.modified());
        used.ok().map(|used| (used, entry.path()))
    };
    let mut all: Vec<(SystemTime, PathBuf)> =
        fs::read_dir(templates)?.flatten().filter_map(age).collect();
    all.sort();
    let many = all.len().saturating_sub(MOST_KEPT);
    all[..many].iter().try_for_each(|(_, path)| remove(path))
}

#[cfg(test)]
mod tests;
