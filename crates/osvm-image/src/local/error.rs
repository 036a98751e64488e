//! Why what lies on the host can't be a server.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum LocalError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("use {}: it is a program for {is}, and servers run on {wanted}", path.display())]
    Platform { path: PathBuf, is: String, wanted: String },
    #[error("use {}: it is a library or a part of a program, and no program", path.display())]
    NoProgram { path: PathBuf },
    #[error("use {}: a script begins with a line like `#!/usr/bin/env python3`", path.display())]
    NoInterpreter { path: PathBuf },
    #[error("use {}: it is started by {interpreter}, and images have sh, bash, python3 and node", path.display())]
    Interpreter { path: PathBuf, interpreter: String },
    #[error("use {}: its name is no UTF-8", path.display())]
    Name { path: PathBuf },
    #[error("use {}: its package.json {reason}", path.display())]
    Package { path: PathBuf, reason: String },
    #[error("use {}: what it depends on is not installed in its node_modules", path.display())]
    NoModules { path: PathBuf },
    #[error("use {}: it has no {entry}, with which its package.json says that it starts", path.display())]
    NoEntry { path: PathBuf, entry: String },
    #[error("use {}: its pyproject.toml {reason}", path.display())]
    PyProject { path: PathBuf, reason: String },
    #[error(
        "use {}: its pyproject.toml has no [build-system] with [project.scripts], and there is no server.py or main.py",
        path.display()
    )]
    NoScript { path: PathBuf },
    #[error("use {}: it is called as a program that servers of others are started by", path.display())]
    Shadow { path: PathBuf },
}

impl LocalError {
    /// What to type next, if that is known.
    pub fn hint(&self) -> Option<String> {
        let within = |path: &PathBuf, act: &str| {
            let folder = osvm_spec::command::join(&[path.display().to_string()]);
            Some(format!("cd {folder} && {act}"))
        };
        match self {
            Self::NoModules { path } => within(path, "npm install"),
            Self::NoEntry { path, .. } => within(path, "npm run build"),
            Self::Shadow { path } => {
                let path = path.display().to_string();
                Some(osvm_spec::command::join(&["mv".to_owned(), path.clone(), path + "-server"]))
            }
            _ => None,
        }
    }
}
