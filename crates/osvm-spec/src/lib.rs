//! What users write: names, resources, configuration, policy. Data and validation, no I/O.
#![forbid(unsafe_code)]

mod choice;
pub mod clients;
pub mod command;
pub mod config;
pub mod containers;
mod digest;
pub mod edit;
mod folders;
mod hosts;
pub mod image;
pub mod lock;
mod name;
pub mod packages;
mod places;
mod resolve;
mod resources;
mod secrets;
mod tools;

pub use choice::{ChoiceError, CpuTemplate, Hypervisor, Isolation, TemplateLevel};
pub use config::{Config, ConfigError};
pub use digest::{Digest, DigestError};
pub use folders::{Access, FolderRule, FolderRuleError};
pub use hosts::{HostPattern, HostRule, HostRuleError, Hosts, plain as plain_host_name};
pub use image::{ImageRef, ImageRefError, Reference, ReferenceError};
pub use name::{NameError, ServerName};
pub use places::Places;
pub use resolve::{Apart, Folder, Overrides, Refusal, Server};
pub use resources::{Resources, ResourcesError};
pub use secrets::{
    SecretRule, SecretRuleError, Secrets, Source, holds_secret, looks_secret, secret_words,
    tells_secret,
};
pub use tools::{Denial, ToolLimits, ToolPattern, ToolPatternError, ToolPolicy};
