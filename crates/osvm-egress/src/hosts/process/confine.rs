//! What the relay process gives up before it reads a guest's first byte. Whoever took it over would find sockets
//! to the internet, and the rules of the VMs that are connected; no file, no program, no other process.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::super::resolve::Sources;
use super::calls;

/// The newest interface that was tried. What an older kernel does not know is left out.
const NEWEST: ABI = ABI::V6;

/// For good, and as much of it as the kernel knows: a host with an old kernel is not left without hosts.
pub(super) fn give_up(sources: &Sources) {
    if let Err(errno) = raise_descriptors() {
        tracing::warn!(%errno, "the relay may have fewer connections than it should");
    }
    if let Err(errno) = give_up_privileges() {
        tracing::warn!(%errno, "the relay keeps more privileges than it needs");
    }
    if let Err(error) = give_up_files(sources) {
        tracing::warn!(%error, "the relay may read more files than it needs");
    }
    if let Err(error) = calls::give_up() {
        tracing::warn!(%error, "the relay may make more system calls than it needs");
    }
}

/// The usual limit is less than two for each connection.
fn raise_descriptors() -> rustix::io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
}

fn give_up_privileges() -> rustix::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none)
}

#[derive(Debug, thiserror::Error)]
enum FilesError {
    #[error("{0}")]
    Rules(#[from] RulesetError),
    #[error("this kernel has no Landlock")]
    Absent,
}

/// Nothing is written, and only the resolver's configuration is read. Nor is anything outside signalled, and no
/// TCP port listened on.
fn give_up_files(sources: &Sources) -> Result<(), FilesError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for path in readable(sources, rustix::process::geteuid().is_root()) {
        // What is not there now has a rule in its folder, or none.
        if let Ok(place) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(place, AccessFs::ReadFile))?;
        }
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(FilesError::Absent),
        _ => Ok(()),
    }
}

/// A network manager replaces these files, and a rule for a file ends with it: so their folders may be read. Not
/// by root, who would read the folder's secrets: its relay goes by the first file for as long as it runs.
fn readable(sources: &Sources, is_root: bool) -> Vec<PathBuf> {
    let named = [&sources.resolv_conf, &sources.hosts];
    let real = named.map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
    if is_root {
        return real.into();
    }
    let folder = |path: &Path| path.parent().map(Path::to_owned);
    named.into_iter().chain(&real).filter_map(|path| folder(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_of_the_configuration_are_read_but_not_by_root() {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().canonicalize().unwrap().join("etc");
        let run = etc.with_file_name("run");
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&run).unwrap();
        fs::write(run.join("stub.conf"), "").unwrap();
        symlink("../run/stub.conf", etc.join("resolv.conf")).unwrap();
        let sources = Sources { resolv_conf: etc.join("resolv.conf"), hosts: etc.join("hosts") };
        assert_eq!(readable(&sources, true), [run.join("stub.conf"), etc.join("hosts")]);
        let folders = readable(&sources, false);
        assert!(folders.iter().all(|folder| *folder == etc || *folder == run), "{folders:?}");
        assert!(folders.contains(&etc) && folders.contains(&run));
    }

    #[test]
    fn a_thread_that_gave_up_files_reads_the_configuration_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("etc")).unwrap();
        for name in ["etc/resolv.conf", "etc/hosts", "secret"] {
            fs::write(at(name), "words").unwrap();
        }
        let sources = Sources { resolv_conf: at("etc/resolv.conf"), hosts: at("etc/hosts") };
        let (hosts, secret) = (at("etc/hosts"), at("secret"));
        // The rules are a thread's own.
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            give_up_files(&sources).map(|()| {
                let kind = |error: std::io::Error| error.kind();
                let read = fs::read(&hosts).is_ok();
                (read, fs::read(secret).map_err(kind), fs::write(hosts, "").map_err(kind))
            })
        });
        match thread.join().unwrap() {
            Err(FilesError::Absent) => println!("skipped: this kernel has no Landlock"),
            seen => {
                let denied = ErrorKind::PermissionDenied;
                assert_eq!(seen.unwrap(), (true, Err(denied), Err(denied)));
            }
        }
    }
}
