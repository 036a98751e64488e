//! What servers have said of themselves, on disk: a file for each image, command and environment, so that they need not
//! be started to say it again.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use osvm_fleet::state::State;
use osvm_fleet::{Plan, Rootfs, StartedBy, Vm};
use osvm_mcp::{Client, Manifest, News, OnBehalf};
use osvm_spec::config::TokenName;
use osvm_spec::{Digest, Folder, Hosts, Secrets, ServerName};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Daemon;
use super::glance::Glance;
use super::hidden;
use crate::api::{ApiError, RunRequest};
use crate::text_file;

/// Files of one home. Beyond that, those go that have not been changed for the longest time.
const MOST: usize = 2_000;
/// Bytes that make names nobody can guess secrets from.
const SALT: &str = "salt";

/// What is known of which server.
pub(super) struct Manifests(Arc<Place>);

struct Place {
    path: PathBuf,
    salt: OnceLock<[u8; 32]>,
    /// Held while a file is changed.
    changing: Mutex<()>,
}

/// The manifest of a server that always says the same of itself.
#[derive(Clone)]
pub(super) struct Kept {
    file: PathBuf,
    /// None of them is written down.
    secrets: Vec<String>,
    folder: Arc<Place>,
}

impl Daemon {
    /// That of the server that a client wants, if it can be told from others without being started. An error says why it
    /// can't be started.
    pub(super) fn manifest(
        &self,
        glance: &Glance,
        name: &ServerName,
        request: &RunRequest,
    ) -> Result<Option<Kept>, ApiError> {
        let up = self.fleet.get(name).filter(|vm| !vm.state().is_end());
        let server = match &up {
            Some(_) => self.resolve_in(&glance.config, name, &request.overrides)?,
            None => self.registered(&glance.config, name, &request.overrides)?,
        };
        let plan = self.plan(server, request.secrets.clone(), StartedBy::Auto)?;
        let on_behalf = request.on_behalf.as_ref();
        match up.map(|vm| (vm.state(), vm)) {
            // It serves as it was started, whatever the configuration says by now.
            Some((State::Ready | State::Suspended, vm)) if request.secrets.is_empty() => {
                return Ok(self.manifest_of(&vm, on_behalf));
            }
            // Which image that has is known once it is ready.
            Some((State::Preparing | State::Booting, _)) => return Ok(None),
            _ => {}
        }
        let image = match &plan.rootfs {
            Rootfs::Image(digest) => Some(digest.clone()),
            Rootfs::Path(path) => glance.current(&self.images, path),
        };
        let secrets = &request.secrets;
        Ok(image.and_then(|image| self.kept(&image, &plan, secrets, on_behalf)))
    }

    /// That of a VM's server.
    pub(super) fn manifest_of(
        &self,
        vm: &Vm<Client>,
        on_behalf: Option<&OnBehalf>,
    ) -> Option<Kept> {
        self.kept(&vm.facts()?.image, &vm.plan, &vm.secrets(), on_behalf)
    }

    fn kept(
        &self,
        image: &Digest,
        plan: &Plan,
        secrets: &Secrets,
        on_behalf: Option<&OnBehalf>,
    ) -> Option<Kept> {
        let accepted = match &plan.locked {
            Some(name) => Some((name, self.greeter.0.lock.of_server(name).ok()?)),
            None => None,
        };
        let token = on_behalf.map(OnBehalf::holder);
        self.manifests.of(&Told {
            image,
            command: [&plan.command, &plan.args],
            env: &plan.env,
            secrets: secrets.pairs().collect(),
            reach: (&plan.hosts, &plan.folders),
            process: [plan.user.as_deref(), plan.working_dir.as_deref()],
            accepted: accepted.map(|(name, accepted)| (name, format!("{accepted:?}"))),
            token: token.filter(|token| *token != TokenName::DEFAULT),
        })
    }
}

impl Manifests {
    pub(super) fn in_folder(path: PathBuf) -> Self {
        Self(Arc::new(Place { path, salt: OnceLock::new(), changing: Mutex::default() }))
    }

    /// Nothing where there can be no file.
    fn of(&self, told: &Told<'_>) -> Option<Kept> {
        let mut hash = Sha256::new_with_prefix(self.0.salt().ok()?);
        hash.update(serde_json::to_vec(told).expect("its keys are texts"));
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let secrets = told.secrets.iter().map(|(_, value)| (*value).clone()).collect();
        Some(Kept { file: self.0.path.join(name), secrets, folder: Arc::clone(&self.0) })
    }
}

impl Kept {
    pub(super) fn read(&self) -> Manifest {
        let text = fs::read_to_string(&self.file);
        text.map(|text| Manifest::parse(&text)).unwrap_or_default()
    }

