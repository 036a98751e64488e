//! What was found, kept between runs, since one run looks at a part.

use serde::{Deserialize, Serialize};

use super::clients::Outcome;
use super::servers::Revision;
use crate::cache;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) about: Vec<String>,
    pub(super) servers: Vec<Revision>,
    pub(super) clients: Vec<Outcome>,
}

impl cache::Kept for Kept {
    const FILE: &str = "conformance.json";
}
