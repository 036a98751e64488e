//! What a path in the configuration means on this machine.

use std::path::{Path, PathBuf};

/// The folders that written paths start from.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The user's home, which `~` stands for. Without one, `~` is an ordinary name.
    pub home: Option<&'a Path>,
    /// The folder of the configuration file, which relative paths start from.
    pub base: &'a Path,
}

impl Places<'_> {
    /// `~` and `~/x` in the user's home, relative paths in the file's folder, others as they are.
    pub fn expand(&self, written: &str) -> PathBuf {
        let in_home =
            written.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (in_home, self.home) {
            (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
            _ => self.base.join(written),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilde_is_the_home_and_relative_is_beside_the_file() {
        let places = Places { home: Some(Path::new("/home/u")), base: Path::new("/etc/osvm") };
        assert_eq!(places.expand("~/kernel"), Path::new("/home/u/kernel"));
        assert_eq!(places.expand("~"), Path::new("/home/u/"));
        assert_eq!(places.expand("/abs"), Path::new("/abs"));
        assert_eq!(places.expand("rel/x"), Path::new("/etc/osvm/rel/x"));
    }

    #[test]
    fn another_users_home_and_a_tilde_inside_are_left_alone() {
        let places = Places { home: Some(Path::new("/home/u")), base: Path::new("/b") };
        assert_eq!(places.expand("~root/x"), Path::new("/b/~root/x"));
        assert_eq!(places.expand("/a/~/b"), Path::new("/a/~/b"));
    }

    #[test]
    fn without_a_home_nothing_stands_for_it() {
        let places = Places { home: None, base: Path::new("/b") };
        assert_eq!(places.expand("~/x"), Path::new("/b/~/x"));
    }
}