    /// Others may have learnt something else meanwhile. What can't be written is learnt again.
    pub(super) fn add(&self, news: Vec<News>) {
        let _changing = self.folder.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut manifest = self.read();
        let is_new = manifest.is_empty();
        news.into_iter().for_each(|news| manifest.add(news));
        let text = manifest.to_text();
        if hidden::tells(&text, &self.secrets) {
            let _ = fs::remove_file(&self.file);
            return;
        }
        let written = text_file::replace(&self.file, text.as_bytes());
        let tidied = written.and_then(|()| if is_new { self.folder.tidy() } else { Ok(()) });
        if let Err(error) = tidied {
            tracing::warn!(file = %self.file.display(), %error, "a manifest is not kept");
        }
    }
}

/// All that a server may tell itself from others by.
#[derive(Serialize)]
struct Told<'a> {
    image: &'a Digest,
    command: [&'a [String]; 2],
    env: &'a [(String, String)],
    secrets: Vec<(&'a String, &'a String)>,
    reach: (&'a Hosts, &'a [Folder]),
    process: [Option<&'a str>; 2],
    /// What its user has accepted of it: lists of another's, or of before, are held against nothing.
    accepted: Option<(&'a ServerName, String)>,
    /// What the holder of a token is told is nobody else's, and neither is what all are told who share a process; the
    /// gateway's own token is the user's.
    token: Option<&'a str>,
}

impl Place {
    fn salt(&self) -> io::Result<&[u8; 32]> {
        if let Some(salt) = self.salt.get() {
            return Ok(salt);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let path = self.path.join(SALT);
        let salt = match read_salt(&path) {
            Some(salt) => salt,
            None => {
                let mut salt = [0; 32];
                getrandom::fill(&mut salt).map_err(io::Error::other)?;
                text_file::replace(&path, &salt)?;
                salt
            }
        };
        Ok(self.salt.get_or_init(|| salt))
    }

    fn tidy(&self) -> io::Result<()> {
        let files = fs::read_dir(&self.path)?.collect::<io::Result<Vec<_>>>()?;
        if files.len() <= MOST {
            return Ok(());
        }
        let age = |file: &fs::DirEntry| Some((file.metadata().ok()?.modified().ok()?, file.path()));
        let mut files: Vec<_> =
            files.iter().filter(|file| file.file_name() != SALT).filter_map(age).collect();
        files.sort();
        let many = files.len().saturating_sub(MOST - MOST / 10);
        files[..many].iter().try_for_each(|(_, path)| fs::remove_file(path))
    }
}

fn read_salt(path: &Path) -> Option<[u8; 32]> {
    fs::read(path).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<'a>(image: &'a Digest, secret: Option<&'a (String, String)>) -> Told<'a> {
        static NONE: Hosts = Hosts { allow: Vec::new(), allow_private: Vec::new() };
        Told {
            image,
            command: [&[], &[]],
            env: &[],
            secrets: secret.into_iter().map(|(name, value)| (name, value)).collect(),
            reach: (&NONE, &[]),
            process: [None, None],
            accepted: None,
            token: None,
        }
    }

    #[test]
    fn servers_are_told_apart_and_nobody_can_guess_how() {
        let folder = tempfile::tempdir().unwrap();
        let manifests = Manifests::in_folder(folder.path().join("manifests"));
        let image = |digit: &str| Digest::of_hex(&digit.repeat(64)).unwrap();
        let (zero, one, name) = (image("0"), image("1"), "a".parse().unwrap());
        let secret = ("S".to_owned(), "a\"b/c".to_owned());
        let file = |told: Told<'_>| manifests.of(&told).unwrap().file;
        let plain = file(told(&zero, None));
        assert_eq!(file(told(&zero, None)), plain);
        let env = [("A".to_owned(), "b".to_owned())];
        for other in [
            told(&one, None),
            told(&zero, Some(&secret)),
            Told { env: &env, ..told(&zero, None) },
            Told { accepted: Some((&name, "x".to_owned())), ..told(&zero, None) },
            Told { token: Some("t"), ..told(&zero, None) },
        ] {
            assert_ne!(file(other), plain);
        }
        let again = Manifests::in_folder(folder.path().join("manifests"));
        assert_eq!(again.of(&told(&zero, None)).unwrap().file, plain, "the salt stays");
        let other = tempfile::tempdir().unwrap();
        let elsewhere = Manifests::in_folder(other.path().to_owned());
        let elsewhere = elsewhere.of(&told(&zero, None)).unwrap().file;
        assert_ne!(elsewhere.file_name(), plain.file_name());
    }
}
