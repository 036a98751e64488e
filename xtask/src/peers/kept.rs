//! What was found last, for a page that is written anew.

use serde::{Deserialize, Serialize};

use super::row::Row;
use crate::cache;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) about: Vec<String>,
    pub(super) rows: Vec<Row>,
}

impl cache::Kept for Kept {
    const FILE: &str = "peers.json";
}
