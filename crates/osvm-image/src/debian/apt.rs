//! Asks the host's apt what an empty system would need, and for the files. Nothing is installed.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::{DebianError, Package};
use crate::files;

/// Folders below `work`: of packages, and of what apt writes down for itself.
pub(super) const ARCHIVES: &str = "archives";
const STATE: &str = "apt";

/// Longest name of a file of theirs.
const MAX_NAME: usize = 200;

/// Everything that `packages` need, in the order in which apt would install it.
pub(super) fn needed(packages: &[&str], work: &Path) -> Result<Vec<Package>, DebianError> {
    prepare(work).map_err(DebianError::write(work))?;
    let output = run("apt-get", &arguments("--simulate", packages, work))?;
    if output.status.success() {
        let listed = String::from_utf8_lossy(&output.stdout);
        return Ok(listed_in(&listed, work));
    }
    let reason = last_words(&output);
    let lacks = reason.contains("Unable to locate") || reason.contains("no installation candidate");
    match lacks {
        true => Err(DebianError::Unknown { packages: packages.join(", "), reason }),
        false => Err(DebianError::Apt { reason }),
    }
}

/// Brings the files of all that is `needed`. Those that are there already stay, and apt checks the sums of the others.
pub(super) fn download(
    packages: &[&str],
    needed: &[Package],
    work: &Path,
) -> Result<(), DebianError> {
    if needed.iter().all(|package| package.file.is_file()) {
        return Ok(());
    }
    let output = run("apt-get", &arguments("--download-only", packages, work))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = last_words(&output);
    if reason.contains("enough free space") || reason.contains("No space left") {
        return Err(DebianError::Full { path: work.join(ARCHIVES) });
    }
    Err(DebianError::Apt { reason })
}

fn prepare(work: &Path) -> std::io::Result<()> {
    files::make_folder(work)?;
    files::make_folder(&work.join(ARCHIVES).join("partial"))?;
    files::make_folder(&work.join(STATE))?;
    // What is installed: nothing.
    fs::write(work.join(STATE).join("status"), "")
}

fn arguments(action: &str, packages: &[&str], work: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["install", "--yes", "--quiet", action].map(Into::into).into();
    let mut set = |name: &str, value: OsString| {
        let mut option = OsString::from(format!("-o{name}="));
        option.push(value);
        arguments.push(option);
    };
    let state = work.join(STATE);
    set("Dir::State::status", state.join("status").into());
    set("Dir::State::extended_states", state.join("extended").into());
    set("Dir::Cache", state.clone().into());
    set("Dir::Cache::archives", work.join(ARCHIVES).into());
    set("Dir::Log", state.into());
    set("APT::Install-Recommends", "0".into());
    set("APT::Install-Suggests", "0".into());
    set("Debug::NoLocking", "1".into());
    // Files of an ordinary user are not for apt's own user, as whom it would download if it were root.
    set("APT::Sandbox::User", "".into());
    arguments.push("--".into());
    arguments.extend(packages.iter().map(Into::into));
    arguments
}

/// The packages in what apt says of an install, in its order.
pub(super) fn listed_in(said: &str, work: &Path) -> Vec<Package> {
    said.lines().filter_map(|line| installed(line, work)).collect()
}

/// The package in `Inst name (version suite [arch])`. Apt names its file by the same three.
fn installed(line: &str, work: &Path) -> Option<Package> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
    let (_, rest) = rest.split_once('(')?;
    let (version, rest) = rest.split_once(' ')?;
    let (_, arch) = rest.split_once('[')?;
    let (arch, _) = arch.split_once(']')?;
    let name = name.split(':').next()?;
    let version = version.replace(':', "%3a");
    let file = format!("{name}_{version}_{arch}.deb");
    let file = is_plain(&file).then(|| work.join(ARCHIVES).join(file))?;
    Some(Package { name: name.to_owned(), file })
}

/// Names and versions are of these characters (deb-control(5), deb-version(7)): what says otherwise was not said by apt.
fn is_plain(file: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.~_%".contains(&byte);
    let begins = file.starts_with(|first: char| first.is_ascii_alphanumeric());
    begins && file.len() <= MAX_NAME && file.bytes().all(plain)
}

fn run(program: &'static str, arguments: &[OsString]) -> Result<Output, DebianError> {
    let output = command(program).args(arguments).output();
    output.map_err(|source| DebianError::NoProgram { program, source })
}

/// Its words are read, so they have to be in the language known here.
#[expect(clippy::disallowed_methods, reason = "packages come by the distribution's own tools")]
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The errors among the last lines that a program has written, or how it ended.
fn last_words(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("E: ")).collect();
    let last = if errors.is_empty() { &lines } else { &errors };
    match last.as_slice() {
        [] => output.status.to_string(),
        lines => lines[lines.len().saturating_sub(3)..].join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install_leads_to_its_files() {
        let file = |line| installed(line, Path::new("/w")).map(|package| package.file);
        let git = "Inst git (1:2.39.5-0+deb12u3 Debian:12.15/oldstable [amd64])";
        let want = "/w/archives/git_1%3a2.39.5-0+deb12u3_amd64.deb";
        assert_eq!(file(git), Some(want.into()));
        let tzdata = "Inst tzdata (2026a-0 Debian:12.15/stable, Debian-Security:12 [all]) []";
        assert_eq!(file(tzdata), Some("/w/archives/tzdata_2026a-0_all.deb".into()));
        assert_eq!(file("Conf git (1:2.39.5-0+deb12u3 Debian:12.15/oldstable [amd64])"), None);
        for hostile in ["Inst ../a (1 x [all])", "Inst a (1/../b x [all])", "Inst a (1 x [/all])"] {
            assert_eq!(file(hostile), None, "{hostile}");
        }
    }

    #[test]
    fn errors_are_told_before_remarks() {
        let shell = |script| last_words(&command("sh").args(["-c", script]).output().unwrap());
        assert_eq!(shell("echo W: a >&2; echo E: b >&2; echo c >&2"), "b");
        assert_eq!(shell("echo a >&2; echo b >&2"), "a; b");
        assert_eq!(shell("exit 3"), "exit status: 3");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("osvm-no-such-program", &[]).unwrap_err();
        let want = "start osvm-no-such-program, which is part of Debian and its kin";
        assert_eq!(error.to_string(), want);
    }
}
