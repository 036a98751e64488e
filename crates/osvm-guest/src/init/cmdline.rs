//! The one thing the kernel command line tells the agent: where the servers' root is.

use std::fs;
use std::path::Path;

use super::InitError;

/// Where the servers' root comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Root {
    Disk,
    Initramfs,
}

/// Reads `osvm.root=` from the command line in `file`; the initramfs if it does not say.
pub(super) fn root(file: &Path) -> Result<Root, InitError> {
    let line = fs::read_to_string(file).map_err(InitError::act("read the kernel command line"))?;
    parse(&line)
}

fn parse(line: &str) -> Result<Root, InitError> {
    match line.split_whitespace().find_map(|word| word.strip_prefix("osvm.root=")) {
        Some("disk") => Ok(Root::Disk),
        Some("initramfs") | None => Ok(Root::Initramfs),
        Some(other) => Err(InitError::UnknownRoot(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_among_other_words() {
        let root = |line| parse(line).unwrap();
        assert_eq!(root("console=ttyS0 osvm.root=disk panic=-1\n"), Root::Disk);
        assert_eq!(root("osvm.root=initramfs"), Root::Initramfs);
        assert_eq!(root("console=ttyS0"), Root::Initramfs);
    }

    #[test]
    fn an_unknown_root_is_refused_by_name() {
        let error = parse("osvm.root=floppy").unwrap_err();
        let expected = "command line says osvm.root=floppy, which is neither disk nor initramfs";
        assert_eq!(error.to_string(), expected);
    }
}
