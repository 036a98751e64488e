//! What fuzzing runs: a function a target, each handed any bytes, which fails by panicking. The
//! targets in `fuzz_targets/` call them under libFuzzer, and `tests/seeds.rs` with the kept seeds.
#![forbid(unsafe_code)]

mod bridge;
mod bundle;
mod clients;
mod config;
mod folders;
mod gateway;
mod guard;
mod guest;
mod hosts;
mod image;
mod lock;
mod manifest;
mod mcp;
mod packages;
mod post;
mod record;
mod rules;
mod session;
mod vmm;
mod wire;

pub use bridge::bridge;
pub use bundle::bundle;
pub use clients::clients;
pub use config::config;
pub use folders::folders;
pub use gateway::gateway;
pub use guard::guard;
pub use guest::{dns, proxy};
pub use hosts::hosts;
pub use image::{archive, disk, kernel, layers};
pub use lock::lock;
pub use manifest::manifest;
pub use mcp::mcp;
pub use packages::packages;
pub use post::post;
pub use record::record;
pub use rules::rules;
pub use session::session;
pub use vmm::vmm;
pub use wire::wire;

/// One of several things to do with the rest, by the first byte.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}

/// Runs on the only thread. Where nothing happens, time passes at once.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().expect("a runtime").block_on(future)
}
