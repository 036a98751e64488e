//! The flags of each tool that runs packages, from its own help, and what each of them means here. One that is
//! in no table is refused by name: what it would have changed must not be lost in silence.

use super::{Ecosystem, PackageError};

/// A tool that runs packages.
#[derive(Debug)]
pub(super) struct Runner {
    /// As people type it, for messages.
    pub(super) name: &'static str,
    pub(super) ecosystem: Ecosystem,
    /// Whether flags after the package are the tool's own, until `--`.
    pub(super) anywhere: bool,
    flags: &'static [Flag],
}

#[derive(Debug)]
struct Flag {
    names: &'static [&'static str],
    has_value: bool,
    means: Means,
}

#[derive(Debug, Clone, Copy)]
enum Means {
    /// Nothing that outlives the tool's own run: questions, caches, output.
    Nothing,
    Package,
    With,
    Python,
    /// A line that a shell would run.
    Call,
    Bin,
    Module,
    /// Known, and not followed for this reason.
    Refused(&'static str),
}

/// What a command line says, before any of it is understood.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) packages: Vec<String>,
    pub(super) with: Vec<String>,
    pub(super) python: Option<String>,
    pub(super) call: Option<String>,
    pub(super) bin: Option<String>,
    pub(super) module: Option<String>,
    /// The first word that is no flag, and all that follows it.
    pub(super) rest: Vec<String>,
}

const fn switch(names: &'static [&'static str], means: Means) -> Flag {
    Flag { names, has_value: false, means }
}

const fn valued(names: &'static [&'static str], means: Means) -> Flag {
    Flag { names, has_value: true, means }
}

const REGISTRY: Means =
    Means::Refused("the registry is the one that your npm or pip configuration names");
const PROJECT: Means = Means::Refused("no project of the host is in the VM");
const SCRIPTS: Means = Means::Refused(
    "install scripts run as the registry's tool runs them, inside a VM of their own",
);
const INSTALLED: Means = Means::Refused("a package is always installed anew, from its registry");
const FILE: Means = Means::Refused("no file of the host is in the VM");

const NPX_FLAGS: &[Flag] = &[
    switch(&["-y", "--yes"], Means::Nothing),
    valued(&["-p", "--package"], Means::Package),
    valued(&["-c", "--call"], Means::Call),
    switch(&["-q", "--quiet", "-s", "--silent", "-d", "--verbose"], Means::Nothing),
    valued(&["--loglevel", "--cache"], Means::Nothing),
    switch(&["--prefer-online", "--prefer-offline", "--ignore-existing"], Means::Nothing),
    switch(&["--no-audit", "--no-fund", "--no-progress", "--no-color"], Means::Nothing),
    switch(&["--no-update-notifier"], Means::Nothing),
    valued(&["--registry", "--userconfig"], REGISTRY),
    valued(&["-w", "--workspace", "--prefix"], PROJECT),
    switch(&["--workspaces"], PROJECT),
    switch(&["--ignore-scripts"], SCRIPTS),
    switch(&["--no", "--no-install", "--offline"], INSTALLED),
];

const NPM_EXEC_FLAGS: &[Flag] = &[
    switch(&["-y", "--yes"], Means::Nothing),
    valued(&["--package"], Means::Package),
    valued(&["-c", "--call"], Means::Call),
    switch(&["-q", "--quiet", "-s", "--silent", "-d", "--verbose"], Means::Nothing),
    valued(&["--loglevel", "--cache"], Means::Nothing),
    switch(&["--prefer-online", "--prefer-offline"], Means::Nothing),
    valued(&["--registry", "--userconfig"], REGISTRY),
    valued(&["-w", "--workspace", "--prefix"], PROJECT),
    switch(&["--workspaces"], PROJECT),
    switch(&["--ignore-scripts"], SCRIPTS),
    switch(&["--no", "--offline"], INSTALLED),
];

const BUN_FLAGS: &[Flag] = &[
    valued(&["-p", "--package"], Means::Package),
    switch(&["-y", "--yes", "--silent", "--verbose"], Means::Nothing),
    // Programs of npm's packages are run by Node.
    switch(&["--bun"], Means::Refused("servers from npm are run by Node.js")),
    valued(&["--registry", "--ca", "--cafile"], REGISTRY),
    valued(&["--cwd"], PROJECT),
    valued(&["--env-file"], FILE),
    switch(&["--trust", "--ignore-scripts"], SCRIPTS),
    switch(&["--no-install"], INSTALLED),
];

const PNPM_FLAGS: &[Flag] = &[
    valued(&["--package"], Means::Package),
    switch(&["-y", "--yes", "-s", "--silent"], Means::Nothing),
    valued(&["--reporter", "--loglevel"], Means::Nothing),
    switch(&["-c", "--shell-mode"], Means::Refused("nothing is run by a shell")),
    valued(&["--allow-build"], SCRIPTS),
    valued(&["--registry"], REGISTRY),
    valued(&["-C", "--dir"], PROJECT),
    valued(&["--env-file"], FILE),
];

const YARN_FLAGS: &[Flag] =
    &[valued(&["-p", "--package"], Means::Package), switch(&["-q", "--quiet"], Means::Nothing)];

