//! Images from registries, by the OCI distribution specification.
//!
//! The client is blocking and small: two kinds of requests. Layers are downloaded to files, go on
//! where they were interrupted, and are held to their digests when they are unpacked.

mod auth;
mod credentials;
mod download;
mod keychain;
mod trust;

use std::ffi::OsString;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use osvm_spec::image::Version;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use ureq::config::{ConfigBuilder, RedirectAuthHeaders};
use ureq::http::{Method, Request, Response, header};
use ureq::tls::TlsConfig;
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, Proxy};

use super::manifest::{Blob, Blobs, Descriptor, Document, Manifest, Wanted, bounded};
use super::{OciError, Reference, layer};
use crate::Digest;
use auth::Authorization;
pub use keychain::HelperError;
pub use trust::Trust;

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Docker's configuration (`~/.docker/config.json`): who is known where.
    pub credentials: Option<PathBuf>,
    /// Folders of programs, as in `PATH`: helpers that the configuration names are looked for there.
    pub programs: OsString,
    pub trust: Trust,
    pub proxies: Proxies,
    pub transport: Transport,
    /// Of one request, before it fails.
    pub attempts: u32,
    /// Before the second attempt; it doubles with each.
    pub pause: Duration,
}

/// As `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say it. The loopback is reached without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    pub https: Option<String>,
    pub http: Option<String>,
    /// Hosts, and domains with all that is in them; `*` for all.
    pub none: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP to the loopback, TLS to everywhere else.
    #[default]
    Auto,
    Tls,
    Plain,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            credentials: None,
            programs: OsString::new(),
            trust: Trust::default(),
            proxies: Proxies::default(),
            transport: Transport::default(),
            attempts: 5,
            pause: Duration::from_millis(250),
        }
    }
}

/// What a registry did.
#[derive(Debug, Error)]
pub enum RegistryError {
    #[error("read {}", path.display())]
    Credentials { path: PathBuf, source: io::Error },
    #[error("understand {}", path.display())]
    CredentialsForm { path: PathBuf, source: serde_json::Error },
    #[error("understand {}: the entry for {host} is no user and password", path.display())]
    CredentialsEntry { path: PathBuf, host: String },
    #[error("ask {program} for the credentials of {host}")]
    Helper { program: String, host: String, source: HelperError },
    #[error("read {}", path.display())]
    Certificates { path: PathBuf, source: io::Error },
    #[error("trust {}: there is no certificate in it", path.display())]
    NoCertificate { path: PathBuf },
    #[error("use the proxy {0}")]
    Proxy(String, #[source] Box<ureq::Error>),
    #[error("get {url}")]
    Get { url: String, source: Box<ureq::Error> },
    #[error("get {url}: the server's certificate {why}")]
    Untrusted { url: String, why: String },
    #[error("get {url}: it was cut short")]
    Cut { url: String, source: io::Error },
    #[error("get {url}: the registry has no such image")]
    NotFound { url: String },
    #[error("get {url}: {host} {}", refusal(*.known))]
    Denied { url: String, host: String, known: bool },
    #[error("get {url}: the answer was {status}")]
    Status { url: String, status: u16 },
    #[error("get {url}: {what}")]
    Answer { url: String, what: &'static str },
    #[error("keep {}", path.display())]
    Keep { path: PathBuf, source: io::Error },
}

fn refusal(known: bool) -> &'static str {
    if known {
        "refuses the credentials"
    } else {
        "asks for credentials, and there are none for it"
    }
}

const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Without a single byte.
const SILENCE: Duration = Duration::from_secs(60);

const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
const DIGEST_HEADER: &str = "docker-content-digest";

/// Docker's registry, as images are named and as it is reached.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// The host that answers for a registry.
fn answering(host: &str) -> &str {
    if host == DOCKER.0 { DOCKER.1 } else { host }
}

/// One repository of a registry.
pub(crate) struct Repository<'a> {
    reference: &'a Reference,
    access: &'a Access,
    agent: Agent,
    /// `https://HOST/v2/PATH`
    base: String,
    authorization: Authorization<'a>,
    /// Where layers are kept meanwhile.
    folder: PathBuf,
    /// Hears how many bytes of layers are here, and of how many.
    progress: &'a dyn Fn(u64, u64),
    done: u64,
    total: u64,
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Ask<'a> {
    url: &'a str,
    method: &'a Method,
    accept: &'a str,
    /// Of the bytes, to go on with.
    from: u64,
}

