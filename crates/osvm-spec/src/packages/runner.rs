//! Whose command a command is, and what it asks for.

use std::collections::BTreeMap;

use super::flags::{self, Runner, Said};
use super::{Ecosystem, Install, Package, PackageError, Program, Request, pypi};
use crate::command;
use crate::config::is_variable;

/// What a command turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    /// It runs a package's program.
    Package(Box<Request>),
    /// `python -m` of a module, and nobody said which package has it: that is no name that could be
    /// guessed, so the image must hold it, or the package be named beside the command.
    Module(String),
    /// A program of the image.
    Plain,
}

/// What `argv` is. `named` is the package that the user named beside it, which only `python -m` needs.
pub fn recognise(argv: &[String], named: Option<&Install>) -> Result<Recognised, PackageError> {
    let line = one_line(argv)?;
    let (env, words) = environment(line.as_deref().unwrap_or(argv))?;
    if let Some(module) = Module::of(words) {
        return module.recognised(env, named);
    }
    let Some((runner, words)) = runner(words) else { return Ok(Recognised::Plain) };
    match named {
        Some(named) => Err(PackageError::NamedTwice(named.to_string())),
        None => request(&runner, &words, env).map(|request| Recognised::Package(Box::new(request))),
    }
}

/// The tool, and what it is told.
fn runner(words: &[String]) -> Option<(Runner, Vec<String>)> {
    let (program, words) = words.split_first()?;
    let program = program_name(program);
    if let Some(runner) = alone(&program) {
        return Some((runner, words.to_vec()));
    }
    let flags = words.iter().take_while(|word| word.starts_with('-')).count();
    let (before, after) = words.split_at(flags);
    let (runner, count) = with_subcommand(&program, after)?;
    Some((runner, [before, &after[count..]].concat()))
}

fn alone(program: &str) -> Option<Runner> {
    Some(match program {
        "npx" => flags::NPX,
        "bunx" => flags::BUNX,
        "pnpx" | "pnx" => flags::PNPM_DLX,
        "uvx" => flags::UVX,
        _ => return None,
    })
}

/// Also how many words the subcommand has.
fn with_subcommand(program: &str, words: &[String]) -> Option<(Runner, usize)> {
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    Some(match (program, word(0)) {
        ("npm", "exec" | "x") => (flags::NPM_EXEC, 1),
        ("bun", "x") => (flags::BUNX, 1),
        ("pnpm", "dlx") => (flags::PNPM_DLX, 1),
        ("yarn", "dlx") => (flags::YARN_DLX, 1),
        ("pipx", "run") => (flags::PIPX_RUN, 1),
        ("uv", "tool") if word(1) == "run" => (flags::UVX, 2),
        _ => return None,
    })
}

/// `npx` of `/usr/bin/npx` and of `C:\Program Files\nodejs\npx.cmd`.
fn program_name(word: &str) -> String {
    let name = word.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase();
    let ends = [".cmd", ".exe", ".bat", ".ps1"];
    ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name).to_owned()
}

/// The words behind `cmd /c`, which may be one line.
fn one_line(argv: &[String]) -> Result<Option<Vec<String>>, PackageError> {
    let Some((program, words)) = argv.split_first() else { return Ok(None) };
    if program_name(program) != "cmd" {
        return Ok(None);
    }
    let switches = words.iter().take_while(|word| word.starts_with('/')).count();
    match &words[switches..] {
        [line] => command::split(line).map(Some).map_err(|_| PackageError::Unclosed),
        words => Ok(Some(words.to_vec())),
    }
}

type Environment = BTreeMap<String, String>;

