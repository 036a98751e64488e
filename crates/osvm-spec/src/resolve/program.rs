//! From an image and words to what is run: a command that would install a package is that package's image, and one
//! that would run a container is that container's.

use std::collections::BTreeMap;

use crate::ImageRef;
use crate::containers::{self, ContainerError};
use crate::packages::{PackageError, Recognised, Request, recognise};

/// What was written.
pub(super) struct Program {
    pub(super) image: Option<ImageRef>,
    pub(super) words: Vec<String>,
}

/// What is run, and in what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lowered {
    pub(super) image: Option<ImageRef>,
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
}

/// Why words can't be followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unclear {
    Package(PackageError),
    Container(ContainerError),
}

impl Program {
    /// In another image than a package's, words are taken as they are. A package's are its program's arguments.
    pub(super) fn lower(self) -> Result<Lowered, Unclear> {
        let Self { image, words } = self;
        let named = match &image {
            None => match containers::recognise(&words)? {
                Some(run) => return Ok(run.into()),
                None => None,
            },
            Some(ImageRef::Package(install)) => Some(&**install),
            Some(_) => return Ok(Lowered { image, command: words, ..Lowered::default() }),
        };
        Ok(match recognise(&words, named)? {
            Recognised::Package(request) => (*request).into(),
            _ if named.is_some() => Lowered { image, args: words, ..Lowered::default() },
            _ => Lowered { command: words, ..Lowered::default() },
        })
    }
}

impl From<Request> for Lowered {
    fn from(Request { install, args, env }: Request) -> Self {
        let image = Some(ImageRef::Package(Box::new(install)));
        Self { image, command: Vec::new(), args, env }
    }
}

impl From<containers::Run> for Lowered {
    fn from(run: containers::Run) -> Self {
        let command = run.entrypoint.into_iter().collect();
        Self { image: Some(run.image), command, args: run.args, env: run.env }
    }
}

impl From<PackageError> for Unclear {
    fn from(why: PackageError) -> Self {
        Self::Package(why)
    }
}

impl From<ContainerError> for Unclear {
    fn from(why: ContainerError) -> Self {
        Self::Container(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower(image: Option<&str>, words: &[&str]) -> Lowered {
        let image = image.map(|text| text.parse().unwrap());
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Program { image, words }.lower().unwrap()
    }

    #[test]
    fn what_installs_a_package_is_its_image_and_keeps_its_arguments() {
        let lowered = lower(None, &["env", "A=b", "npx", "-y", "@scope/name@1.2.3", "/work"]);
        assert_eq!(lowered.image, Some("npm:@scope/name@1.2.3".parse().unwrap()));
        assert_eq!((lowered.command, lowered.args), (Vec::new(), vec!["/work".to_owned()]));
        assert_eq!(lowered.env["A"], "b");
    }

    #[test]
    fn a_packages_words_are_arguments_or_its_module() {
        let plain = lower(Some("pypi:a"), &["--verbose"]);
        assert_eq!((plain.command.len(), plain.args), (0, vec!["--verbose".to_owned()]));
        let module = lower(Some("pypi:a"), &["python", "-m", "b", "c"]);
        assert_eq!(module.image, Some("pypi:a --module b".parse().unwrap()));
        assert_eq!(module.args, ["c"]);
    }

    #[test]
    fn what_runs_a_container_is_its_image_and_keeps_its_arguments() {
        let lowered = lower(None, &["docker", "run", "-i", "-e", "A=b", "mcp/time", "--utc"]);
        assert_eq!(lowered.image, Some("docker.io/mcp/time".parse().unwrap()));
        assert_eq!((lowered.command.len(), lowered.args), (0, vec!["--utc".to_owned()]));
        assert_eq!(lowered.env["A"], "b");
    }

    #[test]
    fn in_another_image_words_are_a_command() {
        let own = lower(Some("./root"), &["npx", "-y", "x"]);
        assert_eq!(own.command, ["npx", "-y", "x"]);
        let default = lower(None, &["/bin/server"]);
        assert_eq!((default.image, default.command.len()), (None, 1));
    }

    #[test]
    fn a_package_that_is_named_twice_is_refused() {
        let image = Some("npm:a".parse().unwrap());
        let words = vec!["npx".to_owned(), "b".to_owned()];
        assert!(Program { image, words }.lower().is_err());
    }
}
