//! The flags of `docker run` and `podman run`, and what each of them means for a VM.

use super::words::{Given, split};
use super::{ContainerError, Run, mounts};
use crate::config::{Size, is_variable};
use crate::{ImageRef, Resources};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    names: &'static [&'static str],
    pub(super) has_value: bool,
    means: Means,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// Nothing that a server could notice: its streams, its name, its end.
    Nothing,
    /// Something that a VM does, or is, anyway.
    Unheeded,
    Env,
    Volume,
    Mount,
    Network,
    Platform,
    User,
    WorkingDir,
    Entrypoint,
    Memory,
    Cpus,
    /// Known, and not followed for this reason.
    Refused(&'static str),
}

const fn switch(names: &'static [&'static str], means: Means) -> Flag {
    Flag { names, has_value: false, means }
}

const fn valued(names: &'static [&'static str], means: Means) -> Flag {
    Flag { names, has_value: true, means }
}

const NETWORK: Means = Means::Refused("a VM has no network but the hosts it is granted");
const HOST: Means = Means::Refused("a VM has nothing of the host's");
const RIGHTS: Means = Means::Refused("a server has no rights over its VM's kernel");
const FILE: Means = Means::Refused("its lines are told one by one, by -e or --secret");
const CONTAINERS: Means = Means::Refused("there are no other containers");

static FLAGS: &[Flag] = &[
    switch(&["-i", "--interactive", "--rm", "--init", "-q", "--quiet"], Means::Nothing),
    valued(&["--name", "--pull", "-l", "--label", "-a", "--attach"], Means::Nothing),
    valued(&["--sig-proxy", "--stop-signal", "--stop-timeout"], Means::Nothing),
    valued(&["-e", "--env"], Means::Env),
    valued(&["-v", "--volume"], Means::Volume),
    valued(&["--mount"], Means::Mount),
    valued(&["--net", "--network"], Means::Network),
    valued(&["--platform"], Means::Platform),
    valued(&["-u", "--user"], Means::User),
    valued(&["-w", "--workdir"], Means::WorkingDir),
    valued(&["--entrypoint"], Means::Entrypoint),
    valued(&["-m", "--memory"], Means::Memory),
    valued(&["--cpus"], Means::Cpus),
    switch(&["-t", "--tty", "--read-only", "--no-healthcheck"], Means::Unheeded),
    valued(&["--cap-drop", "--security-opt", "--pids-limit", "--ulimit"], Means::Unheeded),
    valued(&["--memory-swap", "--memory-reservation", "--shm-size", "--tmpfs"], Means::Unheeded),
    valued(&["--cpu-shares", "-c", "--cpuset-cpus", "--oom-score-adj"], Means::Unheeded),
    valued(&["--log-driver", "--log-opt", "--restart", "-h", "--hostname"], Means::Unheeded),
    valued(&["--userns"], Means::Unheeded),
    valued(
        &["-p", "--publish", "--expose", "--dns", "--dns-search", "--ip", "--mac-address"],
        NETWORK,
    ),
    valued(&["--add-host", "--network-alias", "--link"], NETWORK),
    switch(&["-P", "--publish-all"], NETWORK),
    valued(&["--device", "--gpus", "--pid", "--ipc", "--uts", "--cgroupns", "--group-add"], HOST),
    valued(&["--runtime", "--sysctl", "--cgroup-parent"], HOST),
    switch(&["--privileged"], RIGHTS),
    valued(&["--cap-add"], RIGHTS),
    valued(&["--env-file", "--label-file", "--cidfile"], FILE),
    valued(&["--volumes-from", "--pod"], CONTAINERS),
    switch(&["-d", "--detach"], Means::Refused("a server speaks on its standard streams")),
];