/// What `env NAME=value` sets, and the words behind it.
fn environment(argv: &[String]) -> Result<(Environment, &[String]), PackageError> {
    let words = match argv.split_first() {
        Some((program, words)) if program_name(program) == "env" => words,
        _ => return Ok((Environment::new(), argv)),
    };
    let pair = |word: &String| {
        let (name, value) = word.split_once('=')?;
        is_variable(name).then(|| (name.to_owned(), value.to_owned()))
    };
    let env: Vec<_> = words.iter().map_while(pair).collect();
    let words = &words[env.len()..];
    match words.first().filter(|word| word.starts_with('-')) {
        Some(flag) if words.iter().any(|word| runner(std::slice::from_ref(word)).is_some()) => {
            let flag = flag.clone();
            Err(PackageError::UnknownFlag { runner: "env", flag, known: vec!["NAME=value"] })
        }
        _ => Ok((env.into_iter().collect(), words)),
    }
}

/// `python3.12 -m NAME ARGS`.
struct Module<'w> {
    /// What stands behind `python`.
    version: String,
    name: &'w str,
    args: &'w [String],
}

impl<'w> Module<'w> {
    fn of(words: &'w [String]) -> Option<Self> {
        let [program, flag, name, args @ ..] = words else { return None };
        let version = program_name(program).strip_prefix("python")?.to_owned();
        let is_python = version.chars().all(|c| c.is_ascii_digit() || c == '.');
        (is_python && flag == "-m").then_some(Self { version, name, args })
    }

    fn recognised(
        self,
        env: Environment,
        named: Option<&Install>,
    ) -> Result<Recognised, PackageError> {
        let Some(named) = named else { return Ok(Recognised::Module(self.name.to_owned())) };
        // A bare `python3` asks for whichever there is.
        let version = Some(self.version).filter(|version| version.contains('.'));
        let python = named.python.clone().or(version);
        let program = Program::module(self.name)?;
        let install = Install { program, python, ..named.clone() }.checked()?;
        Ok(Recognised::Package(Box::new(Request { install, args: self.args.to_vec(), env })))
    }
}

fn request(runner: &Runner, words: &[String], env: Environment) -> Result<Request, PackageError> {
    let mut said = runner.read(words)?;
    if let Some(line) = said.call.take() {
        said.rest = called(runner, &line, &said)?;
    }
    let Some((first, args)) = said.rest.split_first() else {
        return Err(match said.packages.is_empty() {
            true => PackageError::NoPackage(runner.name),
            false => PackageError::NoProgram(runner.name),
        });
    };
    let (package, program) = match said.packages.first() {
        None => (runner.only(first)?, Program::Default),
        Some(package) => (runner.ecosystem.package(package)?, Program::named(first)?),
    };
    let with = runner.beside(&said)?;
    let args = args.to_vec();
    let install =
        Install { ecosystem: runner.ecosystem, package, with, python: said.python, program };
    Ok(Request { install: install.checked()?, args, env })
}

/// The words of `npx -c 'program arguments'`.
fn called(runner: &Runner, line: &str, said: &Said) -> Result<Vec<String>, PackageError> {
    let shell = || PackageError::Shell { runner: runner.name, line: line.to_owned() };
    if said.packages.is_empty() {
        return Err(PackageError::NoPackage(runner.name));
    }
    if !said.rest.is_empty()
        || line.contains(['$', '`', '|', '&', ';', '<', '>', '*', '?', '(', '\n'])
    {
        return Err(shell());
    }
    command::split(line).map_err(|_| shell())
}

impl Runner {
    /// The package that is run without having been named apart.
    fn only(&self, word: &str) -> Result<Package, PackageError> {
        let package = self.ecosystem.package(word)?;
        // uv would run the interpreter alone.
        let is_python = ["python", "python3"].contains(&package.name());
        match is_python && self.ecosystem == Ecosystem::PyPi {
            true => Err(PackageError::NoPackage(self.name)),
            false => Ok(package),
        }
    }

    /// npm's further packages, and what is told as `--with`.
    fn beside(&self, said: &Said) -> Result<Vec<Package>, PackageError> {
        if self.ecosystem == Ecosystem::PyPi && said.packages.len() > 1 {
            return Err(PackageError::Twice { runner: self.name, flag: self.package_flag() });
        }
        let with = said.with.iter().flat_map(|list| pypi::split_list(list));
        let further = said.packages.iter().skip(1).map(String::as_str);
        further.chain(with).map(|text| self.ecosystem.package(text)).collect()
    }
}
