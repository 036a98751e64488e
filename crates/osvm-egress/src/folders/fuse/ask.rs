//! Requests, out of the bytes of a message. Nothing in them is believed: lengths are the message's own, names
//! are single names, flags are those that are known.

use rustix::fs::{FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::MAX_BODY;

/// Size of what stands before a request's own fields.
const HEADER_LEN: usize = 40;

/// Longest name in a folder.
const MAX_NAME: usize = 255;

/// A message.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    /// By which the answer is known.
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) wants_answer: bool,
    /// What is asked, or what is wrong with it.
    pub(crate) ask: Result<Ask<'a>, Errno>,
}

/// No message of FUSE's at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("message of {0} bytes is no request")]
pub(crate) struct Malformed(usize);

#[derive(Debug)]
pub(crate) enum Ask<'a> {
    Init {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
    },
    Destroy,
    /// Nodes, and how many lookups of each are forgotten.
    Forget(Vec<(u64, u64)>),
    Interrupt,
    Lookup(&'a [u8]),
    Attributes {
        handle: Option<u64>,
    },
    SetAttributes(SetAttributes),
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MakeNode {
        name: &'a [u8],
        mode: u32,
    },
    MakeFolder {
        name: &'a [u8],
        mode: Mode,
    },
    Remove {
        name: &'a [u8],
    },
    RemoveFolder {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        new_parent: u64,
        new_name: &'a [u8],
        flags: RenameFlags,
    },
    Link {
        node: u64,
        name: &'a [u8],
    },
    Open(OpenFlags),
    OpenFolder,
    Create {
        name: &'a [u8],
        flags: OpenFlags,
        mode: Mode,
    },
    Read {
        handle: u64,
        offset: u64,
        size: u32,
    },
    Write {
        handle: u64,
        offset: u64,
        data: &'a [u8],
    },
    List {
        handle: u64,
        offset: u64,
        size: u32,
        with_entries: bool,
    },
    Release {
        handle: u64,
    },
    Sync {
        handle: u64,
        data_only: bool,
    },
    Statistics,
    GetAttribute {
        name: &'a [u8],
        size: u32,
    },
    SetAttribute {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
    },
    ListAttributes {
        size: u32,
    },
    RemoveAttribute {
        name: &'a [u8],
    },
    Access {
        mask: u32,
    },
    Allocate {
        handle: u64,
        offset: u64,
        length: u64,
        mode: FallocateFlags,
    },
    Seek {
        handle: u64,
        offset: u64,
        is_hole: bool,
    },
    Copy {
        from: (u64, u64),
        to: (u64, u64),
        length: u64,
    },
}

/// How a file is opened, as far as the guest has a say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenFlags {
    pub(crate) flags: OFlags,
    pub(crate) exclusive: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SetAttributes {
    pub(crate) handle: Option<u64>,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) accessed: Option<When>,
    pub(crate) modified: Option<When>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    Now,
    At { seconds: i64, nanoseconds: u32 },
}

impl<'a> Letter<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let malformed = Malformed(message.len());
        let (header, body) = message.split_at_checked(HEADER_LEN).ok_or(malformed)?;
        let mut header = Fields(header);
        let mut head = || -> Result<_, Errno> {
            Ok((header.u32()?, header.u32()?, header.u64()?, header.u64()?))
        };
        let (length, call, unique, node) = head().map_err(|_| malformed)?;
        if length as usize != message.len() {
            return Err(malformed);
        }
        // Nodes are forgotten, and requests interrupted, without an answer.
        let wants_answer = !matches!(call, 2 | 36 | 42);
        Ok(Self { unique, node, wants_answer, ask: ask(call, node, Fields(body)) })
    }
}

