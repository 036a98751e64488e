//! One program: an executable of this machine, or a script whose interpreter images have.

use std::io::Read;
use std::path::Path;

use super::{Kind, LocalError, PROGRAMS};
use crate::files;

/// What is read of a file: the header of an executable is 64 bytes, and a script's first line is rarely longer.
const START: u64 = 256;

/// Numbers of machines in ELF's header (`e_machine`), and what Rust and Linux call them.
const MACHINES: [(u16, &str); 6] =
    [(3, "x86"), (40, "arm"), (62, "x86_64"), (183, "aarch64"), (243, "riscv64"), (22, "s390x")];

/// What scripts are started by in the images: a program that lies in front of them can't have such a name.
const TAKEN: [&str; 7] = ["bash", "env", "node", "python", "python3", "sh", "uv"];

/// Scripts that are known by their names; they may lack the line that makes them programs.
const SCRIPTS: [&str; 5] = ["py", "js", "mjs", "cjs", "sh"];

/// What the beginning of a file is.
enum Magic<'a> {
    Elf(&'a [u8]),
    Script(&'a [u8]),
    Foreign(&'static str),
}

pub(super) fn is_program(path: &Path) -> bool {
    path.is_file() && (start(path).is_ok_and(|start| magic(&start).is_some()) || is_script(path))
}

fn is_script(path: &Path) -> bool {
    path.extension().is_some_and(|end| SCRIPTS.iter().any(|script| end == *script))
}

/// What the program at `path`, a path without links, runs on.
pub(super) fn kind(path: &Path) -> Result<Kind, LocalError> {
    let start = start(path)?;
    match magic(&start) {
        Some(Magic::Elf(header)) => executable(path, header),
        Some(Magic::Script(line)) => script(path, line),
        Some(Magic::Foreign(is)) => Err(foreign(path, is)),
        None => Err(LocalError::NoInterpreter { path: path.to_owned() }),
    }
}

pub(super) fn command(path: &Path) -> Result<Vec<String>, LocalError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| LocalError::Name { path: path.to_owned() })?;
    if TAKEN.contains(&name) {
        return Err(LocalError::Shadow { path: path.to_owned() });
    }
    Ok(vec![format!("{PROGRAMS}/{name}")])
}

fn start(path: &Path) -> Result<Vec<u8>, LocalError> {
    let failed = |source| LocalError::Read { path: path.to_owned(), source };
    // The user names it, and may do so by a link.
    let path = std::fs::canonicalize(path).map_err(failed)?;
    let mut start = Vec::new();
    let file = files::open(&path).map_err(failed)?;
    file.take(START).read_to_end(&mut start).map_err(failed)?;
    Ok(start)
}

fn magic(start: &[u8]) -> Option<Magic<'_>> {
    match start {
        [0x7f, b'E', b'L', b'F', ..] => Some(Magic::Elf(start)),
        [b'#', b'!', line @ ..] => Some(Magic::Script(line)),
        [b'M', b'Z', ..] => Some(Magic::Foreign("Windows")),
        // 64 bits, and several processors in one file.
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            Some(Magic::Foreign("macOS"))
        }
        _ => None,
    }
}

/// By the header of an ELF file: its class, byte order, type, machine and entry point.
fn executable(path: &Path, header: &[u8]) -> Result<Kind, LocalError> {
    let no_program = || LocalError::NoProgram { path: path.to_owned() };
    let header: &[u8; 64] = header.first_chunk().ok_or_else(no_program)?;
    let [class, order] = [header[4], header[5]];
    let number = |at: usize| match order {
        2 => u16::from_be_bytes([header[at], header[at + 1]]),
        _ => u16::from_le_bytes([header[at], header[at + 1]]),
    };
    let known = MACHINES.iter().find(|(machine, _)| *machine == number(18));
    let is = known.map_or_else(|| format!("machine {}", number(18)), |(_, name)| (*name).into());
    if is != std::env::consts::ARCH || class != 2 || order != 1 {
        return Err(foreign(path, &is));
    }
    // Of a fixed place (2) or of any (3), as libraries are: these have nowhere to begin.
    let runs = matches!(number(16), 2 | 3) && header[24..32] != [0; 8];
    if runs { Ok(Kind::Binary) } else { Err(no_program()) }
}

/// By what starts it, also through `env`.
fn script(path: &Path, line: &[u8]) -> Result<Kind, LocalError> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace().filter(|word| *word != "-S");
    let named = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let interpreter = match words.next().map(named) {
        Some(env) if env == "env" => words.next().map(named),
        other => other,
    };
    match interpreter.as_deref() {
        Some("sh" | "bash") => Ok(Kind::Binary),
        Some("python3" | "python") => Ok(Kind::Python),
        Some("node") => Ok(Kind::Node),
        Some(other) => {
            let interpreter = other.to_owned();
            Err(LocalError::Interpreter { path: path.to_owned(), interpreter })
        }
        None => Err(LocalError::NoInterpreter { path: path.to_owned() }),
    }
}

fn foreign(path: &Path, is: &str) -> LocalError {
    let wanted = format!("Linux, {}", std::env::consts::ARCH);
    LocalError::Platform { path: path.to_owned(), is: is.to_owned(), wanted }
}
