//! What runs in the lab, as the shell is told it there.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Args;

/// A command with all that it finds around itself.
pub(super) struct Job {
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    user: Option<u32>,
    /// Folders that may be written, by their places in this list.
    pub(super) shares: Vec<PathBuf>,
}

/// The name by which the lab finds the share at `index`.
pub(super) fn tag(index: usize) -> String {
    format!("share{index}")
}

impl Job {
    /// With this process's environment and working directory.
    pub(super) fn here(args: &Args) -> Result<Self> {
        let share = |path: &PathBuf| {
            path.canonicalize().with_context(|| format!("share folder {}", path.display()))
        };
        Ok(Self {
            command: args.command.clone(),
            environment: env::vars_os().collect(),
            folder: env::current_dir().context("find the working directory")?,
            user: args.user,
            shares: args.write.iter().map(share).collect::<Result<_>>()?,
        })
    }

    /// Mounts the shares, and defines `run`.
    pub(super) fn script(&self) -> Result<Vec<u8>> {
        let mut script = Vec::new();
        for (index, share) in self.shares.iter().enumerate() {
            line(&mut script, &["share".into(), share.into(), tag(index).into()])?;
        }
        script.extend(b"run() {\nexec ");
        line(&mut script, &self.words())?;
        script.extend(b"}\n");
        Ok(script)
    }

    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["/usr/bin/env".into(), "-i".into(), "-C".into()];
        words.push(self.folder.clone().into());
        words.extend(self.environment.iter().map(|(name, value)| {
            let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
            OsString::from_vec(pair)
        }));
        if let Some(user) = self.user {
            let only = [format!("--reuid={user}"), format!("--regid={user}")];
            words.extend(["setpriv".into(), "--clear-groups".into()]);
            words.extend(only.map(OsString::from));
        }
        words.extend(self.command.iter().cloned());
        words
    }
}

/// Appends words as one line that a shell takes for exactly these.
fn line(script: &mut Vec<u8>, words: &[OsString]) -> Result<()> {
    let words = words.iter().map(|word| OsStr::as_bytes(word));
    script.extend(shlex::bytes::try_join(words).context("pass a word with a NUL to the lab")?);
    script.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            command: vec!["printf".into(), "%s|".into(), "a b".into(), "it's\n$HOME".into()],
            environment: vec![("ODD".into(), "two\nlines; 'quoted'".into())],
            folder: "/".into(),
            user: None,
            shares: vec!["/results of today".into()],
        }
    }

    /// What a shell makes of the script, with `share` replaced.
    fn told(job: &Job) -> String {
        let script = [b"share() { echo \"$1=$2\"; }\n", &*job.script().unwrap(), b"run"].concat();
        let shell = OsString::from_vec(script);
        let output = std::process::Command::new("sh").arg("-c").arg(shell).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn words_reach_the_command_as_they_were_given() {
        assert_eq!(told(&job()), "/results of today=share0\na b|it's\n$HOME|");
    }

    #[test]
    fn the_command_has_this_environment_and_no_other() {
        let mut job = job();
        job.command = vec!["/usr/bin/env".into()];
        assert!(told(&job).ends_with("ODD=two\nlines; 'quoted'\n"));
        job.command = vec!["/bin/pwd".into()];
        assert!(told(&job).ends_with("\n/\n"));
    }

    #[test]
    fn a_user_has_no_groups_of_roots() {
        let mut job = job();
        job.user = Some(1000);
        let words = job.words();
        let at = words.iter().position(|word| word == "setpriv").unwrap();
        assert_eq!(words[at + 1..at + 4], ["--clear-groups", "--reuid=1000", "--regid=1000"]);
    }
}
