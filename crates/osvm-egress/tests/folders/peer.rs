//! The guest's end of a connection, and FUSE requests as no kernel would make them.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use osvm_wire::frame::{self, Decoder};
use osvm_wire::grant::{FolderAnswer, OpenFolder};
use osvm_wire::post::{self, Header, Post};

use crate::share::{GID, Share, UID};

/// The root's node.
pub(crate) const ROOT: u64 = 1;

/// FUSE's numbers of what is asked.
pub(crate) mod call {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
}

/// What a name's answer takes, before anything else in it.
pub(crate) const ENTRY_LEN: usize = 128;

/// Asks one thing at a time.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    pub(crate) post: Post,
    unique: u64,
}

impl Peer {
    pub(crate) fn of(share: &Share) -> Self {
        let mut post = Post::default();
        let stream = greet(share.connect(), &mut post).unwrap();
        Self { stream, post, unique: 0 }
    }

    /// Goes on where another has ended.
    pub(crate) fn with_post(share: &Share, mut post: Post) -> Self {
        let stream = greet(share.connect(), &mut post).unwrap();
        Self { stream, post, unique: 1 << 32 }
    }

    pub(crate) fn receive(&mut self) -> Vec<u8> {
        receive(&self.stream, &mut self.post).unwrap()
    }

    /// The answer's fields, or the number of its error.
    pub(crate) fn ask(&mut self, call: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        self.unique += 2;
        self.send(message(call, self.unique, node, body));
        loop {
            let answer = receive(&self.stream, &mut self.post).unwrap();
            if answer[8..16] == self.unique.to_ne_bytes() {
                let error = i32::from_ne_bytes(answer[4..8].try_into().unwrap());
                return if error == 0 { Ok(answer[16..].to_vec()) } else { Err(-error) };
            }
        }
    }

    pub(crate) fn send(&mut self, message: Vec<u8>) {
        self.post.put(message).unwrap();
        while let Some((header, message)) = self.post.next() {
            self.stream.write_all(&header).unwrap();
            self.stream.write_all(message).unwrap();
        }
    }

    pub(crate) fn look_up(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        self.ask(call::LOOKUP, parent, &text(name)).map(|entry| number(&entry))
    }

    /// The handle of a file opened with these flags.
    pub(crate) fn open(&mut self, node: u64, flags: i32) -> Result<u64, i32> {
        self.ask(call::OPEN, node, &fields(&[flags as u32, 0])).map(|opened| number(&opened))
    }

    pub(crate) fn read(&mut self, node: u64, handle: u64, size: u32) -> Result<Vec<u8>, i32> {
        let body = [&handle.to_ne_bytes()[..], &[0; 8], &size.to_ne_bytes(), &[0; 20]].concat();
        self.ask(call::READ, node, &body)
    }

    pub(crate) fn release(&mut self, node: u64, handle: u64) {
        let body = [&handle.to_ne_bytes()[..], &[0; 16]].concat();
        self.ask(call::RELEASE, node, &body).unwrap();
    }
}

/// Says how it goes on, and hears how the host does.
pub(crate) fn greet(stream: UnixStream, post: &mut Post) -> io::Result<UnixStream> {
    let opening = OpenFolder { folder: 0, uid: UID, gid: GID, seen: post.seen() };
    (&stream).write_all(&frame::encode(&opening).unwrap())?;
    match answer(&stream)? {
        FolderAnswer::Opened { seen } => post.resume(seen).map_err(io::Error::other)?,
        FolderAnswer::Refused { why } => return Err(io::Error::other(why)),
    }
    Ok(stream)
}

fn answer(mut stream: &UnixStream) -> io::Result<FolderAnswer> {
    let mut decoder = Decoder::default();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        decoder.push(&byte);
        if let Some(answer) = decoder.decode().map_err(io::Error::other)? {
            return Ok(answer);
        }
    }
}

fn receive(mut stream: &UnixStream, post: &mut Post) -> io::Result<Vec<u8>> {
    let mut header = [0; post::HEADER_LEN];
    stream.read_exact(&mut header)?;
    let header = Header::parse(header).unwrap();
    let mut message = vec![0; header.length];
    stream.read_exact(&mut message)?;
    post.arrived(header).unwrap();
    Ok(message)
}

pub(crate) fn message(call: u32, unique: u64, node: u64, body: &[u8]) -> Vec<u8> {
    let length = 40 + body.len() as u32;
    let mut message = fields(&[length, call]);
    message.extend(unique.to_ne_bytes());
    message.extend(node.to_ne_bytes());
    // Somebody else's user and group: nobody asks.
    message.extend(fields(&[4321, 4321, 1, 0]));
    message.extend(body);
    message
}

pub(crate) fn fields(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// With a NUL at its end.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// The first of an answer's fields.
pub(crate) fn number(answer: &[u8]) -> u64 {
    u64::from_ne_bytes(answer[..8].try_into().unwrap())
}