impl<'a> Repository<'a> {
    pub(crate) fn open(
        reference: &'a Reference,
        access: &'a Access,
        folder: &Path,
        progress: &'a dyn Fn(u64, u64),
    ) -> Result<Self, OciError> {
        let failed = |source| pulling(reference, source);
        let host = answering(reference.host());
        let plain = match access.transport {
            Transport::Auto => is_loopback(host),
            Transport::Tls => false,
            Transport::Plain => true,
        };
        let scheme = if plain { "http" } else { "https" };
        let tls = (!plain).then(|| access.trust.of_registry(reference.host()));
        let tls = tls.transpose().map_err(failed)?;
        Ok(Self {
            reference,
            access,
            agent: agent(host, tls, &access.proxies).map_err(failed)?,
            base: format!("{scheme}://{host}/v2/{}", reference.repository()),
            authorization: Authorization::new(reference, access),
            folder: folder.to_owned(),
            progress,
            done: 0,
            total: 0,
        })
    }

    /// The digest of what the reference means now.
    pub(crate) fn resolve(&mut self) -> Result<Digest, OciError> {
        if let Version::Digest(digest) = self.reference.version() {
            return Ok(digest.clone());
        }
        let url = format!("{}/manifests/{}", self.base, self.reference.version());
        let ask = Ask { url: &url, method: &Method::HEAD, accept: MANIFESTS, from: 0 };
        let answer = self.ask(ask).map_err(|source| pulling(self.reference, source))?;
        let digest = answer.headers().get(DIGEST_HEADER).and_then(|digest| digest.to_str().ok());
        match digest.and_then(|digest| digest.parse().ok()) {
            Some(digest) => Ok(digest),
            None => Ok(layer::digest(Sha256::new_with_prefix(self.get(&url)?))),
        }
    }

    /// The image that has this digest, or is in the index that has it.
    pub(super) fn manifest(
        &mut self,
        digest: &Digest,
        wanted: Wanted<'_>,
    ) -> Result<Manifest, OciError> {
        let url = format!("{}/manifests/{digest}", self.base);
        let bytes = self.get(&url)?;
        let of = Descriptor::of(digest, &bytes)?;
        let document = Document::parse(&digest.to_string(), &bytes)?;
        let manifest = Manifest::resolve(self, document, Some(of), wanted)?;
        self.total = manifest.size();
        Ok(manifest)
    }

    fn get(&mut self, url: &str) -> Result<Vec<u8>, OciError> {
        let ask = Ask { url, method: &Method::GET, accept: MANIFESTS, from: 0 };
        let answer = self.ask(ask).map_err(|source| pulling(self.reference, source))?;
        bounded(url, answer.into_body().into_reader())
    }

    /// Asks again while that may help.
    fn ask(&mut self, ask: Ask<'_>) -> Result<Response<Body>, RegistryError> {
        let mut failures = 0;
        loop {
            match self.ask_once(ask) {
                Err(error) if error.may_pass() => self.wait(error, &mut failures)?,
                answer => return answer,
            }
        }
    }

    /// Authorizes itself where it is asked to.
    fn ask_once(&mut self, ask: Ask<'_>) -> Result<Response<Body>, RegistryError> {
        let answer = self.send(ask)?;
        if answer.status() != 401 {
            return checked(ask.url, answer);
        }
        self.authorization.gain(&self.agent, &answer, ask.url)?;
        let answer = self.send(ask)?;
        if matches!(answer.status().as_u16(), 401 | 403) {
            return Err(self.authorization.denied(ask.url));
        }
        checked(ask.url, answer)
    }

    fn send(&self, ask: Ask<'_>) -> Result<Response<Body>, RegistryError> {
        let mut request = Request::builder().method(ask.method).uri(ask.url);
        request = request.header(header::ACCEPT, ask.accept);
        if let Some(value) = self.authorization.value() {
            request = request.header(header::AUTHORIZATION, value);
        }
        if ask.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", ask.from));
        }
        let request = request.body(()).map_err(|error| getting(ask.url)(error.into()))?;
        self.agent.run(request).map_err(getting(ask.url))
    }

    /// Gives the error back when there were too many.
    fn wait(&self, error: RegistryError, failures: &mut u32) -> Result<(), RegistryError> {
        *failures += 1;
        if *failures >= self.access.attempts {
            return Err(error);
        }
        tracing::debug!("{error}; it is tried again");
        thread::sleep(self.access.pause * 2_u32.saturating_pow((*failures - 1).min(6)));
        Ok(())
    }
}

