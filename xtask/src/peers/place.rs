//! Where a peer finds the server: by itself or through osvm, as a command or at an address.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::fixture::{Fixture, Serving};
use crate::stage::{Access, Stage};

const NAME: &str = "fixture";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    Stdio,
    Http,
}

pub(super) enum Place {
    Command { argv: Vec<String>, environment: Vec<(&'static str, PathBuf)> },
    Address { url: String, token: Option<String> },
}

/// The server by itself and through osvm, each over stdio and over HTTP.
pub(super) struct Places<'a> {
    stage: &'a Stage,
    fixture: &'a Fixture,
    gateway: Serving,
}

impl<'a> Places<'a> {
    pub(super) fn new(stage: &'a Stage, fixture: &'a Fixture) -> Result<Self> {
        stage.add(NAME, fixture)?;
        let gateway = stage.gateway(Access::ByToken)?;
        Ok(Self { stage, fixture, gateway })
    }

    /// The server by itself. At an address it is there until what is returned is dropped.
    pub(super) fn alone(&self, way: Way) -> Result<(Place, Option<Serving>)> {
        match way {
            Way::Stdio => {
                let argv = vec![self.fixture.program().display().to_string()];
                Ok((Place::Command { argv, environment: Vec::new() }, None))
            }
            Way::Http => {
                let serving = self.fixture.serve()?;
                let url = serving.url.clone();
                Ok((Place::Address { url, token: None }, Some(serving)))
            }
        }
    }

    pub(super) fn through_osvm(&self, way: Way) -> Result<Place> {
        Ok(match way {
            Way::Stdio => {
                let program = self.stage.program().display().to_string();
                let argv = [&program, "mcp", "run", NAME].map(str::to_owned).into();
                Place::Command { argv, environment: self.stage.environment().into() }
            }
            Way::Http => {
                let url = format!("{}/servers/{NAME}/mcp", self.gateway.url);
                Place::Address { url, token: Some(self.stage.token()?) }
            }
        })
    }
}