const UV_FLAGS: &[Flag] = &[
    valued(&["--from"], Means::Package),
    valued(&["-w", "--with"], Means::With),
    valued(&["-p", "--python"], Means::Python),
    switch(&["-q", "-qq", "--quiet", "-v", "-vv", "--verbose", "--no-progress"], Means::Nothing),
    valued(&["--color", "--cache-dir", "--link-mode", "--refresh-package"], Means::Nothing),
    switch(&["-n", "--no-cache", "--refresh", "-U", "--upgrade", "--reinstall"], Means::Nothing),
    switch(&["--isolated", "--compile-bytecode", "--no-env-file", "--no-config"], Means::Nothing),
    switch(&["--managed-python", "--no-managed-python"], Means::Nothing),
    valued(&["--index", "--default-index", "-i", "--index-url", "--extra-index-url"], REGISTRY),
    valued(&["-f", "--find-links"], REGISTRY),
    valued(&["--with-editable", "--directory", "--project"], PROJECT),
    valued(&["--with-requirements", "-c", "--constraints", "--overrides"], FILE),
    valued(&["--env-file", "--config-file"], FILE),
    switch(&["--offline", "--no-index"], INSTALLED),
];

const PIPX_FLAGS: &[Flag] = &[
    valued(&["--spec"], Means::Package),
    valued(&["--with"], Means::With),
    valued(&["--python"], Means::Python),
    switch(&["-q", "--quiet", "-v", "--verbose", "--no-cache", "--refresh"], Means::Nothing),
    switch(&["--skip-maintenance", "--no-path-check"], Means::Nothing),
    valued(&["--backend", "--fetch-python"], Means::Nothing),
    switch(&["--fetch-missing-python"], Means::Nothing),
    valued(&["-i", "--index-url"], REGISTRY),
    switch(&["-e", "--editable", "--path", "--pypackages"], PROJECT),
];

const TEXT_FLAGS: &[Flag] = &[
    valued(&["--with"], Means::With),
    valued(&["--python"], Means::Python),
    valued(&["--bin"], Means::Bin),
    valued(&["--module"], Means::Module),
];

const fn npm(name: &'static str, flags: &'static [Flag]) -> Runner {
    Runner { name, ecosystem: Ecosystem::Npm, anywhere: false, flags }
}

const fn pypi(name: &'static str, flags: &'static [Flag]) -> Runner {
    Runner { name, ecosystem: Ecosystem::PyPi, anywhere: false, flags }
}

pub(super) const NPX: Runner = npm("npx", NPX_FLAGS);
pub(super) const NPM_EXEC: Runner = Runner { anywhere: true, ..npm("npm exec", NPM_EXEC_FLAGS) };
pub(super) const BUNX: Runner = npm("bunx", BUN_FLAGS);
pub(super) const PNPM_DLX: Runner = npm("pnpm dlx", PNPM_FLAGS);
pub(super) const YARN_DLX: Runner = npm("yarn dlx", YARN_FLAGS);
pub(super) const UVX: Runner = pypi("uvx", UV_FLAGS);
pub(super) const PIPX_RUN: Runner = pypi("pipx run", PIPX_FLAGS);

/// What stands behind the package in osvm's own text of it.
pub(super) const fn text(ecosystem: Ecosystem) -> Runner {
    Runner { name: "the package", ecosystem, anywhere: true, flags: TEXT_FLAGS }
}

impl Runner {
    /// Sorts the words that follow the tool's name.
    pub(super) fn read(&self, words: &[String]) -> Result<Said, PackageError> {
        let mut said = Said::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if word.starts_with('-') && word.len() > 1 {
                self.flag(word, &mut words, &mut said)?;
                continue;
            }
            said.rest.push(word.clone());
            if !self.anywhere {
                break;
            }
        }
        said.rest.extend(words.cloned());
        Ok(said)
    }

    fn flag<'w>(
        &self,
        word: &str,
        words: &mut impl Iterator<Item = &'w String>,
        said: &mut Said,
    ) -> Result<(), PackageError> {
        let (name, inline) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
        let flag = self.flags.iter().find(|flag| flag.names.contains(&name));
        let flag = flag.ok_or_else(|| self.unknown(name))?;
        let (runner, name) = (self.name, name.to_owned());
        if let Means::Refused(why) = flag.means {
            return Err(PackageError::RefusedFlag { runner, flag: name, why });
        }
        let value = match (flag.has_value, inline) {
            (false, None) => return Ok(()),
            (false, Some(_)) => return Err(PackageError::UnwantedValue { runner, flag: name }),
            (true, Some(value)) => Some(value.to_owned()),
            (true, None) => words.next().cloned(),
        };
        let value = value.ok_or(PackageError::NoValue { runner, flag: name })?;
        self.note(flag, value, said)
    }

    fn note(&self, flag: &Flag, value: String, said: &mut Said) -> Result<(), PackageError> {
        let list = match flag.means {
            Means::Package => &mut said.packages,
            Means::With => &mut said.with,
            Means::Nothing | Means::Refused(_) => return Ok(()),
            Means::Python => return self.once(flag, value, &mut said.python),
            Means::Call => return self.once(flag, value, &mut said.call),
            Means::Bin => return self.once(flag, value, &mut said.bin),
            Means::Module => return self.once(flag, value, &mut said.module),
        };
        list.push(value);
        Ok(())
    }

    fn once(
        &self,
        flag: &Flag,
        value: String,
        place: &mut Option<String>,
    ) -> Result<(), PackageError> {
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(PackageError::Twice { runner: self.name, flag: flag.names[0] }),
        }
    }

    /// The flag that names a package.
    pub(super) fn package_flag(&self) -> &'static str {
        let flag = self.flags.iter().find(|flag| matches!(flag.means, Means::Package));
        flag.map_or(self.name, |flag| flag.names[0])
    }

    fn unknown(&self, name: &str) -> PackageError {
        let followed = self.flags.iter().filter(|flag| !matches!(flag.means, Means::Refused(_)));
        let known = followed.flat_map(|flag| flag.names).copied().collect();
        PackageError::UnknownFlag { runner: self.name, flag: name.to_owned(), known }
    }
}
