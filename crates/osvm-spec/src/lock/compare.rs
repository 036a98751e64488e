//! What was accepted, beside what there is now.

use std::collections::{BTreeMap, BTreeSet};

use super::{Definition, Locked, Part, Pin, Tools};
use crate::Digest;

/// A server as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    pub image: &'a Digest,
    pub packages: &'a BTreeSet<Pin>,
    pub tools: Listing<'a>,
}

/// Tools by their names, and how much the listing says of those that are not in it.
#[derive(Debug, Clone, Copy)]
pub enum Listing<'a> {
    /// The server was not asked.
    Unknown,
    /// What one client was shown. Servers list by what a client can do, so a tool that is absent is no change.
    Client(&'a BTreeMap<String, Definition>),
    /// All there are: a tool that is absent is gone.
    Whole(&'a BTreeMap<String, Definition>),
}

/// One thing that is not as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Image {
        was: Digest,
        now: Digest,
    },
    /// Its versions, and the hash of each; none where it came or went.
    Package {
        name: String,
        was: Vec<Pin>,
        now: Vec<Pin>,
    },
    ToolAdded(Definition),
    ToolRemoved(Definition),
    ToolChanged {
        name: String,
        parts: Vec<PartChange>,
    },
}

/// Canonical JSON before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartChange {
    pub part: Part,
    pub was: Option<String>,
    pub now: Option<String>,
}

impl Locked {
    /// Everything that changed; nothing means that the server is the accepted one.
    pub fn differences(&self, now: &Now<'_>) -> Vec<Difference> {
        let mut all = Vec::new();
        if self.image != *now.image {
            all.push(Difference::Image { was: self.image.clone(), now: now.image.clone() });
        }
        all.extend(packages(&self.packages, now.packages));
        if let Tools::Known(known) = &self.tools {
            all.extend(tools(known, now.tools));
        }
        all
    }
}

fn packages(was: &BTreeSet<Pin>, now: &BTreeSet<Pin>) -> Vec<Difference> {
    let names: BTreeSet<_> = was.symmetric_difference(now).map(|pin| &pin.name).collect();
    let of = |all: &BTreeSet<Pin>, name: &str| {
        all.iter().filter(|pin| pin.name == name).cloned().collect::<Vec<_>>()
    };
    let change = |name: &String| Difference::Package {
        name: name.clone(),
        was: of(was, name),
        now: of(now, name),
    };
    names.into_iter().map(change).collect()
}

fn tools(known: &BTreeMap<String, Definition>, listing: Listing<'_>) -> Vec<Difference> {
    let (listed, is_whole) = match listing {
        Listing::Unknown => return Vec::new(),
        Listing::Client(listed) => (listed, false),
        Listing::Whole(listed) => (listed, true),
    };
    let gone = known.iter().filter(|(name, _)| is_whole && !listed.contains_key(*name));
    let gone = gone.map(|(_, tool)| Difference::ToolRemoved(tool.clone()));
    let shown = listed.iter().filter_map(|(name, tool)| match known.get(name) {
        None => Some(Difference::ToolAdded(tool.clone())),
        Some(was) => changed(was, tool),
    });
    gone.chain(shown).collect()
}

fn changed(was: &Definition, now: &Definition) -> Option<Difference> {
    let of = |tool: &Definition, part| tool.part(part).map(str::to_owned);
    let change = |part| PartChange { part, was: of(was, part), now: of(now, part) };
    let parts: Vec<_> =
        Part::ALL.into_iter().map(change).filter(|change| change.was != change.now).collect();
    let name = now.name().to_owned();
    (!parts.is_empty()).then_some(Difference::ToolChanged { name, parts })
}
