//! The server scenarios: of each revision, by itself and behind osvm.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::suite::{Check, Found, REVISIONS, Suite};
use crate::fixture::Fixture;
use crate::stage::{Access, Stage};

const NAME: &str = "fixture";

/// How often a scenario that does worse behind osvm is run once more. Some give a server half a second, in which one that
/// has to be started first, in a machine that may be emulated, need not answer.
const AGAIN: usize = 2;

/// What was found of one revision.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Revision {
    pub(super) revision: String,
    pub(super) alone: Found,
    pub(super) behind: Found,
    /// Scenarios that did worse behind osvm at first, and were run again.
    pub(super) again: BTreeSet<String>,
}

pub(super) fn run(suite: &Suite, fixture: &Fixture, stage: &Stage) -> Result<Vec<Revision>> {
    stage.add(NAME, fixture)?;
    let gateway = stage.gateway(Access::Open)?;
    let behind = format!("{}/servers/{NAME}/mcp", gateway.url);
    let mut revisions = Vec::new();
    for revision in REVISIONS {
        eprintln!("{revision}: server scenarios, by itself");
        let alone = suite.server(&fixture.serve()?.url, revision, None)?;
        eprintln!("{revision}: server scenarios, behind osvm");
        let found = suite.server(&behind, revision, None)?;
        let (revision, again) = (revision.to_owned(), BTreeSet::new());
        let mut found = Revision { revision, alone, behind: found, again };
        for _ in 0..AGAIN {
            found.run_again(suite, &behind)?;
        }
        revisions.push(found);
    }
    Ok(revisions)
}

/// What fails behind osvm, and not by itself.
pub(super) fn worse(revisions: &[Revision]) -> Vec<String> {
    let told = |of: &Revision| {
        let worse = of.worse().into_iter();
        worse
            .map(|(scenario, what)| format!("{} {scenario}: {}", of.revision, what.join(", ")))
            .collect::<Vec<_>>()
    };
    revisions.iter().flat_map(told).collect()
}

impl Revision {
    pub(super) fn scenarios(&self) -> BTreeSet<&String> {
        self.alone.keys().chain(self.behind.keys()).collect()
    }

    fn run_again(&mut self, suite: &Suite, behind: &str) -> Result<()> {
        for scenario in self.worse().into_keys() {
            eprintln!("{}: {scenario}, behind osvm once more", self.revision);
            self.behind.extend(suite.server(behind, &self.revision, Some(&scenario))?);
            self.again.insert(scenario);
        }
        Ok(())
    }

    /// By scenario, what fails behind osvm and not by itself.
    pub(super) fn worse(&self) -> BTreeMap<String, Vec<String>> {
        let mut worse = BTreeMap::new();
        for scenario in self.scenarios() {
            let Some(behind) = self.behind.get(scenario) else {
                worse.insert(scenario.clone(), vec!["did not run".to_owned()]);
                continue;
            };
            let alone = self.alone.get(scenario).map(Vec::as_slice).unwrap_or_default();
            let fails_alone = |check: &Check| {
                alone
                    .iter()
                    .any(|other| other.id == check.id && other.name == check.name && other.failed())
            };
            let failed = behind.iter().filter(|check| check.failed() && !fails_alone(check));
            let failed = failed.map(|check| format!("{} ({})", check.id, check.why()));
            let failed: Vec<_> = failed.collect();
            if !failed.is_empty() {
                worse.insert(scenario.clone(), failed);
            }
        }
        worse
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(scenario: &str, statuses: &[&str]) -> Found {
        let check = |status: &&str| {
            let check = json!({ "id": "id", "name": "Name", "status": status });
            serde_json::from_value(check).unwrap()
        };
        Found::from([(scenario.to_owned(), statuses.iter().map(check).collect())])
    }

    fn worse(alone: Found, behind: Found) -> usize {
        let (revision, again) = ("1".to_owned(), BTreeSet::new());
        Revision { revision, alone, behind, again }.worse().len()
    }

    #[test]
    fn only_what_osvm_adds_counts() {
        let (good, bad) = (|| found("a", &["SUCCESS"]), || found("a", &["SUCCESS", "FAILURE"]));
        assert_eq!(worse(good(), good()), 0);
        assert_eq!(worse(bad(), bad()), 0);
        assert_eq!(worse(bad(), good()), 0);
        assert_eq!(worse(good(), bad()), 1);
        assert_eq!(worse(good(), Found::new()), 1);
        assert_eq!(worse(Found::new(), bad()), 1);
    }
}
