//! Whose certificates are trusted: those that the host trusts, and those that Docker's folders have for one registry.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::CertificateError;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::RegistryError;

/// Authorities, whose certificates are text (PEM).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Those that the host trusts. Without any, those that are built in are trusted.
    pub host: Option<String>,
    /// Folders as Docker has them (`certs.d`): what lies in `HOST[:PORT]/*.crt` is trusted of that registry, too.
    pub folders: Vec<PathBuf>,
}

/// Of one file; those with all authorities of the world have a quarter of it.
const MAX_FILE: u64 = 1 << 20;

impl Trust {
    pub(super) fn of_registry(&self, host: &str) -> Result<TlsConfig, RegistryError> {
        let mut all: Vec<_> = self.host.iter().flat_map(|text| certificates(text)).collect();
        for folder in &self.folders {
            for path in files(&folder.join(host))? {
                let own = read(&path).map(|text| certificates(&text));
                let own = own.map_err(|source| unreadable(&path, source))?;
                if own.is_empty() {
                    return Err(RegistryError::NoCertificate { path });
                }
                all.extend(own);
            }
        }
        let roots = if all.is_empty() { RootCerts::WebPki } else { all.into() };
        Ok(TlsConfig::builder().root_certs(roots).build())
    }
}

/// Those that are whole: one that is not is of no use, and takes none away from the others.
fn certificates(text: &str) -> Vec<Certificate<'static>> {
    let items = parse_pem(text.as_bytes()).filter_map(Result::ok);
    let certificates = items.filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    certificates.collect()
}

/// Certificates that lie in a folder, if there is one.
fn files(folder: &Path) -> Result<Vec<PathBuf>, RegistryError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| unreadable(folder, source))?,
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "crt")).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(path: &Path, source: io::Error) -> RegistryError {
    RegistryError::Certificates { path: path.to_owned(), source }
}

/// What is wrong with a server's certificate, where that is what went wrong.
pub(super) fn complaint(error: &ureq::Error) -> Option<String> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref()?,
        _ => return None,
    };
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        CertificateError::UnknownIssuer => "is of nobody whom this host trusts".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name".to_owned()
        }
        // Which authorities' own are not: programs that insist on less take them.
        error if format!("{error:?}").contains("CaUsedAsEndEntity") => {
            "is an authority's own, not one that an authority has given it".to_owned()
        }
        error => format!("is refused: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_of_one_registry_and_what_lies_in_them_is_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("a.b:5000");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("client.key"), "").unwrap();
        fs::write(own.join("wrong.crt"), "no certificate").unwrap();
        let trust = Trust { host: None, folders: vec!["/no/such".into(), folder.path().into()] };
        assert!(trust.of_registry("a.b").is_ok());
        let refused = trust.of_registry("a.b:5000").unwrap_err().to_string();
        assert!(refused.contains("wrong.crt"), "{refused}");
    }
}
