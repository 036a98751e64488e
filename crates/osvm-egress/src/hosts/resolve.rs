//! From a name to its addresses, as the host knows them: its own list of hosts, then the name servers that it is
//! configured with. Their answers are kept for as long as they say.
//!
//! What only the C library knows (`nsswitch.conf`, multicast DNS) is not asked. Where `systemd-resolved` is in
//! use, the name server is its own and knows it all.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use thiserror::Error;

/// Longest that one look-up may take, with all its attempts.
const LONGEST: Duration = Duration::from_secs(8);

/// How many answers are kept.
const KEPT: u64 = 1024;

/// Where the host's configuration is.
#[derive(Debug, Clone)]
pub struct Sources {
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }
}

#[derive(Debug, Error)]
pub(crate) enum LookupError {
    #[error("there is no such host")]
    NoHost,
    #[error("the host has no address")]
    NoAddress,
    #[error("its look-up got no answer in {} s", LONGEST.as_secs())]
    Slow,
    #[error("its look-up failed: {0}")]
    Failed(NetError),
    #[error("{}: {source}", path.display())]
    Configuration { path: PathBuf, source: io::Error },
}

/// Looks names up, by the configuration as it is at that time.
pub(crate) struct Resolver {
    sources: Sources,
    current: Mutex<Option<Current>>,
}

/// What was read, and what the files looked like then.
#[derive(Clone)]
struct Current {
    stamps: [Option<Stamp>; 2],
    known: Arc<Known>,
}

type Stamp = (u64, u64, i64, i64);

struct Known {
    hosts: Hosts,
    servers: TokioResolver,
}

impl Resolver {
    pub(crate) fn new(sources: Sources) -> Self {
        Self { sources, current: Mutex::default() }
    }

    /// The name's addresses, at least one, in the order in which they are to be tried. As everywhere, a name
    /// that ends in a dot is complete and any other is also looked for in the host's own domains.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let known = self.known()?;
        let listed = known.listed(name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let lookup = tokio::time::timeout(LONGEST, known.servers.lookup_ip(name));
        let found = lookup.await.map_err(|_| LookupError::Slow)?.map_err(LookupError::from)?;
        let found: Vec<_> = found.iter().collect();
        if found.is_empty() { Err(LookupError::NoAddress) } else { Ok(found) }
    }

    fn known(&self) -> Result<Arc<Known>, LookupError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = [stamp(&self.sources.resolv_conf), stamp(&self.sources.hosts)];
        if let Some(current) = current.as_ref().filter(|current| current.stamps == stamps) {
            return Ok(current.known.clone());
        }
        match (Known::read(&self.sources), current.as_mut()) {
            (Ok(known), _) => {
                let known = Arc::new(known);
                *current = Some(Current { stamps, known: known.clone() });
                Ok(known)
            }
            (Err(error), Some(current)) => {
                tracing::warn!(%error, "names are looked up as before");
                current.stamps = stamps;
                Ok(current.known.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// What changes with a file: which one it is, its size and its time.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

impl Known {
    fn read(sources: &Sources) -> Result<Self, LookupError> {
        let hosts = read_or_empty(&sources.hosts)?;
        let resolv_conf = read_or_empty(&sources.resolv_conf)?;
        let wrong = |source| LookupError::Configuration { path: sources.hosts.clone(), source };
        let mut known = Hosts::default();
        known.read_hosts_conf(&hosts[..]).map_err(wrong)?;
        Ok(Self { hosts: known, servers: servers(&resolv_conf)? })
    }

    /// What the list of hosts says about a name, which counts before name servers do.
    fn listed(&self, name: &str) -> Vec<IpAddr> {
        let Ok(name) = Name::from_ascii(name) else { return Vec::new() };
        let lookup = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(lookup);
        let addresses = |lookup: hickory_resolver::lookup::Lookup| {
            let answers = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
            answers.collect::<Vec<_>>()
        };
        found.flat_map(addresses).collect()
    }
}

/// Hosts may do without either file.
fn read_or_empty(path: &Path) -> Result<Vec<u8>, LookupError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| LookupError::Configuration { path: path.to_owned(), source }),
    }
}

/// A host without a name server has one of its own, or none: resolv.conf(5).
fn servers(resolv_conf: &[u8]) -> Result<TokioResolver, LookupError> {
    let (written, _wrong) = resolv_conf::Config::parse_with_errors(resolv_conf);
    let mut addresses: Vec<IpAddr> = written.nameservers.iter().map(IpAddr::from).collect();
    if addresses.is_empty() {
        addresses.push(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let servers = addresses.into_iter().map(NameServerConfig::udp_and_tcp).collect();
    let domains = written.get_last_search_or_domain();
    let search = domains.filter_map(|domain| Name::from_str_relaxed(domain).ok()).collect();
    let config = ResolverConfig::from_parts(None, search, servers);
    let provider = TokioRuntimeProvider::default();
    let builder = TokioResolver::builder_with_config(config, provider);
    builder.with_options(options(&written)).build().map_err(LookupError::Failed)
}

fn options(written: &resolv_conf::Config) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.ndots = written.ndots as usize;
    options.timeout = Duration::from_secs(written.timeout.into());
    options.attempts = written.attempts as usize;
    options.edns0 = written.edns0;
    options.cache_size = KEPT;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options
}

impl From<NetError> for LookupError {
    fn from(error: NetError) -> Self {
        match error {
            error if error.is_nx_domain() => Self::NoHost,
            error if error.is_no_records_found() => Self::NoAddress,
            NetError::Timeout => Self::Slow,
            error => Self::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(folder: &Path) -> Sources {
        Sources { resolv_conf: folder.join("resolv.conf"), hosts: folder.join("hosts") }
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn the_list_of_hosts_counts_first_and_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path());
        let resolver = Resolver::new(sources.clone());
        fs::write(&sources.hosts, "203.0.113.7 a.example\n2001:db8::7 a.example # both\n").unwrap();
        let found = resolver.addresses("a.example.").await.unwrap();
        assert_eq!(found, addresses(&["203.0.113.7", "2001:db8::7"]));

        fs::write(&sources.hosts, "203.0.113.8 other a.example\n").unwrap();
        let found = resolver.addresses("a.example.").await.unwrap();
        assert_eq!(found, addresses(&["203.0.113.8"]));
    }

    #[tokio::test]
    async fn localhost_is_known_without_any_file() {
        let folder = tempfile::tempdir().unwrap();
        let resolver = Resolver::new(sources(folder.path()));
        let found = resolver.addresses("localhost.").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_read_leaves_names_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path());
        let resolver = Resolver::new(sources.clone());
        fs::create_dir(&sources.hosts).unwrap();
        let error = resolver.addresses("a.example.").await.unwrap_err();
        assert!(matches!(error, LookupError::Configuration { .. }), "{error}");

        fs::remove_dir(&sources.hosts).unwrap();
        fs::write(&sources.hosts, "203.0.113.7 a.example\n").unwrap();
        resolver.addresses("a.example.").await.unwrap();

        fs::remove_file(&sources.hosts).unwrap();
        fs::create_dir(&sources.hosts).unwrap();
        assert!(resolver.addresses("a.example.").await.is_ok());
    }
}
