//! `state.json`: what a later daemon must know to adopt a VM, or to end it.
//!
//! The file is one JSON object: `magic`, `version`, `checksum` (CRC-32 of the text of `vm`) and
//! `vm`. A file that fails any check is not trusted, and its VM is ended.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use osvm_vmm::{Identity, Saved};
use osvm_wire::message::SessionId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::id::VmId;
use crate::plan::Plan;
use crate::templates::Key;
use crate::vm::{Facts, LeftTalk, Timings};

/// One VM as it is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// `$OSVM_HOME` of the daemon that made the VM: no other may touch it.
    pub(crate) home: PathBuf,
    pub(crate) id: VmId,
    pub(crate) plan: Plan,
    pub(crate) created: SystemTime,
    /// Present once the VMM runs.
    pub(crate) machine: Option<Saved>,
    /// Servers of the folders that it is lent.
    #[serde(default)]
    pub(crate) folders: Vec<Identity>,
    /// Present once the VM is ready.
    pub(crate) ready: Option<ReadyRecord>,
    /// Present from before it is suspended until it is ready again.
    #[serde(default)]
    pub(crate) rest: Option<Rest>,
}

/// How far a VM is that is being suspended, or woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rest {
    /// Its machine is the one there is, and may be paused.
    Begun,
    /// It is on disk. What there is of a machine is to be ended.
    Done,
}

/// What only a ready VM has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReadyRecord {
    pub(crate) facts: Facts,
    pub(crate) timings: Timings,
    /// What it is a clone of.
    #[serde(default)]
    pub(crate) template: Option<Key>,
    /// The session that made the VM ready, and what its MCP client must remember of it.
    pub(crate) session: [u8; 16],
    pub(crate) note: String,
}

impl ReadyRecord {
    pub(crate) fn left(&self) -> LeftTalk {
        LeftTalk { session: SessionId(self.session), note: self.note.clone() }
    }
}

#[derive(Debug, Error)]
pub(crate) enum RecordError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("trust {}: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
}

impl RecordError {
    /// Whether there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    magic: String,
    version: u32,
    checksum: u32,
    #[serde(borrow)]
    vm: &'a RawValue,
}

const MAGIC: &str = "osvm-vm";
const VERSION: u32 = 1;
/// Far above any honest record: commands and environments are bounded by what a client may send.
const MAX_BYTES: u64 = 4 << 20;

impl Record {
    pub(crate) fn save(&self, path: &Path) -> Result<(), RecordError> {
        let failed = |source| RecordError::Write { path: path.to_owned(), source };
        let text = self.to_text().map_err(|error| failed(error.into()))?;
        let temporary = path.with_extension("json.new");
        write_new(&temporary, &text).map_err(failed)?;
        fs::rename(&temporary, path).map_err(failed)
    }

    pub(crate) fn load(path: &Path) -> Result<Self, RecordError> {
        let mut text = String::new();
        fs::File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .map_err(|source| RecordError::Read { path: path.to_owned(), source })?;
        Self::from_text(&text).map_err(|what| RecordError::Damaged { path: path.to_owned(), what })
    }

    pub(crate) fn to_text(&self) -> serde_json::Result<String> {
        let vm = serde_json::value::to_raw_value(self)?;
        serde_json::to_string(&Envelope {
            magic: MAGIC.to_owned(),
            version: VERSION,
            checksum: crc32fast::hash(vm.get().as_bytes()),
            vm: &vm,
        })
    }

    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        if text.len() as u64 > MAX_BYTES {
            return Err(format!("it is longer than {MAX_BYTES} bytes"));
        }
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        if envelope.magic != MAGIC {
            return Err("it is no VM record".to_owned());
        }
        if envelope.version != VERSION {
            return Err(format!("its version is {}, known is {VERSION}", envelope.version));
        }
        if envelope.checksum != crc32fast::hash(envelope.vm.get().as_bytes()) {
            return Err("its checksum does not match".to_owned());
        }
        serde_json::from_str(envelope.vm.get()).map_err(|error| error.to_string())
    }
}

/// Synced to the file system, so that a rename never shows half a file.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