/// The kernel's numbers of what is known here. Every other is answered ENOSYS, upon which the guest's kernel
/// does without it for good.
fn ask(call: u32, node: u64, mut fields: Fields<'_>) -> Result<Ask<'_>, Errno> {
    let fields = &mut fields;
    match call {
        1 => Ok(Ask::Lookup(fields.name()?)),
        2 => Ok(Ask::Forget(vec![(node, fields.u64()?)])),
        3 => attributes(fields),
        4 => set_attributes(fields).map(Ask::SetAttributes),
        5 => Ok(Ask::ReadLink),
        6 => Ok(Ask::Symlink { name: fields.name()?, target: fields.text()? }),
        8 => make_node(fields),
        9 => make_folder(fields),
        10 => Ok(Ask::Remove { name: fields.name()? }),
        11 => Ok(Ask::RemoveFolder { name: fields.name()? }),
        12 => rename(fields, false),
        13 => Ok(Ask::Link { node: fields.u64()?, name: fields.name()? }),
        14 => Ok(Ask::Open(OpenFlags::of(fields.u32()?)?)),
        15 => read(fields).map(|(handle, offset, size)| Ask::Read { handle, offset, size }),
        16 => write(fields),
        17 => Ok(Ask::Statistics),
        18 | 29 => Ok(Ask::Release { handle: fields.u64()? }),
        20 | 30 => Ok(Ask::Sync { handle: fields.u64()?, data_only: fields.u32()? & 1 != 0 }),
        21 => set_attribute(fields),
        22 => get_attribute(fields),
        23 => Ok(Ask::ListAttributes { size: fields.u32()? }),
        24 => Ok(Ask::RemoveAttribute { name: fields.text()? }),
        26 => init(fields),
        27 => Ok(Ask::OpenFolder),
        28 => list(fields, false),
        34 => Ok(Ask::Access { mask: fields.u32()? }),
        35 => create(fields),
        36 => Ok(Ask::Interrupt),
        38 => Ok(Ask::Destroy),
        42 => forget_many(fields),
        43 => allocate(fields),
        44 => list(fields, true),
        45 => rename(fields, true),
        46 => seek(fields),
        47 => copy(fields),
        _ => Err(Errno::NOSYS),
    }
}

fn init<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let (major, minor) = (fields.u32()?, fields.u32()?);
    Ok(Ask::Init { major, minor, max_readahead: fields.u32()?, flags: fields.u32()? })
}

fn forget_many<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let count = fields.u32()?;
    fields.skip(4)?;
    let mut forgotten = Vec::new();
    // Grows as far as the message reaches, whatever it says.
    for _ in 0..count {
        forgotten.push((fields.u64()?, fields.u64()?));
    }
    Ok(Ask::Forget(forgotten))
}

fn attributes<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    const OF_HANDLE: u32 = 1;
    let flags = fields.u32()?;
    fields.skip(4)?;
    let handle = fields.u64()?;
    Ok(Ask::Attributes { handle: (flags & OF_HANDLE != 0).then_some(handle) })
}

fn set_attributes(fields: &mut Fields<'_>) -> Result<SetAttributes, Errno> {
    let valid = fields.u32()?;
    let says = |bit: u32| valid & (1 << bit) != 0;
    fields.skip(4)?;
    let (handle, size) = (fields.u64()?, fields.u64()?);
    fields.skip(8)?;
    let (accessed, modified) = (fields.u64()?, fields.u64()?);
    fields.skip(8)?;
    let (accessed_nanos, modified_nanos) = (fields.u32()?, fields.u32()?);
    fields.skip(4)?;
    let mode = fields.u32()?;
    fields.skip(4)?;
    let (uid, gid) = (fields.u32()?, fields.u32()?);
    let time = |is_given: bool, is_now: bool, seconds: u64, nanoseconds| match (is_given, is_now) {
        (_, true) => Some(When::Now),
        (true, false) => Some(When::At { seconds: seconds as i64, nanoseconds }),
        (false, false) => None,
    };
    Ok(SetAttributes {
        handle: says(6).then_some(handle),
        mode: says(0).then_some(mode),
        uid: says(1).then_some(uid),
        gid: says(2).then_some(gid),
        size: says(3).then_some(size),
        accessed: time(says(4), says(7), accessed, accessed_nanos),
        modified: time(says(5), says(8), modified, modified_nanos),
    })
}

fn make_node<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let mode = fields.u32()?;
    fields.skip(12)?;
    Ok(Ask::MakeNode { name: fields.name()?, mode })
}

fn make_folder<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let mode = Mode::from_raw_mode(fields.u32()? & 0o1777);
    fields.skip(4)?;
    Ok(Ask::MakeFolder { name: fields.name()?, mode })
}

fn rename<'a>(fields: &mut Fields<'a>, has_flags: bool) -> Result<Ask<'a>, Errno> {
    let new_parent = fields.u64()?;
    let mut flags = 0;
    if has_flags {
        flags = fields.u32()?;
        fields.skip(4)?;
    }
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
    if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
        return Err(Errno::INVAL);
    }
    let (name, new_name) = (fields.name()?, fields.name()?);
    Ok(Ask::Rename { name, new_parent, new_name, flags })
}

