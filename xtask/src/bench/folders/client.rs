//! The client whose times count, in a guest: prints nanoseconds, one line for each time. A program of its own, which
//! the benchmark compiles: it needs nothing but the standard library.
//!
//! ```text
//! client read PATH COUNT             a file, or all files below a folder
//! client run FOLDER COUNT PROGRAM [ARGUMENT...]
//! client absent PATH COUNT           looks for what is not there
//! client echo DEVICE COUNT           64 bytes there and back
//! client take DEVICE COUNT           64 MiB, asked for by one byte
//! ```
//!
//! Before each time of the first two the guest's kernel forgets all that it has read: run by root.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [what, at, count, command @ ..] = &arguments[..] else { return Err(invalid()) };
    let count = count.parse().map_err(io::Error::other)?;
    let times = match *what {
        "read" => timed(count, forget, || read(Path::new(at))),
        "run" => timed(count, forget, || run(at, command)),
        "absent" => timed(count, nothing, || absent(at)),
        "echo" => {
            let mut device = File::options().read(true).write(true).open(at)?;
            timed(count, nothing, || echo(&mut device))
        }
        "take" => {
            let mut device = File::options().read(true).write(true).open(at)?;
            timed(count, nothing, || take(&mut device))
        }
        _ => Err(invalid()),
    }?;
    io::stdout().write_all(times.as_bytes())
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

fn timed(
    count: u32,
    prepare: fn() -> io::Result<()>,
    mut work: impl FnMut() -> io::Result<()>,
) -> io::Result<String> {
    let mut times = String::new();
    for _ in 0..count {
        prepare()?;
        let start = Instant::now();
        work()?;
        times += &format!("{}\n", start.elapsed().as_nanos());
    }
    Ok(times)
}

fn nothing() -> io::Result<()> {
    Ok(())
}

fn forget() -> io::Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "3")
}

fn read(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        let mut file = File::open(path)?;
        let mut piece = vec![0; 128 << 10];
        while file.read(&mut piece)? > 0 {}
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        read(&entry?.path())?;
    }
    Ok(())
}

fn run(folder: &str, command: &[&str]) -> io::Result<()> {
    let [program, arguments @ ..] = command else { return Err(invalid()) };
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output()?;
    if output.status.success() { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&output.stderr))) }
}

fn absent(path: &str) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

fn echo(device: &mut File) -> io::Result<()> {
    let mut bytes = [b'e'; 64];
    device.write_all(&bytes)?;
    device.read_exact(&mut bytes)
}

fn take(device: &mut File) -> io::Result<()> {
    device.write_all(b"t")?;
    let mut piece = vec![0; 128 << 10];
    let mut left = 64 << 20;
    while left > 0 {
        match device.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left -= count,
        }
    }
    Ok(())
}
