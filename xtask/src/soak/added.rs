//! The servers, registered in a home, each with its image and its VM.

use std::sync::{Mutex, PoisonError};
use std::{iter, thread};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::servers::{Made, Place, Server};

/// Of a VM, in MiB: each of its server's processes is a client's.
const MEMORY: u32 = 1024;
/// In seconds: where so many compete for processors, emulated ones as a rule, the default is soon over.
pub(super) const START_WITHIN: u64 = 300;
/// Servers that are added beside each other.
const AT_ONCE: usize = 2;

/// Servers that are registered until this is dropped.
pub(super) struct Added<'a> {
    place: &'a Place,
    servers: &'a [&'a Server],
    made: Vec<Made>,
}

impl<'a> Added<'a> {
    pub(super) fn all(place: &'a Place, servers: &'a [&'a Server]) -> Result<Self> {
        place.stage.configure("microvm", "launch_timeout_seconds", START_WITHIN)?;
        let mut added = Self { place, servers, made: Vec::new() };
        let left = Mutex::new(servers.iter());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let lane = || iter::from_fn(next).map(|server| add(place, server)).collect();
        let lanes: Vec<Result<Vec<Made>>> = thread::scope(|scope| {
            let running: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(lane)).collect();
            running.into_iter().map(|lane| lane.join().expect("a lane does not panic")).collect()
        });
        for made in lanes {
            added.made.extend(made?);
        }
        Ok(added)
    }
}

/// What is told of a server while it runs.
pub(super) struct Seen {
    /// Of its VM, in MiB.
    pub(super) memory: Option<u64>,
    /// Of its package.
    pub(super) version: Option<String>,
}

impl Seen {
    pub(super) fn of(place: &Place, server: &Server) -> Result<Self> {
        let memory = place.memory(&server.name)?;
        Ok(Self { memory, version: version(&place.image(&server.name)?) })
    }
}

/// Of the package that an image was made of, among all that are in it.
fn version(image: &Value) -> Option<String> {
    let package = image["origin"].as_str()?.split_whitespace().next()?;
    let found = image["packages"].as_array()?.iter().find(|found| found["name"] == package)?;
    Some(found["version"].as_str()?.to_owned())
}

fn add(place: &Place, server: &Server) -> Result<Made> {
    eprintln!("add {}: {}", server.name, server.command_line());
    // What a run that was ended has left.
    place.remove(server);
    let made = place.prepare(server)?;
    place.add(server, &made, MEMORY).with_context(|| format!("add {}", server.name))?;
    Ok(made)
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        self.servers.iter().for_each(|server| self.place.remove(server));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_version_is_that_of_the_package_which_was_asked_for() {
        let packages = json!([
            { "name": "pypi:mcp", "version": "1.9" },
            { "name": "pypi:server", "version": "2.1" },
        ]);
        let image = json!({ "origin": "pypi:server --with 'mcp<2'", "packages": packages });
        assert_eq!(version(&image).as_deref(), Some("2.1"));
        assert_eq!(version(&json!({ "origin": "./a.mcpb" })), None);
        assert_eq!(version(&Value::Null), None);
    }
}
