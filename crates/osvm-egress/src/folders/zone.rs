//! Where a file lies, as far as that says whether the host runs code because of what is in it. Pure: a zone
//! and a name give the zone below.
//!
//! ```text
//! every -- .git, *.git -------------------> Repository -- hooks, config, config.worktree, commondir --> Protected
//!   |                                           |     \-- modules, worktrees --> Nested -- the same --> Protected
//!   |                                           |                                    \-- other --> Nested
//!   |                                           \-- other --> Store
//!   \-- .vscode, .idea, .envrc, .envrc.* -------------------> Protected -- all --> Protected
//! Plain -- HEAD --------------------------------------------> Protected
//! ```
//!
//! `HEAD`, because a folder that has one, beside `objects` and `refs`, is a repository whatever it is called,
//! with a configuration called `config` as many a folder's is: with `.git` spoilt, git would take the folder
//! around it for one.
//!
//! Names are compared as the most forgiving file system would: without regard to case, to characters that
//! are not seen, to dots and spaces at the end, and to what follows a colon; also DOS's short forms count.
//!
//! Not known here: repositories that the host's user keeps under another name (`--separate-git-dir`, a link
//! called `.git`), what a rebase under way in the guest is told to do next, and whatever the user runs or
//! opens knowingly, such as a makefile, or a link that leads out of the folder on the host.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;

/// In order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Zone {
    Plain,
    /// In a repository's folder, where no name matters.
    Store,
    /// A folder with repositories' folders in it, at any depth.
    Nested,
    /// A folder called `.git`, or so at its end.
    Repository,
    /// Stays as it is.
    Protected,
}

/// The name whose bearer git takes for a repository, or for the way to one.
const REPOSITORY: &str = ".git";

/// What makes the folder it lies in a repository. As it is: `head` is a program.
const HEAD: &[u8] = b"HEAD";

/// What makes an editor or a shell run code.
const ANYWHERE: [&str; 3] = [".vscode", ".idea", ".envrc"];

/// A file that `.envrc` reads by custom without being asked again, such as `.envrc.local`.
const ENVRC_PARTS: &str = ".envrc.";

/// What makes git run code, or look for its configuration elsewhere.
const IN_REPOSITORY: [&str; 4] = ["hooks", "config", "config.worktree", "commondir"];

const REPOSITORIES_BELOW: [&str; 2] = ["modules", "worktrees"];

/// Whether a file of the host's at this path makes programs of the host's run code.
pub fn runs_code(file: &Path) -> bool {
    let below = |zone: Zone, name: &OsStr| zone.below(name.as_bytes());
    file.iter().fold(Zone::Plain, below).for_kind(FileType::RegularFile) == Zone::Protected
}

impl Zone {
    /// Of a folder with that name in this one.
    pub(super) fn below(self, name: &[u8]) -> Self {
        let folded = Folded::of(name);
        if self == Self::Protected || folded.runs_code_anywhere() {
            return Self::Protected;
        }
        if folded.0.ends_with(REPOSITORY) || folded.is_short_for(REPOSITORY) {
            return Self::Repository;
        }
        match self {
            Self::Repository | Self::Nested if folded.is_any(&IN_REPOSITORY) => Self::Protected,
            Self::Repository if folded.is_any(&REPOSITORIES_BELOW) => Self::Nested,
            Self::Repository => Self::Store,
            Self::Plain if name == HEAD => Self::Protected,
            other => other,
        }
    }

    /// The same for a file of that kind: what is called `.git` and is no folder leads to one.
    pub(super) fn for_kind(self, kind: FileType) -> Self {
        match self {
            Self::Repository if kind != FileType::Directory => Self::Protected,
            zone => zone,
        }
    }

    /// As [`Node`](super::nodes::Node) keeps it.
    pub(super) fn from_number(number: u8) -> Self {
        [Self::Plain, Self::Store, Self::Nested, Self::Repository]
            .into_iter()
            .find(|&zone| zone as u8 == number)
            .unwrap_or(Self::Protected)
    }
}

/// A name as it is compared.
struct Folded(String);

impl Folded {
    fn of(name: &[u8]) -> Self {
        let text = String::from_utf8_lossy(name);
        let seen: String = text.chars().filter(|&char| !is_unseen(char)).collect();
        // Up and down again: some letters have the same capital, or the same small letter.
        let folded = seen.to_uppercase().to_lowercase();
        let stem = folded.split(':').next().unwrap_or_default();
        Self(stem.trim_end_matches(['.', ' ']).to_owned())
    }

    fn is(&self, name: &str) -> bool {
        self.0 == name || self.is_short_for(name)
    }

    fn runs_code_anywhere(&self) -> bool {
        self.is_any(&ANYWHERE) || self.0.starts_with(ENVRC_PARTS)
    }

