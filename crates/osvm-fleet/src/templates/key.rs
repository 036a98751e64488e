//! What a clone must have in common with the machine that its template was made of.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use osvm_spec::{CpuTemplate, Digest, Resources};
use osvm_vmm::Driver;
use osvm_wire::message::Spawn;
use serde::Serialize;

use crate::plan::Plan;
use crate::prepare::Prepared;

/// A text that is another when anything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

#[derive(Serialize)]
struct Parts<'a> {
    osvm: &'static str,
    vmm: [&'a str; 3],
    /// The host's, which guests see under KVM.
    processor: String,
    resources: Resources,
    cpu_template: CpuTemplate,
    kernel: (Identity, &'a str, bool),
    /// With the agent in it. Its name says what it was made of.
    initramfs: &'a Path,
    image: &'a Digest,
    /// The server that waits in it.
    waiting: Option<&'a Spawn>,
}

/// A file as it is now. Its content is not read: it may be large.
#[derive(Serialize)]
struct Identity {
    path: PathBuf,
    place: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Key {
    /// Reads files.
    pub(crate) fn of(
        plan: &Plan,
        (prepared, waiting): (&Prepared, Option<&Spawn>),
        driver: &dyn Driver,
        proc: &Path,
    ) -> io::Result<Self> {
        let kernel = &prepared.kernel;
        let parts = Parts {
            osvm: env!("CARGO_PKG_VERSION"),
            vmm: [driver.name(), driver.version(), driver.accelerator()],
            processor: processor(&fs::read_to_string(proc.join("cpuinfo"))?),
            resources: plan.resources,
            cpu_template: plan.cpu_template,
            kernel: (Identity::of(&kernel.path)?, &kernel.args, kernel.boot.acpi),
            initramfs: &prepared.initramfs,
            image: &prepared.image.digest,
            waiting,
        };
        Ok(Self(serde_json::to_string(&parts)?))
    }

    /// Of its folder. That of two keys may be the same; their texts are not.
    pub(super) fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            place: (file.dev(), file.ino()),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

/// What the first one is, and can; not how fast it happens to be.
fn processor(cpuinfo: &str) -> String {
    const TELLING: [&str; 6] =
        ["vendor_id", "cpu family", "model", "model name", "stepping", "flags"];
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let told = first.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        TELLING.contains(&name.trim()).then(|| value.trim())
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_what_it_can_and_not_how_fast_it_runs() {
        let info = |model, mhz| {
            format!(
                "processor\t: 0\nmodel name\t: {model}\ncpu MHz\t\t: {mhz}\nflags\t\t: fpu sse\n\nprocessor\t: 1\n"
            )
        };
        assert_eq!(processor(&info("a", 1)), "a; fpu sse");
        assert_eq!(processor(&info("a", 1)), processor(&info("a", 2)));
        assert_ne!(processor(&info("a", 1)), processor(&info("b", 1)));
    }

    #[test]
    fn a_file_that_was_changed_is_another_even_where_it_is_as_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel");
        let identity = || serde_json::to_string(&Identity::of(&path).unwrap()).unwrap();
        fs::write(&path, "a").unwrap();
        let before = identity();
        assert_eq!(identity(), before);
        fs::write(folder.path().join("new"), "b").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert_ne!(identity(), before);
    }
}