fn create<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let flags = OpenFlags::of(fields.u32()?)?;
    let mode = Mode::from_raw_mode(fields.u32()? & 0o777);
    fields.skip(8)?;
    Ok(Ask::Create { name: fields.name()?, flags, mode })
}

fn read(fields: &mut Fields<'_>) -> Result<(u64, u64, u32), Errno> {
    let (handle, offset, size) = (fields.u64()?, fields.u64()?, fields.u32()?);
    if size > MAX_BODY { Err(Errno::INVAL) } else { Ok((handle, offset, size)) }
}

fn list<'a>(fields: &mut Fields<'a>, with_entries: bool) -> Result<Ask<'a>, Errno> {
    let (handle, offset, size) = read(fields)?;
    Ok(Ask::List { handle, offset, size, with_entries })
}

fn write<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let (handle, offset, size) = read(fields)?;
    fields.skip(20)?;
    let data = fields.0.get(..size as usize).ok_or(Errno::INVAL)?;
    Ok(Ask::Write { handle, offset, data })
}

fn get_attribute<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let size = fields.u32()?;
    fields.skip(4)?;
    Ok(Ask::GetAttribute { name: fields.text()?, size })
}

fn set_attribute<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let (size, flags) = (fields.u32()?, fields.u32()?);
    let name = fields.text()?;
    let value = fields.0.get(..size as usize).ok_or(Errno::INVAL)?;
    Ok(Ask::SetAttribute { name, value, flags })
}

fn allocate<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let (handle, offset, length) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let mode = FallocateFlags::from_bits(fields.u32()?).ok_or(Errno::OPNOTSUPP)?;
    let known = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
    if !known.contains(mode) {
        return Err(Errno::OPNOTSUPP);
    }
    Ok(Ask::Allocate { handle, offset, length, mode })
}

/// Only these two reach a file system: every other the guest's kernel knows itself.
fn seek<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    const DATA: u32 = 3;
    const HOLE: u32 = 4;
    let (handle, offset) = (fields.u64()?, fields.u64()?);
    match fields.u32()? {
        DATA => Ok(Ask::Seek { handle, offset, is_hole: false }),
        HOLE => Ok(Ask::Seek { handle, offset, is_hole: true }),
        _ => Err(Errno::INVAL),
    }
}

fn copy<'a>(fields: &mut Fields<'a>) -> Result<Ask<'a>, Errno> {
    let from = (fields.u64()?, fields.u64()?);
    fields.skip(8)?;
    let to = (fields.u64()?, fields.u64()?);
    Ok(Ask::Copy { from, to, length: fields.u64()? })
}

impl OpenFlags {
    /// What does not change what is opened, or how it is written, is left to the guest's kernel.
    fn of(bits: u32) -> Result<Self, Errno> {
        let known = OFlags::ACCMODE | OFlags::APPEND | OFlags::TRUNC | OFlags::DSYNC | OFlags::SYNC;
        let given = OFlags::from_bits_retain(bits);
        if given & OFlags::ACCMODE == OFlags::ACCMODE {
            return Err(Errno::INVAL);
        }
        Ok(Self { flags: given & known, exclusive: given.contains(OFlags::EXCL) })
    }

    pub(crate) fn writes(self) -> bool {
        self.flags.intersects(OFlags::ACCMODE | OFlags::TRUNC)
    }
}

/// What is left of a request.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u32(&mut self) -> Result<u32, Errno> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Errno> {
        self.take().map(u64::from_ne_bytes)
    }

    fn skip(&mut self, length: usize) -> Result<(), Errno> {
        self.0 = self.0.get(length..).ok_or(Errno::INVAL)?;
        Ok(())
    }

    /// Up to a NUL.
    fn text(&mut self) -> Result<&'a [u8], Errno> {
        let length = self.0.iter().position(|&byte| byte == 0).ok_or(Errno::INVAL)?;
        let text = &self.0[..length];
        self.skip(length + 1)?;
        Ok(text)
    }

    /// Of something in a folder: what leads elsewhere is none.
    fn name(&mut self) -> Result<&'a [u8], Errno> {
        match self.text()? {
            b"" | b"." | b".." => Err(Errno::INVAL),
            name if name.contains(&b'/') => Err(Errno::INVAL),
            name if name.len() > MAX_NAME => Err(Errno::NAMETOOLONG),
            name => Ok(name),
        }
    }
}
