//! What happens when memory runs out: a server dies, soon, and never the agent.

use std::fs;
use std::io;
use std::path::Path;

use crate::console::say;

/// How long a page that is in use stays in memory, in milliseconds. If not even that can be kept, the kernel
/// kills a process instead of reading its programs from the disk over and over: a guest without this can
/// be busy with that for minutes.
const KEEP: &str = "1000";

/// Sets the kernel up, given its `/proc` and a `/sys` that can be written to.
pub(super) fn prepare_for_shortage(proc: &Path, sys: &Path) {
    report("exempt the agent", fs::write(proc.join("self/oom_score_adj"), "-1000"));
    let lru_gen = sys.join("kernel/mm/lru_gen");
    // Kernels may lack it (CONFIG_LRU_GEN).
    if lru_gen.exists() {
        report("enable page generations", fs::write(lru_gen.join("enabled"), "y"));
        report("keep pages in use", fs::write(lru_gen.join("min_ttl_ms"), KEEP));
    }
}

fn report(act: &str, done: io::Result<()>) {
    if let Err(error) = done {
        say(format_args!("prepare for a shortage of memory: failed to {act}: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn the_agent_is_exempt_and_pages_in_use_are_kept() {
        let names = ["enabled", "min_ttl_ms"].map(|name| format!("kernel/mm/lru_gen/{name}"));
        let (proc, sys) = (tree(&["self/oom_score_adj"]), tree(&[&names[0], &names[1]]));
        prepare_for_shortage(proc.path(), sys.path());
        let read = |dir: &tempfile::TempDir, name: &str| fs::read_to_string(dir.path().join(name));
        assert_eq!(read(&proc, "self/oom_score_adj").unwrap(), "-1000");
        assert_eq!(read(&sys, &names[0]).unwrap(), "y");
        assert_eq!(read(&sys, &names[1]).unwrap(), "1000");
    }

    #[test]
    fn a_kernel_without_page_generations_is_left_as_it_is() {
        let (proc, sys) = (tree(&["self/oom_score_adj"]), tree(&[]));
        prepare_for_shortage(proc.path(), sys.path());
        assert_eq!(fs::read_dir(sys.path()).unwrap().count(), 0);
    }
}
