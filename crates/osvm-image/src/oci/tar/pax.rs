//! Extended headers: records of `LENGTH KEY=VALUE`, described in `pax(1)` of POSIX; keys of sparse
//! files in "Storing Sparse Files" of GNU tar's manual; `SCHILY.xattr.` is what every archiver calls
//! extended attributes by.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::sparse::Sparse;
use super::{MAX_PARTS, TarError};
use crate::disk::xattrs;

/// What overrides a header.
#[derive(Debug, Default)]
pub(super) struct Pax {
    path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub(super) sparse: Option<Sparse>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";
/// Linux gives none a longer name (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME: usize = 255;

impl Pax {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (record, rest) = record(bytes).ok_or(TarError::Field("record"))?;
            let equals = record.iter().position(|byte| *byte == b'=');
            let (key, value) = record.split_at(equals.ok_or(TarError::Field("record"))?);
            pax.put(key, &value[1..])?;
            bytes = rest;
        }
        Ok(pax)
    }

    /// The name of a sparse file stands apart; in the header it has another.
    pub(super) fn name(&mut self) -> Option<Vec<u8>> {
        self.sparse.as_mut().and_then(|sparse| sparse.name.take()).or_else(|| self.path.take())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.target = Some(value.to_vec()),
            b"size" => self.size = Some(number(value, "size")?),
            b"uid" => self.uid = Some(number(value, "owner")?),
            b"gid" => self.gid = Some(number(value, "group")?),
            b"mtime" => self.mtime = Some(number(whole(value), "time")?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.put_sparse(key, value)?;
                } else if let Some(name) = key.strip_prefix(XATTR) {
                    self.put_xattr(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn put_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), TarError> {
        if xattrs::kept(name).is_none() {
            return Ok(());
        }
        if name.len() > MAX_XATTR_NAME || value.len() > xattrs::MAX {
            return Err(TarError::Field("attribute"));
        }
        self.xattrs.insert(name.into(), value.into());
        Ok(())
    }

    fn put_sparse(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let sparse = self.sparse.get_or_insert_default();
        match key {
            b"name" => sparse.name = Some(value.to_vec()),
            b"size" | b"realsize" => sparse.size = number(value, "size")?,
            b"major" => sparse.map_in_data = number::<u32>(value, "sparse format")? > 0,
            b"map" => sparse.map = pairs(value).ok_or(TarError::Sparse)?,
            b"offset" => sparse.map.push((number(value, "offset")?, 0)),
            b"numbytes" => {
                sparse.map.last_mut().ok_or(TarError::Sparse)?.1 = number(value, "size")?;
            }
            _ => {}
        }
        if sparse.map.len() > MAX_PARTS { Err(TarError::Parts) } else { Ok(()) }
    }
}

/// The first record without its length, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = parse(&bytes[..space])?;
    let (record, rest) = bytes.split_at_checked(length)?;
    Some((record.get(space + 1..)?.strip_suffix(b"\n")?, rest))
}

/// `offset,size,offset,size`
fn pairs(value: &[u8]) -> Option<Vec<(u64, u64)>> {
    let numbers: Vec<u64> = value.split(|byte| *byte == b',').map(parse).collect::<Option<_>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[at, size]| (*at, *size)).collect())
}

/// Seconds without their fraction.
fn whole(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b'.').next().unwrap_or_default()
}

fn number<N: FromStr>(value: &[u8], what: &'static str) -> Result<N, TarError> {
    parse(value).ok_or(TarError::Field(what))
}

fn parse<N: FromStr>(value: &[u8]) -> Option<N> {
    str::from_utf8(value).ok()?.parse().ok()
}
