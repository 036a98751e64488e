//! What became of one of a client's servers.

use std::collections::BTreeSet;

use osvm_spec::ServerName;
use osvm_spec::clients::Spot;
use serde::Serialize;

use crate::error::CliError;
use crate::output;

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    name: ServerName,
    /// As the client calls it.
    entry: String,
    #[serde(flatten)]
    became: Became,
    #[serde(skip)]
    spot: Spot,
}

#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Became {
    Imported {
        /// Variables whose values are in files of osvm's now.
        secrets: Vec<String>,
        /// Variables whose values the client, or whoever runs it, gives.
        from_environment: Vec<String>,
        folders: Vec<String>,
        /// Variables that stay in the client's entry.
        #[serde(skip)]
        kept: BTreeSet<String>,
    },
    There {
        #[serde(skip)]
        kept: BTreeSet<String>,
    },
    LeftOut {
        why: String,
    },
    Failed {
        why: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        hints: Vec<String>,
    },
}

impl Became {
    pub(super) fn left_out(why: &str) -> Self {
        Self::LeftOut { why: why.to_owned() }
    }

    fn failed(error: &CliError) -> Self {
        Self::Failed { why: error.message().to_owned(), hints: error.hints().to_vec() }
    }
}

impl Outcome {
    pub(super) fn new(spot: Spot, name: ServerName, became: Result<Became, CliError>) -> Self {
        let became = became.unwrap_or_else(|error| Became::failed(&error));
        Self { name, entry: spot.name.clone(), became, spot }
    }

    pub(super) fn spot(&self) -> &Spot {
        &self.spot
    }

    pub(super) fn is_failure(&self) -> bool {
        matches!(self.became, Became::Failed { .. })
    }

    /// The variables that stay in the client's entry, if the server is registered.
    pub(super) fn registered(&self) -> Option<&BTreeSet<String>> {
        match &self.became {
            Became::Imported { kept, .. } | Became::There { kept } => Some(kept),
            Became::LeftOut { .. } | Became::Failed { .. } => None,
        }
    }

    /// What osvm is started with in the server's place.
    pub(super) fn args(&self) -> Vec<String> {
        ["mcp", "run", self.name.as_str()].map(str::to_owned).to_vec()
    }

    /// One line about it.
    pub(super) fn line(&self, dry_run: bool) -> String {
        let name = match self.entry == self.name.as_str() {
            true => self.entry.clone(),
            false => format!("{} (as {})", self.entry, self.name),
        };
        output::safe(&format!("{name}: {}", self.became.text(dry_run))).replace('\n', " ")
    }
}

impl Became {
    /// What is said of it.
    fn text(&self, dry_run: bool) -> String {
        match self {
            Self::Imported { secrets, from_environment, folders, .. } => {
                let done = if dry_run { "would be imported" } else { "imported" };
                let list = |what: &str, of: &[String]| match of {
                    [] => String::new(),
                    of => format!("; {what}{}", of.join(", ")),
                };
                let secrets = list("secrets kept in files of their own: ", secrets);
                let given = list("secrets that the client must give: ", from_environment);
                done.to_owned() + &secrets + &given + &list("lent: ", folders)
            }
            Self::There { .. } => "already there".to_owned(),
            Self::LeftOut { why } => format!("left out: {why}"),
            Self::Failed { why, hints } => {
                let hints: String = hints.iter().map(|hint| format!("; hint: {hint}")).collect();
                format!("not imported: {why}{hints}")
            }
        }
    }
}