impl Blobs for Repository<'_> {
    fn document(&mut self, of: &Descriptor) -> Result<Box<dyn Read + '_>, OciError> {
        let kind = if of.is_manifest() { "manifests" } else { "blobs" };
        let url = format!("{}/{kind}/{}", self.base, of.digest);
        Ok(Box::new(io::Cursor::new(self.get(&url)?)))
    }

    fn layer(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, OciError> {
        let layer = self.download(blob).map_err(|source| pulling(self.reference, source))?;
        Ok(Box::new(layer))
    }

    fn forget(&mut self, blob: &Blob) {
        // Whether it is there or not: the next pull shall not go on with it.
        let _ = std::fs::remove_file(self.place(blob));
    }
}

impl RegistryError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Helper { program, source: HelperError::Missing, .. } => {
                Some(format!("install {program}, or remove it from Docker's config.json"))
            }
            Self::Untrusted { .. } => Some(
                "put its authority's certificate into ~/.docker/certs.d/HOST[:PORT]/ca.crt, or have SSL_CERT_FILE name a \
                 file with all that are to be trusted"
                    .to_owned(),
            ),
            Self::Denied { host, .. } => Some(format!("docker login {host}")),
            _ => None,
        }
    }

    /// Whether it may be otherwise the next time.
    fn may_pass(&self) -> bool {
        match self {
            Self::Cut { .. } => true,
            Self::Get { source, .. } => matches!(
                **source,
                ureq::Error::Io(_)
                    | ureq::Error::Timeout(_)
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::Protocol(_)
            ),
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..600),
            _ => false,
        }
    }
}

impl Access {
    /// How another host is asked: through the same proxies, trusting what this host trusts.
    pub fn asking(&self, host: &str, is_plain: bool) -> Result<Asking, RegistryError> {
        let trust = Trust { host: self.trust.host.clone(), folders: Vec::new() };
        let tls = (!is_plain).then(|| trust.of_registry(host)).transpose()?;
        asking(host, tls, &self.proxies)
    }
}

/// How an agent is to ask.
pub type Asking = ConfigBuilder<AgentScope>;

fn agent(host: &str, tls: Option<TlsConfig>, proxies: &Proxies) -> Result<Agent, RegistryError> {
    Ok(asking(host, tls, proxies)?.build().into())
}

/// Without TLS, in plain HTTP.
fn asking(host: &str, tls: Option<TlsConfig>, proxies: &Proxies) -> Result<Asking, RegistryError> {
    let proxy = if tls.is_some() { &proxies.https } else { &proxies.http };
    let proxy = proxy.as_deref().filter(|_| !is_loopback(host));
    let config = Agent::config_builder()
        .https_only(tls.is_some())
        .tls_config(tls.unwrap_or_default())
        .http_status_as_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .proxy(proxy.map(|proxy| with_exceptions(proxy, &proxies.none)).transpose()?)
        .timeout_connect(Some(CONNECT_DEADLINE))
        .timeout_recv_response(Some(ANSWER_DEADLINE))
        .timeout_per_read(Some(SILENCE));
    Ok(config)
}

fn with_exceptions(address: &str, none: &[String]) -> Result<Proxy, RegistryError> {
    let failed = |source| RegistryError::Proxy(address.to_owned(), Box::new(source));
    let proxy = Proxy::new(address).map_err(failed)?;
    let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(user) = proxy.username() {
        builder = builder.username(user);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    for host in none {
        let domain = format!(".{}", host.trim_start_matches(['*', '.']));
        builder = builder.no_proxy(host).no_proxy(&domain);
    }
    builder.build().map_err(failed)
}

/// By number, or by the one name that is kept for it (RFC 6761).
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let number = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name == "localhost" || number.is_ok_and(|number| number.is_loopback())
}

fn checked(url: &str, answer: Response<Body>) -> Result<Response<Body>, RegistryError> {
    let url = url.to_owned();
    match answer.status().as_u16() {
        200..300 | 416 => Ok(answer),
        404 => Err(RegistryError::NotFound { url }),
        status => Err(RegistryError::Status { url, status }),
    }
}

fn getting(url: &str) -> impl Fn(ureq::Error) -> RegistryError {
    move |source| {
        let url = url.to_owned();
        match trust::complaint(&source) {
            Some(why) => RegistryError::Untrusted { url, why },
            None => RegistryError::Get { url, source: Box::new(source) },
        }
    }
}

fn pulling(reference: &Reference, source: RegistryError) -> OciError {
    OciError::Registry { what: reference.to_string(), source: Box::new(source) }
}

#[cfg(test)]
mod tests;
