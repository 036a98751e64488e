//! Builds the programs that run inside the guest, static, so that they can be embedded.
//!
//! They are built by a cargo of their own, because they need another profile and, where musl is
//! installed, another target. Its output is kept in the workspace's target folder and shared
//! between profiles.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything by its environment, and starts a compiler"
)]

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const PROGRAMS: [&str; 2] = ["osvm-guest", "osvm-demo"];
/// Folders that the programs are made of.
const SOURCES: [&str; 3] = ["crates/osvm-guest", "crates/osvm-demo", "crates/osvm-wire"];

fn main() -> Result<(), Box<dyn Error>> {
    let crate_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = crate_dir.ancestors().nth(2).ok_or("the crate is not inside its workspace")?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());
    let target = target(&variable("CARGO_CFG_TARGET_ARCH")?)?;
    let built = target_dir(&out).join("guest-programs");
    build(workspace, &target, &built)?;
    for program in PROGRAMS {
        let from = built.join(&target).join("guest").join(program);
        let bytes = std::fs::read(&from);
        let bytes = bytes.map_err(|error| format!("read {}: {error}", from.display()))?;
        std::fs::write(out.join(program), &bytes)?;
        std::fs::write(out.join(format!("{program}.sha256")), hex(&Sha256::digest(&bytes)))?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"))
}

/// musl where it is installed: smaller. The host's own libc otherwise, linked statically.
fn target(arch: &OsString) -> Result<String, Box<dyn Error>> {
    let arch = arch.to_str().ok_or("the architecture's name is not text")?;
    let musl = format!("{arch}-unknown-linux-musl");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let lib = Command::new(rustc).args(["--print", "target-libdir", "--target", &musl]).output()?;
    let lib = String::from_utf8(lib.stdout)?;
    let installed = !lib.trim().is_empty() && Path::new(lib.trim()).is_dir();
    Ok(if installed { musl } else { format!("{arch}-unknown-linux-gnu") })
}

/// `OUT_DIR` is `<target>/<profile>/build/<crate>/out`.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors().nth(4).unwrap_or(out).to_owned()
}

fn build(workspace: &Path, target: &str, built: &Path) -> Result<(), Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace)
        .args(["build", "--locked", "--profile", "guest", "--target", target])
        .arg("--target-dir")
        .arg(built)
        .args(PROGRAMS.iter().flat_map(|program| ["--package", program]))
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    // What the outer cargo or a linter set for its own build is not meant for this one.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = text == "CARGO_ENCODED_RUSTFLAGS"
            || text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CLIPPY_")
            || text == "RUSTC_WRAPPER"
            || text == "RUSTC_WORKSPACE_WRAPPER";
        if foreign {
            command.env_remove(&name);
        }
    }
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err("the guest's programs did not build".into()) }
}
