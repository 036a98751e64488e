//! What is left out of a layer: packages that others need for being installed only, and files that are for people.

use std::path::Path;

/// Packages that are brought along, by the beginnings of their names, unless the first one was asked for.
const PACKAGES: &[&[&str]] = &[
    // For maintainer scripts, none of which is run.
    &["debconf"],
    &["dpkg"],
    &["install-info"],
    // A few of git's commands are written in it.
    &["perl", "libperl", "liberror-perl", "libgdbm"],
    &["git-man"],
];

/// Folders and files, by the beginnings of their names.
const NAMES: &[&str] = &[
    "etc/alternatives",
    "etc/apt",
    "etc/cron",
    "etc/default",
    "etc/dpkg",
    "etc/init.d",
    "etc/kernel",
    "etc/logrotate.d",
    "etc/systemd",
    "usr/lib/apt",
    "usr/lib/dpkg",
    // Servers of Git's own, and ways that it has of its own: each is as large as Git.
    "usr/lib/git-core/git-daemon",
    "usr/lib/git-core/git-http-backend",
    "usr/lib/git-core/git-http-push",
    "usr/lib/git-core/git-imap-send",
    "usr/lib/git-core/git-shell",
    "usr/lib/git-core/scalar",
    "usr/bin/git-shell",
    "usr/bin/scalar",
    "usr/lib/python3/dist-packages/lsb_release",
    "usr/lib/systemd",
    "usr/lib/tmpfiles.d",
    "usr/share/apport",
    "usr/share/apps",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/common-licenses",
    "usr/share/debconf",
    "usr/share/debhelper",
    "usr/share/doc",
    "usr/share/fish",
    "usr/share/gdb",
    "usr/share/gitweb",
    "usr/share/icons",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pixmaps",
    "usr/share/polkit-1",
    "usr/share/zsh",
    "var/backups",
    "var/cache",
    "var/lib/dpkg",
    "var/lib/systemd",
];

/// Whether a package that is brought along belongs into a layer of `asked`.
pub(super) fn is_wanted(name: &str, asked: &[&str]) -> bool {
    let family = PACKAGES.iter().find(|family| family.iter().any(|part| is_of(name, part)));
    family.is_none_or(|family| asked.contains(&family[0]))
}

/// `dpkg-dev`, which builds ask for the machine, is none of dpkg's family; `perl-base` and `libperl5.36` are of Perl's.
fn is_of(name: &str, part: &str) -> bool {
    if part == "dpkg" { name == part } else { name.starts_with(part) }
}

/// Whether a file or folder of that name is for people or for what installs packages.
pub(super) fn is_unwanted(name: &Path) -> bool {
    let Some(name) = name.to_str() else { return false };
    NAMES.iter().any(|unwanted| {
        let rest = name.strip_prefix(unwanted);
        // Folders of cron have several names.
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || *unwanted == "etc/cron")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_for_installing_is_wanted_only_by_its_name() {
        assert!(!is_wanted("perl-base", &["git"]));
        assert!(!is_wanted("libperl5.36", &["git"]));
        assert!(is_wanted("libperl5.36", &["git", "perl"]));
        assert!(!is_wanted("dpkg", &["perl"]));
        assert!(is_wanted("dpkg-dev", &[]));
        assert!(is_wanted("libpcre2-8-0", &[]));
    }

    #[test]
    fn what_is_for_people_is_left_out() {
        for name in ["usr/share/doc", "usr/share/man/man1/a.1.gz", "etc/cron.daily/x"] {
            assert!(is_unwanted(Path::new(name)), "{name}");
        }
        for name in ["usr/share/documents", "usr/lib/locale/C.utf8/LC_CTYPE", "etc/os-release"] {
            assert!(!is_unwanted(Path::new(name)), "{name}");
        }
    }
}