    fn is_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    /// `git~1` for `.git`, `config~1.wor` for `config.worktree`.
    fn is_short_for(&self, name: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('~') else { return false };
        let stem = name.trim_start_matches('.').split('.').next().unwrap_or_default();
        let is_numbered = rest.starts_with(|char: char| char.is_ascii_digit());
        is_numbered && start == stem.get(..6).unwrap_or(stem)
    }
}

/// Unicode's default ignorable code points: file systems that fold case leave them out.
fn is_unseen(char: char) -> bool {
    matches!(
        u32::from(char),
        0xAD | 0x34F
            | 0x61C
            | 0x115F..=0x1160
            | 0x17B4..=0x17B5
            | 0x180B..=0x180F
            | 0x200B..=0x200F
            | 0x202A..=0x202E
            | 0x2060..=0x206F
            | 0x3164
            | 0xFE00..=0xFE0F
            | 0xFEFF
            | 0xFFA0
            | 0xFFF0..=0xFFF8
            | 0x1_BCA0..=0x1_BCA3
            | 0x1_D173..=0x1_D17A
            | 0xE_0000..=0xE_0FFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(path: &str) -> Zone {
        path.split('/').fold(Zone::Plain, |zone, name| zone.below(name.as_bytes()))
    }

    #[test]
    fn what_makes_git_run_code_is_protected_wherever_it_lies() {
        for path in [
            ".git/hooks",
            ".git/hooks/pre-commit",
            ".git/config",
            ".git/config.worktree",
            ".git/commondir",
            "a/b/.git/config",
            ".git/modules/x/config",
            ".git/modules/x/y/hooks/post-checkout",
            ".git/worktrees/x/commondir",
            ".git/modules/x/modules/y/config",
        ] {
            assert_eq!(zone(path), Zone::Protected, "{path}");
        }
    }

    #[test]
    fn what_makes_an_editor_or_a_shell_run_code_is_protected_at_any_depth() {
        for path in [".vscode", "a/.vscode/tasks.json", ".idea/x", ".envrc", "a/.envrc.local"] {
            assert_eq!(zone(path), Zone::Protected, "{path}");
        }
        assert_eq!(zone(".git/objects/.vscode/x"), Zone::Protected);
    }

    #[test]
    fn what_git_writes_as_it_works_is_not_protected() {
        for path in ["index", "HEAD", "packed-refs", "objects/ab/cd", "refs/heads/config", "logs"] {
            assert_eq!(zone(&format!(".git/{path}")), Zone::Store, "{path}");
        }
        assert_eq!(zone(".git/config.lock"), Zone::Store);
        assert_eq!(zone(".git"), Zone::Repository);
        assert_eq!(zone(".git/modules/x/HEAD"), Zone::Nested);
    }

    #[test]
    fn a_repository_without_a_working_folder_is_one() {
        assert_eq!(zone("mirror.git"), Zone::Repository);
        assert_eq!(zone("mirror.git/config"), Zone::Protected);
        assert_eq!(zone("mirror.git/HEAD"), Zone::Store);
        assert_eq!(zone("HEAD"), Zone::Protected);
        assert_eq!(zone("a/HEAD"), Zone::Protected);
        assert_eq!(zone("head"), Zone::Plain);
    }

    #[test]
    fn names_that_only_look_like_it_are_plain() {
        for path in [".github/config", "config", "hooks/x", "git/config", ".gitmodules", "env~1"] {
            assert_eq!(zone(path), Zone::Plain, "{path}");
        }
    }

    #[test]
    fn a_name_is_the_same_for_every_file_system() {
        for name in [
            ".GIT",
            ".g\u{200d}it",
            ".g\u{131}t",
            ".git.",
            ".git ",
            ".git::$INDEX_ALLOCATION",
            "GIT~1",
        ] {
            assert_eq!(zone(name), Zone::Repository, "{name:?}");
        }
        for name in ["hoo\u{212a}s", "hook\u{17f}", "CONFIG", "config~1.wor", "COMMON~1"] {
            assert_eq!(Zone::Repository.below(name.as_bytes()), Zone::Protected, "{name:?}");
        }
    }

    #[test]
    fn a_file_called_like_a_repository_leads_to_one() {
        assert_eq!(zone(".git").for_kind(FileType::RegularFile), Zone::Protected);
        assert_eq!(zone(".git").for_kind(FileType::Symlink), Zone::Protected);
        assert_eq!(zone(".git").for_kind(FileType::Directory), Zone::Repository);
    }

    #[test]
    fn a_zone_is_kept_as_a_number() {
        for zone in [Zone::Plain, Zone::Store, Zone::Nested, Zone::Repository, Zone::Protected] {
            assert_eq!(Zone::from_number(zone as u8), zone);
        }
    }
}
