//! A folder that is a project of Python: what it needs, and how it starts.
//!
//! ```text
//! [project] in pyproject.toml ── uv sync ─────────> /app/.venv ── [project.scripts], server.py or main.py
//! requirements.txt ───────────── uv pip install ──> /app/.venv ── server.py or main.py
//! neither ──────────────────────────────────────────────────────── server.py or main.py
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Kind, LocalError, PROJECT, project};

const PYPROJECT: &str = "pyproject.toml";
const REQUIREMENTS: &str = "requirements.txt";
/// What is started where the project names no program, the first that there is.
const ENTRIES: [&str; 2] = ["server.py", "main.py"];
/// Its packages and programs in the guest, below [`PROJECT`].
const ENVIRONMENT: &str = ".venv/bin";

/// What of pyproject.toml decides how it starts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct PyProject {
    project: Option<Project>,
    /// Without it uv installs what the project needs, and not the project.
    build_system: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Project {
    name: String,
    scripts: BTreeMap<String, IgnoredAny>,
}

pub(super) fn is_project(folder: &Path) -> bool {
    [PYPROJECT].iter().chain(&ENTRIES).any(|name| folder.join(name).exists())
}

/// What lies beside a project as its user has it, and is made anew for the guest: environments, of this machine, and what
/// Python has compiled.
pub(super) fn is_made(path: &Path) -> bool {
    path.ends_with("__pycache__") || path.join("pyvenv.cfg").exists()
}

/// What it runs on, and how it is started.
pub(super) fn start(folder: &Path) -> Result<(Kind, Vec<String>), LocalError> {
    let PyProject { project, build_system } = read(folder)?;
    let has_needs = project.is_some() || folder.join(REQUIREMENTS).exists();
    let project = project.filter(|_| build_system.is_some()).unwrap_or_default();
    let script = project.script().map_err(|reason| refused(folder, reason))?;
    let entry = ENTRIES.iter().find(|name| folder.join(name).is_file());
    match (script, entry) {
        (Some(script), _) => Ok((Kind::Uv, vec![format!("{PROJECT}/{ENVIRONMENT}/{script}")])),
        (None, Some(entry)) if has_needs => {
            let python = format!("{PROJECT}/{ENVIRONMENT}/python");
            Ok((Kind::Uv, vec![python, format!("{PROJECT}/{entry}")]))
        }
        (None, Some(entry)) => {
            Ok((Kind::Python, vec!["python3".to_owned(), format!("{PROJECT}/{entry}")]))
        }
        (None, None) => Err(LocalError::NoScript { path: folder.to_owned() }),
    }
}

fn read(folder: &Path) -> Result<PyProject, LocalError> {
    let Some(bytes) = project::read(folder, PYPROJECT)? else { return Ok(PyProject::default()) };
    toml_edit::de::from_slice(&bytes)
        .map_err(|error| refused(folder, format!("is not understood: {}", error.message())))
}

fn refused(folder: &Path, reason: String) -> LocalError {
    LocalError::PyProject { path: folder.to_owned(), reason }
}

impl Project {
    /// The only program, or the one of its own name.
    fn script(&self) -> Result<Option<&str>, String> {
        let names: Vec<_> = self.scripts.keys().map(String::as_str).collect();
        let own = |name: &&str| normal(name) == normal(&self.name);
        let chosen = match names[..] {
            [] => return Ok(None),
            [only] => Some(only),
            _ => names.iter().copied().find(own),
        };
        match chosen {
            Some(name) if name.contains('/') => Err(format!("has a program that is called {name}")),
            Some(name) => Ok(Some(name)),
            None => {
                let names = names.join(", ");
                Err(format!("has several programs, and none of its own name: {names}"))
            }
        }
    }
}

/// As PyPI compares names.
fn normal(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}