pub(super) fn find(program: &'static str, name: &str) -> Result<&'static Flag, ContainerError> {
    let unknown = || ContainerError::UnknownFlag { program, flag: name.to_owned() };
    FLAGS.iter().find(|flag| flag.names.contains(&name)).ok_or_else(unknown)
}

/// The words behind `run`.
pub(super) fn run(program: &'static str, words: &[String]) -> Result<Run, ContainerError> {
    let (given, rest) = split(program, words)?;
    let (image, args) = rest.split_first().ok_or(ContainerError::NoImage { program })?;
    let mut run = Run {
        image: ImageRef::Registry(image.parse().map_err(crate::ImageRefError::from)?),
        entrypoint: None,
        args: args.to_vec(),
        env: std::collections::BTreeMap::new(),
        passed: Vec::new(),
        folders: Vec::new(),
        user: None,
        working_dir: None,
        size: Size::default(),
        unheeded: Vec::new(),
    };
    for flag in given {
        Followed { program, flag }.by(&mut run)?;
    }
    Ok(run)
}

/// One flag, on its way into a run.
struct Followed {
    program: &'static str,
    flag: Given,
}

impl Followed {
    fn by(self, run: &mut Run) -> Result<(), ContainerError> {
        match self.flag.flag.means {
            Means::Nothing => {}
            Means::Unheeded => run.unheeded.push(self.flag.name),
            Means::Refused(why) => return Err(self.refused(why)),
            Means::Env => self.env(run)?,
            Means::Volume => match mounts::volume(&self.flag.value) {
                Ok(Some(folder)) => run.folders.push(folder?),
                Ok(None) => run.unheeded.push(self.flag.name),
                Err(why) => return Err(self.wrong(why)),
            },
            Means::Mount => match mounts::mount(&self.flag.value) {
                Ok(Some(folder)) => run.folders.push(folder?),
                Ok(None) => run.unheeded.push(self.flag.name),
                Err(why) => return Err(self.wrong(why)),
            },
            Means::Network => match self.flag.value.as_str() {
                "none" => {}
                "bridge" | "default" => run.unheeded.push(self.flag.name),
                _ => return Err(self.refused("a VM has no network but the hosts it is granted")),
            },
            Means::Platform => match self.flag.value.as_str() {
                "linux" | "linux/amd64" | "linux/x86_64" => {}
                _ => return Err(self.refused("a VM has the processor of this machine")),
            },
            Means::User => run.user = Some(self.flag.value),
            Means::WorkingDir if self.flag.value.starts_with('/') => {
                run.working_dir = Some(self.flag.value);
            }
            Means::WorkingDir => return Err(self.wrong("an absolute path is needed")),
            Means::Entrypoint if self.flag.value.is_empty() => {
                return Err(self.wrong("the program is missing"));
            }
            Means::Entrypoint => run.entrypoint = Some(self.flag.value),
            Means::Memory => run.size.memory_mb = Some(self.memory()?),
            Means::Cpus => run.size.vcpus = Some(self.cpus()?),
        }
        Ok(())
    }

    /// `NAME=value`, or `NAME` for the value that it has outside.
    fn env(self, run: &mut Run) -> Result<(), ContainerError> {
        let value = &self.flag.value;
        let (name, value) = value.split_once('=').map_or((&**value, None), |(n, v)| (n, Some(v)));
        if !is_variable(name) {
            return Err(self.wrong("NAME or NAME=VALUE is needed"));
        }
        match value {
            Some(value) => drop(run.env.insert(name.to_owned(), value.to_owned())),
            None => run.passed.push(name.to_owned()),
        }
        Ok(())
    }

    /// In MiB: `512m`, `2g`, and bytes without a unit.
    fn memory(&self) -> Result<u32, ContainerError> {
        let text = self.flag.value.to_ascii_lowercase();
        let text = text.strip_suffix('b').unwrap_or(&text);
        let digits = text.trim_end_matches(['k', 'm', 'g']);
        let unit = match &text[digits.len()..] {
            "" => 1,
            "k" => 1 << 10,
            "m" => 1 << 20,
            "g" => 1 << 30,
            _ => 0,
        };
        let bytes = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        let mib = bytes.filter(|bytes| *bytes > 0).map(|bytes| bytes.div_ceil(1 << 20));
        let mib = mib.and_then(|mib| Resources::check_memory(mib).ok());
        mib.ok_or_else(|| self.wrong("it is no memory that a VM can have"))
    }

    fn cpus(&self) -> Result<u8, ContainerError> {
        let count =
            self.flag.value.parse::<f32>().ok().filter(|count| (0.0..1000.0).contains(count));
        let whole = count.map(|count| (count.ceil() as u64).max(1));
        let vcpus = whole.and_then(|count| Resources::check_vcpus(count).ok());
        vcpus.ok_or_else(|| self.wrong("it is no number of processors that a VM can have"))
    }

    fn refused(&self, why: &'static str) -> ContainerError {
        ContainerError::RefusedFlag { program: self.program, flag: self.flag.name.clone(), why }
    }

    fn wrong(&self, why: &'static str) -> ContainerError {
        ContainerError::Value { program: self.program, flag: self.flag.name.clone(), why }
    }
}
