//! Whom Docker's configuration knows at a registry: from a helper that it names, or by what stands in it.
//!
//! A registry's own helper (`credHelpers`) is asked in place of the one for all (`credsStore`), as Docker does. What
//! stands in the file (`auths`) holds where that helper knows nothing, or is not here; Docker would not look there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::keychain::{self, HelperError};
use super::{Access, RegistryError};
use crate::oci::Reference;

/// Not for messages.
pub(super) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// Which others are got with: an identity token, as Docker calls it.
    Token(String),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// Both, packed.
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

const MAX_BYTES: u64 = 1 << 20;
/// Other names under which Docker keeps its own.
const DOCKER: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The one by which helpers know it.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

impl Credentials {
    /// For `Authorization: Basic`.
    pub(super) fn basic(&self) -> Option<String> {
        let Self::Password { user, password } = self else { return None };
        Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }
}

/// Nothing when the file is not there, or nobody knows this registry.
pub(super) fn find(
    access: &Access,
    reference: &Reference,
) -> Result<Option<Credentials>, RegistryError> {
    let Some(path) = &access.credentials else { return Ok(None) };
    let Some(configuration) = Configuration::read(path)? else { return Ok(None) };
    let host = reference.host();
    let entry = configuration.entry(path, host)?;
    let Some(name) = configuration.helper(host) else { return Ok(entry) };
    match keychain::ask(name, key(host), &access.programs) {
        Ok(known) => Ok(known.or(entry)),
        Err(HelperError::Missing) if entry.is_some() => Ok(entry),
        Err(source) => {
            let (program, host) = (keychain::program(name), host.to_owned());
            Err(RegistryError::Helper { program, host, source })
        }
    }
}

impl Configuration {
    fn read(path: &Path) -> Result<Option<Self>, RegistryError> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(RegistryError::Credentials { path: path.to_owned(), source });
            }
            Ok(_) => {}
        }
        let failed = |source| RegistryError::CredentialsForm { path: path.to_owned(), source };
        serde_json::from_slice(&bytes).map(Some).map_err(failed)
    }

    /// What stands in the file.
    fn entry(&self, path: &Path, host: &str) -> Result<Option<Credentials>, RegistryError> {
        let Some((name, entry)) = of(&self.auths, host) else { return Ok(None) };
        let (path, name) = (path.to_owned(), name.clone());
        entry.credentials().ok_or(RegistryError::CredentialsEntry { path, host: name })
    }

    /// An empty name is none.
    fn helper(&self, host: &str) -> Option<&str> {
        let own = of(&self.cred_helpers, host).map(|(_, name)| name);
        Some(own.unwrap_or(&self.creds_store).as_str()).filter(|name| !name.is_empty())
    }
}

impl Entry {
    /// The inner nothing is an entry whose secret is elsewhere.
    fn credentials(&self) -> Option<Option<Credentials>> {
        if !self.identitytoken.is_empty() {
            return Some(Some(Credentials::Token(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            let Self { username: user, password, .. } = self;
            let both = || Credentials::Password { user: user.clone(), password: password.clone() };
            return Some((!user.is_empty()).then(both));
        }
        let both = String::from_utf8(BASE64_STANDARD.decode(&self.auth).ok()?).ok()?;
        let (user, password) = both.split_once(':')?;
        let password = password.trim_end_matches('\0');
        Some(Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() }))
    }
}

/// As Docker writes it, rather than by an older or another name.
fn of<'a, T>(all: &'a BTreeMap<String, T>, host: &str) -> Option<(&'a String, &'a T)> {
    let other = || all.iter().find(|(name, _)| is_for(name, host));
    all.get_key_value(key(host)).or_else(other)
}

/// What Docker calls a registry.
fn key(host: &str) -> &str {
    if DOCKER.contains(&host) { DOCKER_KEY } else { host }
}

