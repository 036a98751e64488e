//! What the guest is granted of the world outside, and what it says on the streams that it then opens.
//!
//! A stream to [`HOSTS_PORT`](crate::HOSTS_PORT) begins with a [`HostRequest`] and its [`HostAnswer`]; after
//! [`HostAnswer::Connected`] it carries a connection's bytes both ways, cut as [`chunk`](crate::chunk) says.
//! A stream to a folder's port ([`FOLDERS_PORT`](crate::FOLDERS_PORT) and up) begins with an [`OpenFolder`] and its
//! [`FolderAnswer`]; after [`FolderAnswer::Opened`] it carries FUSE messages both ways, as [`post`](crate::post) says.
//!
//! What the agent knows of the policy spares vain attempts and gives good errors. The host decides again.

use serde::{Deserialize, Serialize};

use crate::frame::{Kind, Message};

/// Told once, after the machine was prepared and before any session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    pub hosts: Vec<HostGrant>,
    pub folders: Vec<FolderGrant>,
    /// Whose the folders' files are in the guest, as in [`Spawn::user`](crate::message::Spawn::user).
    pub user: Option<String>,
    /// What processes try beyond their grants is to be reported, and is refused as ever.
    pub record: bool,
}

/// Folders at the root that are the system's own: nothing of the host's is looked for below them.
pub const SYSTEM_FOLDERS: [&str; 13] = [
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys",
    "usr",
];

/// Hosts that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostGrant {
    /// `api.example.com`, `*.example.com`, `192.0.2.7`, `192.0.2.0/24`, `2001:db8::1`; names in lower case.
    pub host: String,
    pub ports: Vec<u16>,
}

/// A folder of the host's, or a file: see [`GrantWithFiles`](crate::message::Request::GrantWithFiles). Its number is
/// its place in [`Grants::folders`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderGrant {
    /// Absolute path in the guest; made where it is not there.
    pub at: String,
    pub writable: bool,
}

/// The first frame on a stream to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostRequest {
    /// Connect me. `host` is the name that was looked up, or an address that was connected to.
    Connect { host: String, port: u16 },
    /// I have refused this: no name or port of mine. The stream ends after it, without an answer.
    Refused { host: String, port: Option<u16> },
    /// Processes asked for these paths; sent only where [`Grants::record`] is set. The stream ends after it, without
    /// an answer.
    Tried { paths: Vec<TriedPath> },
}

/// An absolute path that a process asked for: one that does not exist, or that of a folder it is lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedPath {
    pub path: String,
    /// How many of its parts exist: 1 of `/home/me/a` where there is `/home` and no more.
    pub found: u16,
    /// Whether it was to be written.
    pub written: bool,
    /// Whether it was named by the command's arguments rather than asked for.
    pub named: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAnswer {
    Connected,
    Refused { why: String },
}

/// The first frame on a stream to a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFolder {
    pub folder: u32,
    /// Whose the files are in the guest.
    pub uid: u32,
    pub gid: u32,
    /// How many messages of the host's have arrived on earlier streams to this folder.
    pub seen: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FolderAnswer {
    /// `seen`: how many messages of the guest's have arrived on earlier streams to this folder.
    Opened {
        seen: u64,
    },
    Refused {
        why: String,
    },
}

impl Message for HostRequest {
    const KIND: Kind = Kind::HostRequest;
}

impl Message for HostAnswer {
    const KIND: Kind = Kind::HostAnswer;
}

impl Message for OpenFolder {
    const KIND: Kind = Kind::OpenFolder;
}

impl Message for FolderAnswer {
    const KIND: Kind = Kind::FolderAnswer;
}
