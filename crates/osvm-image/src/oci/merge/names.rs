//! Names of entries: what they are made of, and what some of them mean.

use super::NameError;

/// The names on the way from the root, none of them `.` or `..`.
pub(super) struct Names<'a>(Vec<&'a [u8]>);

/// What the last of them means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    Plain(&'a [u8]),
    /// This name of lower layers is hidden.
    Whiteout(&'a [u8]),
    /// All that lower layers have in the folder is hidden.
    Opaque,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What some storage drivers kept for themselves.
const METADATA: &[u8] = b".wh..wh.";

/// As Linux has them (`NAME_MAX`, `PATH_MAX`).
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4096;

impl<'a> Names<'a> {
    /// Refuses what does not stay below the root.
    pub(super) fn parse(path: &'a [u8]) -> Result<Self, NameError> {
        if path.len() > MAX_PATH || path.contains(&0) {
            return Err(NameError::Long);
        }
        let names: Vec<_> = parts(path).collect();
        if path.starts_with(b"/") || names.contains(&b"..".as_slice()) {
            return Err(NameError::Outside);
        }
        if names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(NameError::Long);
        }
        Ok(Self(names))
    }

    pub(super) fn split_last(&self) -> Option<(&'a [u8], &[&'a [u8]])> {
        self.0.split_last().map(|(last, above)| (*last, above))
    }

    pub(super) fn is_metadata(&self) -> bool {
        self.0.iter().any(|name| name.starts_with(METADATA) && *name != OPAQUE)
    }

    pub(super) fn is_below_dev(&self) -> bool {
        self.0.len() > 1 && self.0[0] == b"dev"
    }
}

impl<'a> Name<'a> {
    pub(super) fn of(name: &'a [u8]) -> Result<Self, NameError> {
        if name == OPAQUE {
            return Ok(Self::Opaque);
        }
        match name.strip_prefix(WHITEOUT) {
            Some(b"" | b"." | b"..") => Err(NameError::Outside),
            Some(hidden) => Ok(Self::Whiteout(hidden)),
            None => Ok(Self::Plain(name)),
        }
    }
}

/// Whether a symbolic link can point there: no kernel reads another one.
pub(super) fn is_target(path: &[u8]) -> bool {
    !path.is_empty() && path.len() < MAX_PATH && !path.contains(&0)
}

/// Parts of a path that say something.
pub(super) fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../../x", "a/..", ".."] {
            assert_eq!(Names::parse(path.as_bytes()).err(), Some(NameError::Outside), "{path}");
        }
        for name in [".wh.", ".wh..", ".wh..."] {
            assert_eq!(Name::of(name.as_bytes()), Err(NameError::Outside), "{name}");
        }
        assert_eq!(Names::parse(b"./a//b/.").unwrap().0, [b"a", b"b"]);
        assert_eq!(Name::of(b".wh.a"), Ok(Name::Whiteout(b"a")));
    }

    #[test]
    fn names_that_linux_has_not_are_refused() {
        let (long, deep) = ("x".repeat(256), "x/".repeat(2049));
        for path in [long.as_str(), &deep, "a\0b"] {
            assert_eq!(Names::parse(path.as_bytes()).err(), Some(NameError::Long));
        }
    }
}