/// Names are hosts, or addresses of old registries.
fn is_for(name: &str, host: &str) -> bool {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    let name = name.split('/').next().unwrap_or_default();
    name == host || DOCKER.contains(&name) && DOCKER.contains(&host)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// Finds with helpers `one` and `all`, which know registries by the names of files.
    fn found(text: &str, reference: &str) -> Result<Option<String>, RegistryError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        fs::write(&file, text).unwrap();
        for name in ["one", "all"] {
            add_helper(&folder, name);
        }
        let (credentials, programs) = (Some(file), folder.path().into());
        let access = Access { credentials, programs, ..Access::default() };
        let found = find(&access, &reference.parse().unwrap())?;
        Ok(found.map(|found| match found {
            Credentials::Password { user, password } => format!("{user} {password}"),
            Credentials::Token(token) => format!("token {token}"),
        }))
    }

    /// It knows `helped.io` and Docker's own registry.
    fn add_helper(folder: &TempDir, name: &str) {
        let path = folder.path().join(keychain::program(name));
        let script = format!(
            "#!/bin/sh\nread -r key\ncase \"$key\" in helped.io | https://index.docker.io/v1/) \
             echo '{{\"Username\":\"{name}\",\"Secret\":\"secret\"}}';; \
             *) echo credentials not found in native keychain; exit 1;; esac\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_registry_gets_its_own_and_no_other() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpiOmM="},
            "ghcr.io":{"username":"u","password":"p"},"empty.io":{},
            "azurecr.io":{"auth":"MDow","identitytoken":"t"}}}"#;
        assert_eq!(found(text, "alpine").unwrap().unwrap(), "a b:c");
        assert_eq!(found(text, "ghcr.io/a/b").unwrap().unwrap(), "u p");
        assert_eq!(found(text, "azurecr.io/a/b").unwrap().unwrap(), "token t");
        for other in ["ghcr.io.evil.net/a", "evil.net/ghcr.io", "ghcr.io:444/a", "empty.io/a"] {
            assert_eq!(found(text, other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn helpers_are_asked_in_the_order_of_dockers_own() {
        let auths = r#""auths":{"helped.io":{"username":"file","password":"p"},"other.io":{"username":"file","password":"p"}}"#;
        for (helpers, reference, want) in [
            (
                r#""credHelpers":{"helped.io":"one"},"credsStore":"all""#,
                "helped.io/a",
                "one secret",
            ),
            (r#""credHelpers":{"x.io":"one"},"credsStore":"all""#, "helped.io/a", "all secret"),
            (r#""credsStore":"all""#, "alpine", "all secret"),
            (r#""credHelpers":{"docker.io":"one"}"#, "alpine", "one secret"),
            (r#""credHelpers":{"helped.io":""},"credsStore":"all""#, "helped.io/a", "file p"),
            (r#""credsStore":"all""#, "other.io/a", "file p"),
            (r#""credsStore":"missing""#, "other.io/a", "file p"),
        ] {
            let found = found(&format!("{{{auths},{helpers}}}"), reference).unwrap();
            assert_eq!(found.as_deref(), Some(want), "{helpers}");
        }
        assert_eq!(found(r#"{"credsStore":"all"}"#, "unknown.io/a").unwrap(), None);
    }

    #[test]
    fn a_helper_that_is_not_here_is_named_with_what_to_do() {
        let error = found(r#"{"credsStore":"gone"}"#, "x.y/a").unwrap_err();
        let want = "ask docker-credential-gone for the credentials of x.y";
        assert_eq!(error.to_string(), want);
        assert!(error.hint().unwrap().contains("docker-credential-gone"));
    }

    #[test]
    fn what_is_wrong_is_told_without_its_secret() {
        let wrong = found(r#"{"auths":{"x.y":{"auth":"c2VjcmV0"}}}"#, "x.y/a").unwrap_err();
        assert!(wrong.to_string().contains("x.y") && !wrong.to_string().contains("secret"));
        assert!(found("{", "x.y/a").is_err());
        let access = Access { credentials: Some("/no/such/file".into()), ..Access::default() };
        assert!(find(&access, &"a".parse().unwrap()).unwrap().is_none());
    }
}
