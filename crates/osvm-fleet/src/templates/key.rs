//! What a clone must have in common with the machine that its template was made of.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use osvm_spec::{CpuTemplate, Digest, Resources};
use osvm_vmm::Driver;
use osvm_wire::message::Spawn;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::prepare::Prepared;

/// A text that is another when anything is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
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
        prepared: &Prepared,
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
        };
        Ok(Self(serde_json::to_string(&parts)?))
    }

    /// Of the same machine with a server that waits in it.
    pub(crate) fn with(&self, waiting: &Spawn) -> io::Result<Self> {
        Ok(Self(format!("{} {}", self.0, serde_json::to_string(waiting)?)))
    }

    /// Of its folder. That of two keys may be the same; their texts are not.
    pub(crate) fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn new(text: &str) -> Self {
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
    use osvm_image::{Image, Root};
    use osvm_spec::TemplateLevel;
    use osvm_vmm::fake::Fake;
    use osvm_vmm::{BootProtocol, Kernel};

    use super::*;

    /// All that a key is made of, in a folder of its own.
    struct Parted {
        folder: tempfile::TempDir,
        plan: Plan,
        prepared: Prepared,
        driver: Fake,
    }

    impl Parted {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let kernel = folder.path().join("vmlinux");
            fs::write(&kernel, "kernel").unwrap();
            fs::write(folder.path().join("cpuinfo"), "model name\t: a\n").unwrap();
            let plan = Plan { kernel: kernel.clone(), ..Plan::sample(TemplateLevel::Booted) };
            let prepared = Prepared {
                kernel: Kernel {
                    path: kernel,
                    boot: BootProtocol { acpi: true },
                    args: "quiet".to_owned(),
                },
                initramfs: "initramfs-1".into(),
                disk: None,
                image: image("1"),
            };
            Self { folder, plan, prepared, driver: Fake::new(|_| async {}) }
        }

        fn key(&self) -> String {
            let Self { folder, plan, prepared, driver } = self;
            Key::of(plan, prepared, driver, folder.path()).unwrap().0
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.folder.path().join(name), text).unwrap();
        }
    }

    fn image(digit: &str) -> Image {
        Image {
            digest: format!("sha256:{}", digit.repeat(64)).parse().unwrap(),
            root: Root::Disk("disk".into()),
            size: 1,
            origin: String::new(),
            entrypoint: Vec::new(),
            arguments: 0,
            env: Vec::new(),
            user: None,
            workdir: None,
            manifest: None,
            architecture: None,
            packages: std::collections::BTreeSet::new(),
        }
    }

    /// Something of a machine, and another one in its place.
    type Change = (&'static str, fn(&mut Parted));

    #[test]
    fn another_vmm_processor_size_kernel_agent_or_image_is_another_machine() {
        let changes: [Change; 8] = [
            ("VMM", |of| of.driver = of.driver.clone().of_version("1")),
            ("processor", |of| of.write("cpuinfo", "model name\t: b\n")),
            ("size", |of| of.plan.resources = Resources::new(512, 1).unwrap()),
            ("features", |of| of.plan.cpu_template = CpuTemplate::T2),
            ("kernel", |of| of.write("vmlinux", "another")),
            ("its arguments", |of| of.prepared.kernel.args.push('x')),
            ("agent", |of| of.prepared.initramfs = "initramfs-2".into()),
            ("image", |of| of.prepared.image = image("2")),
        ];
        for (what, change) in changes {
            let mut parted = Parted::new();
            let before = parted.key();
            assert_eq!(parted.key(), before);
            change(&mut parted);
            assert_ne!(parted.key(), before, "{what}");
        }
    }

    #[test]
    fn what_a_server_is_given_is_no_part_of_it() {
        let mut parted = Parted::new();
        let before = parted.key();
        parted.plan.name = "b".parse().unwrap();
        parted.plan.env.push(("TOKEN".to_owned(), "x".to_owned()));
        parted.plan.command.push("/bin/other".to_owned());
        assert_eq!(parted.key(), before);
    }

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
