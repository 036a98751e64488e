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
    if let Some((module, args)) = module(words) {
        return of_module(module, args, env, named);
    }
    let Some((runner, words)) = runner(words) else { return Ok(Recognised::Plain) };
    match named {
        Some(named) => Err(PackageError::NamedTwice(named.to_string())),
        None => request(&runner, words, env).map(|request| Recognised::Package(Box::new(request))),
    }
}

/// The tool, and the words after its name.
fn runner(words: &[String]) -> Option<(Runner, &[String])> {
    let (program, words) = words.split_first()?;
    Some(match (program_name(program).as_str(), subcommand(words)) {
        ("npx", _) => (flags::NPX, words),
        ("bunx", _) => (flags::BUNX, words),
        ("pnpx" | "pnx", _) => (flags::PNPM_DLX, words),
        ("uvx", _) => (flags::UVX, words),
        ("npm", Some("exec" | "x")) => (flags::NPM_EXEC, &words[1..]),
        ("bun", Some("x")) => (flags::BUNX, &words[1..]),
        ("pnpm", Some("dlx")) => (flags::PNPM_DLX, &words[1..]),
        ("yarn", Some("dlx")) => (flags::YARN_DLX, &words[1..]),
        ("pipx", Some("run")) => (flags::PIPX_RUN, &words[1..]),
        ("uv", Some("tool")) if subcommand(&words[1..]) == Some("run") => (flags::UVX, &words[2..]),
        _ => return None,
    })
}

fn subcommand(words: &[String]) -> Option<&str> {
    words.first().map(String::as_str)
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

/// Module and arguments of `python3 -m MODULE ARGS`.
fn module(words: &[String]) -> Option<(&str, &[String])> {
    let [program, flag, module, args @ ..] = words else { return None };
    let name = program_name(program);
    let version = name.strip_prefix("python")?;
    let is_python = version.chars().all(|c| c.is_ascii_digit() || c == '.');
    (is_python && flag == "-m").then_some((module, args))
}

fn of_module(
    module: &str,
    args: &[String],
    env: Environment,
    named: Option<&Install>,
) -> Result<Recognised, PackageError> {
    let Some(named) = named else { return Ok(Recognised::Module(module.to_owned())) };
    let install = Install { program: Program::module(module)?, ..named.clone() }.checked()?;
    Ok(Recognised::Package(Box::new(Request { install, args: args.to_vec(), env })))
}

fn request(runner: &Runner, words: &[String], env: Environment) -> Result<Request, PackageError> {
    let mut said = runner.read(words)?;
    if let Some(line) = said.call.take() {
        said.rest.splice(0..0, called(runner, &line, &said)?);
    }
    let mut rest = said.rest.iter();
    let first = rest.next();
    let (package, program) = match (said.packages.first(), first) {
        (None, None) => return Err(PackageError::NoPackage(runner.name)),
        (Some(_), None) => return Err(PackageError::NoProgram(runner.name)),
        (None, Some(first)) => (runner.only(first)?, Program::Default),
        (Some(package), Some(first)) => {
            (runner.ecosystem.package(package)?, Program::named(first)?)
        }
    };
    let install = Install {
        ecosystem: runner.ecosystem,
        package,
        with: runner.beside(&said)?,
        python: said.python,
        program,
    };
    Ok(Request { install: install.checked()?, args: rest.cloned().collect(), env })
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
        match word {
            // uv would run the interpreter alone.
            "python" | "python3" if self.ecosystem == Ecosystem::PyPi => {
                Err(PackageError::NoPackage(self.name))
            }
            word => self.ecosystem.package(word),
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
