//! What osvm wrote into clients' files, and what was there before: `$OSVM_HOME/backups/NUMBER.json` and
//! `NUMBER.original`, of the user's alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use osvm_spec::clients::{ClientFile, Spot};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::client_file::FoundFile;
use crate::environment;
use crate::error::CliError;
use crate::secret_files::make_private;

const MAGIC: &str = "osvm-backup";
const VERSION: u32 = 1;

/// One time that a file was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    magic: String,
    version: u32,
    file: PathBuf,
    /// SHA-256 of what was there before; absent where no file was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// SHA-256 of what was written.
    after: String,
    entries: Vec<Wrote>,
}

/// One entry, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wrote {
    #[serde(flatten)]
    pub(crate) spot: Spot,
    pub(crate) wrote: String,
}

/// A record that is there, and its original.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    path: PathBuf,
    record: Record,
}

/// Replaces a client's file, of which these entries are osvm's, after what was there has been kept.
pub(crate) fn replace(found: &FoundFile, text: &str, spots: &[Spot]) -> Result<Backup, CliError> {
    let file = found.parse(text)?;
    let wrote = |spot: &Spot| {
        let wrote = file.written(spot).map_err(|error| found.fault(&error))?;
        Ok(Wrote { spot: spot.clone(), wrote: wrote.unwrap_or_default().to_owned() })
    };
    let record = Record {
        magic: MAGIC.to_owned(),
        version: VERSION,
        file: found.path.clone(),
        before: found.text.as_deref().map(sum),
        after: sum(text),
        entries: spots.iter().map(wrote).collect::<Result<_, CliError>>()?,
    };
    let backup = Backup::keep(&record, found.text.as_deref())?;
    found.replace(Some(text)).inspect_err(|_| backup.forget())?;
    Ok(backup)
}

/// All of one file, or of all files, the newest first.
pub(crate) fn all(file: Option<&Path>) -> Result<Vec<Backup>, CliError> {
    let folder = folder()?;
    let listed = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| failed("list", &folder, &error))?,
    };
    let mut paths: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let mut all = Vec::new();
    for path in paths {
        all.push(Backup::load(path)?);
    }
    all.retain(|backup| file.is_none_or(|file| same(file, backup.file())));
    Ok(all)
}

impl Backup {
    fn keep(record: &Record, original: Option<&str>) -> Result<Self, CliError> {
        let folder = folder()?;
        make_private(&folder).map_err(|error| failed("make", &folder, &error))?;
        let highest = all(None)?.first().map_or(0, |newest| number(&newest.path));
        for next in highest + 1.. {
            let path = folder.join(format!("{next:04}.json"));
            let text = serde_json::to_string_pretty(record)
                .map_err(|error| CliError::failed(format!("can't describe a backup: {error}")))?;
            let backup = Self { path, record: record.clone() };
            // The original first: a record is whole when it is there.
            let kept = original.map_or(Ok(()), |text| write_new(&backup.original_path(), text));
            match kept.and_then(|()| write_new(&backup.path, &text)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    backup.forget();
                    return Err(failed("write", &backup.path, &error));
                }
                Ok(()) => return Ok(backup),
            }
        }
        Err(CliError::failed("there is no number left for a backup"))
    }

    fn load(path: PathBuf) -> Result<Self, CliError> {
        let text = fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))?;
        let damaged =
            |why: String| CliError::failed(format!("{} is damaged: {why}", path.display()));
        let record: Record =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if record.magic != MAGIC {
            return Err(damaged("it describes no backup".to_owned()));
        }
        if record.version != VERSION {
            let why = format!("its version is {}, known is {VERSION}", record.version);
            return Err(damaged(why));
        }
        Ok(Self { path, record })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.record.file
    }

    pub(crate) fn entries(&self) -> &[Wrote] {
        &self.record.entries
    }

    /// Whether a file has exactly the text that was written.
    pub(crate) fn wrote(&self, text: &str) -> bool {
        sum(text) == self.record.after
    }

    /// What was there before; `None` where no file was.
    pub(crate) fn original(&self) -> Result<Option<String>, CliError> {
        let Some(before) = &self.record.before else { return Ok(None) };
        let path = self.original_path();
        let text = fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))?;
        match sum(&text) == *before && ClientFile::parse(&text).is_ok() {
            true => Ok(Some(text)),
            false => Err(CliError::failed(format!("{} was changed", path.display()))),
        }
    }

    pub(crate) fn original_path(&self) -> PathBuf {
        self.path.with_extension("original")
    }

    /// The record goes, the original stays.
    pub(crate) fn close(&self) {
        let _ = fs::remove_file(&self.path);
    }

    pub(crate) fn forget(&self) {
        self.close();
        let _ = fs::remove_file(self.original_path());
    }
}

fn folder() -> Result<PathBuf, CliError> {
    Ok(environment::home()?.root().join("backups"))
}

fn number(path: &Path) -> u32 {
    path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or_default()
}

/// By whatever names.
fn same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(act: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("can't {act} {}: {error}", path.display()))
}
