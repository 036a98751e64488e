//! Users and passwords from Docker's configuration. What it gives to helpers stays there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::RegistryError;
use crate::oci::Reference;

/// A user and a password; not for messages.
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Configuration {
    auths: HashMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// Both, packed.
    auth: String,
    username: String,
    password: String,
}

const MAX_BYTES: u64 = 1 << 20;
/// Other names under which Docker keeps its own.
const DOCKER: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

impl Credentials {
    /// For `Authorization: Basic`.
    pub(super) fn basic(&self) -> String {
        let both = format!("{}:{}", self.user, self.password);
        format!("Basic {}", BASE64_STANDARD.encode(both))
    }
}

/// Nothing when the file is not there, or has none for this registry.
pub(super) fn find(
    file: Option<&Path>,
    reference: &Reference,
) -> Result<Option<Credentials>, RegistryError> {
    let Some(path) = file else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RegistryError::Credentials { path: path.to_owned(), source }),
        Ok(_) => {}
    }
    let failed = |source| RegistryError::CredentialsForm { path: path.to_owned(), source };
    let configuration: Configuration = serde_json::from_slice(&bytes).map_err(failed)?;
    let entry = configuration.auths.iter().find(|(name, _)| is_for(name, reference.host()));
    let Some((host, entry)) = entry else { return Ok(None) };
    let wrong = || RegistryError::CredentialsEntry { path: path.to_owned(), host: host.to_owned() };
    entry.credentials().ok_or_else(wrong)
}

impl Entry {
    /// The inner nothing is an entry whose secret is elsewhere.
    fn credentials(&self) -> Option<Option<Credentials>> {
        if self.auth.is_empty() {
            let Self { username, password, .. } = self;
            let known = !username.is_empty();
            let both = || Credentials { user: username.clone(), password: password.clone() };
            return Some(known.then(both));
        }
        let both = String::from_utf8(BASE64_STANDARD.decode(&self.auth).ok()?).ok()?;
        let (user, password) = both.split_once(':')?;
        let password = password.trim_end_matches('\0');
        Some(Some(Credentials { user: user.to_owned(), password: password.to_owned() }))
    }
}

/// Names are hosts, or addresses of old registries.
fn is_for(name: &str, host: &str) -> bool {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    let name = name.split('/').next().unwrap_or_default();
    name == host || DOCKER.contains(&name) && DOCKER.contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, reference: &str) -> Result<Option<String>, RegistryError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let found = find(Some(file.path()), &reference.parse().unwrap())?;
        Ok(found.map(|found| format!("{} {}", found.user, found.password)))
    }

    #[test]
    fn a_registry_gets_its_own_and_no_other() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpiOmM="},
            "ghcr.io":{"username":"u","password":"p"},"empty.io":{}},"credsStore":"desktop"}"#;
        assert_eq!(found(text, "alpine").unwrap().unwrap(), "a b:c");
        assert_eq!(found(text, "ghcr.io/a/b").unwrap().unwrap(), "u p");
        for other in ["ghcr.io.evil.net/a", "evil.net/ghcr.io", "ghcr.io:444/a", "empty.io/a"] {
            assert_eq!(found(text, other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_its_secret() {
        let wrong = found(r#"{"auths":{"x.y":{"auth":"c2VjcmV0"}}}"#, "x.y/a").unwrap_err();
        assert!(wrong.to_string().contains("x.y") && !wrong.to_string().contains("secret"));
        assert!(found("{", "x.y/a").is_err());
        assert!(find(Some(Path::new("/no/such/file")), &"a".parse().unwrap()).unwrap().is_none());
    }
}
