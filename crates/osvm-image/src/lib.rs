//! From a reference to a bootable disk: folders, archives, kernels, and the store that keeps them.
//!
//! - [`Store`]: images by the digest of their bytes. A folder becomes a [`disk`], and so does a container
//!   image ([`oci`]); a cpio archive stays one.
//! - [`initramfs`]: what the guest kernel unpacks first. [`base`]: the image of the demo server.
//! - [`kernel`]: guest kernels.
//! - [`mcpb`]: bundles of a server and its manifest. [`local`]: servers that are one program, or a project.
//! - [`debian`]: layers of the distribution's packages. [`builder`]: what installs npm's and PyPI's packages, in a VM.
//!
//! Everything blocks, and everything arrives as an argument.
#![forbid(unsafe_code)]

pub mod base;
pub mod builder;
mod config;
pub mod cpio;
mod deb;
pub mod debian;
mod decompress;
pub mod disk;
mod entry;
mod files;
#[doc(hidden)]
pub mod fuzz;
pub mod initramfs;
pub mod kernel;
pub mod local;
pub mod mcpb;
pub mod oci;
pub mod store;

pub use config::Config;
pub use store::{
    Bundled, Digest, Image, ImportError, Local, Progress, Remote, Root, Source, Stack, Store,
    StoreError,
};
