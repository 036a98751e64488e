//! `cargo xtask kernel`: the lean guest kernel from the distribution's kernel source package and
//! `guest/kernel/osvm.config`. The result is kept outside the checkout, keyed by all that made it.

mod build;
mod fragment;
mod source;
mod toolchain;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use fragment::Fragment;
use source::Source;

/// Raised when the steps in `build.rs` change what comes out.
const RECIPE: u32 = 1;

/// Build the lean guest kernel (5 to 15 minutes the first time) and print the path of its vmlinux.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with the distribution's linux-source-*.tar.* packages
    #[arg(long, value_name = "DIR", default_value = "/usr/src")]
    sources: PathBuf,
    /// Where finished kernels are kept [default: osvm/kernel in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Compilers to run at once [default: as many as there are CPUs]
    #[arg(long, short, value_name = "N")]
    jobs: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let text = read_fragment()?;
    toolchain::require(toolchain::ALWAYS)?;
    let source = source::newest(&args.sources)?;
    let key = key(&text, &source.version, &toolchain::compiler()?);
    let cache = args.cache.clone().map_or_else(|| crate::cache::folder("kernel"), Ok)?;
    let kernel = cache.join(key);
    if !kernel.join("kernel.json").exists() {
        build_once(args, &cache, &kernel, &source, &Fragment::parse(&text)?)?;
    }
    println!("{}", kernel.join("vmlinux").display());
    Ok(())
}

fn read_fragment() -> Result<String> {
    let path = fragment_path();
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn fragment_path() -> PathBuf {
    crate::checkout().join("guest/kernel/osvm.config")
}

/// Names the result by everything that decides it.
fn key(fragment: &str, source: &str, compiler: &str) -> String {
    let recipe = RECIPE.to_string();
    let mut hash = Sha256::new();
    for part in [fragment, source, compiler, &recipe] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Builds under a lock, so that a second caller waits and finds the result.
fn build_once(
    args: &Args,
    cache: &Path,
    kernel: &Path,
    source: &Source,
    fragment: &Fragment,
) -> Result<()> {
    toolchain::require(toolchain::BUILD)?;
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("lock")).context("cannot create the cache's lock file")?;
    lock.lock().context("cannot lock the cache")?;
    if kernel.join("kernel.json").exists() {
        return Ok(());
    }
    build::Build { cache, kernel, source, fragment, jobs: jobs(args) }.run()
}

fn jobs(args: &Args) -> usize {
    args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_every_part_and_with_the_border_between_parts() {
        let keys = [
            key("a", "b", "c"),
            key("x", "b", "c"),
            key("a", "x", "c"),
            key("a", "b", "x"),
            key("ab", "", "c"),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one), "{one} twice");
        }
    }

    #[test]
    fn the_projects_own_fragment_parses() {
        Fragment::parse(&read_fragment().unwrap()).unwrap();
    }
}
