//! `cargo xtask kernel`: the lean guest kernel from the distribution's kernel source package and
//! what lies in `guest/kernel/`. The result is kept outside the checkout, keyed by all that made it.

mod build;
mod fragment;
mod patches;
mod source;
mod toolchain;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use build::Build;

/// Raised when the steps in `build.rs` change what comes out.
const RECIPE: u32 = 1;

const SOURCES: &str = "/usr/src";

/// Build the lean guest kernel (5 to 15 minutes the first time) and print the path of its vmlinux.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with the distribution's linux-source-*.tar.* packages
    #[arg(long, value_name = "DIR", default_value = SOURCES)]
    sources: PathBuf,
    /// Where finished kernels are kept [default: osvm/kernel in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Options beyond those of guest/kernel/osvm.config, for an experiment
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Compilers to run at once [default: as many as there are CPUs]
    #[arg(long, short, value_name = "N")]
    jobs: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    println!("{}", kernel(args)?.display());
    Ok(())
}

/// The kernel that also has the options in this file of the checkout.
pub(crate) fn with(options: &str) -> Result<PathBuf> {
    let options = crate::checkout().join(options);
    kernel(&Args { sources: SOURCES.into(), with: Some(options), cache: None, jobs: None })
}

fn kernel(args: &Args) -> Result<PathBuf> {
    let text = read_fragments(args.with.as_deref())?;
    toolchain::require(toolchain::ALWAYS)?;
    let source = source::newest(&args.sources)?;
    let patches = patches::read(&folder())?;
    let changes: String = patches.iter().map(|patch| patch.text.as_str()).collect();
    let key = key(&text, &changes, &source.version, &toolchain::compiler()?);
    let cache = args.cache.clone().map_or_else(|| crate::cache::folder("kernel"), Ok)?;
    let kernel = cache.join(key);
    if !kernel.join("kernel.json").exists() {
        let build = Build {
            cache: &cache,
            kernel: &kernel,
            source: &source,
            patches: &patches,
            options: &text,
            jobs: jobs(args),
        };
        build_once(&build)?;
    }
    Ok(kernel.join("vmlinux"))
}

/// The options of every kernel, and those that come on top.
fn read_fragments(with: Option<&Path>) -> Result<String> {
    let every = folder().join("osvm.config");
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    [Some(every.as_path()), with].into_iter().flatten().map(read).collect()
}

fn folder() -> PathBuf {
    crate::checkout().join("guest/kernel")
}

/// Names the result by everything that decides it.
fn key(fragment: &str, patches: &str, source: &str, compiler: &str) -> String {
    let recipe = RECIPE.to_string();
    let mut hash = Sha256::new();
    for part in [fragment, patches, source, compiler, &recipe] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Builds under a lock, so that a second caller waits and finds the result.
fn build_once(build: &Build<'_>) -> Result<()> {
    toolchain::require(toolchain::BUILD)?;
    let cache = build.cache;
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = File::create(cache.join("lock")).context("cannot create the cache's lock file")?;
    lock.lock().context("cannot lock the cache")?;
    if build.kernel.join("kernel.json").exists() {
        return Ok(());
    }
    build.run()
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
            key("a", "b", "c", "d"),
            key("x", "b", "c", "d"),
            key("a", "x", "c", "d"),
            key("a", "b", "x", "d"),
            key("a", "b", "c", "x"),
            key("ab", "", "c", "d"),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one), "{one} twice");
        }
    }

    #[test]
    fn the_projects_own_fragment_parses() {
        fragment::Fragment::parse(&read_fragments(None).unwrap()).unwrap();
    }
}
