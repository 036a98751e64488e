//! Holds servers against what their users have accepted: images before they boot, tools before they count as ready.

use std::collections::BTreeSet;

use osvm_fleet::Plan;
use osvm_fleet::state::{Cause, CauseKind};
use osvm_image::{Image, Store};
use osvm_mcp::Definition as Listed;
use osvm_spec::lock::{Difference, Listing, Locked, Mark, Now, Tools};
use osvm_spec::{Digest, ServerName};

use crate::lock::{self, LockFile, LockFileError};

/// Lines of a refusal; `osvm mcp accept` shows all.
const MOST_LINES: usize = 60;

pub(super) struct Accepted {
    pub(super) lock: LockFile,
    pub(super) store: Store,
}

impl Accepted {
    /// Whether this is the image that was accepted. Of a server that was never seen, any is.
    pub(super) fn image(&self, plan: &Plan, image: &Image) -> Result<(), Cause> {
        let Some(name) = &plan.locked else { return Ok(()) };
        let Some(locked) = self.lock.of_server(name).map_err(|error| unreadable(&error))? else {
            return Ok(());
        };
        let (image, packages) = (&image.digest, &image.packages);
        compare(name, &locked, &Now { image, packages, tools: Listing::Unknown })
    }

    /// Whether these are the tools that were accepted. The first listing is.
    pub(super) fn tools(
        &self,
        plan: &Plan,
        image: &Digest,
        listed: &[Listed],
    ) -> Result<(), Cause> {
        let Some(name) = &plan.locked else { return Ok(()) };
        let tools = lock::tools(listed.iter().map(|tool| tool.raw.get()));
        let tools = tools.map_err(|error| {
            let why =
                format!("server {name} lists tools that can't be held against others: {error}");
            Cause::new(CauseKind::Refused, why).hint(format!("locked = false, for {name}"))
        })?;
        let listing = Listing::Client(&tools);
        match self.lock.of_server(name).map_err(|error| unreadable(&error))? {
            Some(Locked { tools: Tools::Pending, .. }) | None => self.accept(name, image, listing),
            Some(locked) => {
                let packages = &locked.packages;
                compare(name, &locked, &Now { image, packages, tools: listing })
            }
        }
    }

    /// Another start may have been faster: its word counts.
    fn accept(&self, name: &ServerName, digest: &Digest, seen: Listing<'_>) -> Result<(), Cause> {
        let image = self.store.inspect(digest).ok();
        let edited = self.lock.edit(|lock| {
            let locked = lock.servers.entry(name.clone()).or_insert_with(|| Locked {
                image: digest.clone(),
                origin: image.as_ref().map(|image| image.origin.clone()).unwrap_or_default(),
                packages: image.map_or_else(BTreeSet::new, |image| image.packages),
                tools: Tools::Pending,
            });
            if locked.tools == Tools::Pending {
                locked.tools.accept(&seen);
            }
        });
        edited.map_err(|error| unreadable(&error))
    }
}

fn compare(name: &ServerName, locked: &Locked, now: &Now<'_>) -> Result<(), Cause> {
    let differences = locked.differences(now);
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("server {name} is not what was accepted:{}", lines(&differences));
    Err(Cause::new(CauseKind::Refused, message).hint(format!("osvm mcp accept {name}")))
}

fn lines(differences: &[Difference]) -> String {
    let all: Vec<_> = differences.iter().flat_map(Difference::lines).collect();
    let shown = all.iter().take(MOST_LINES).map(|line| match line.mark {
        Mark::Title => format!("\n{}", line.text),
        Mark::Same => format!("\n    {}", line.text),
        Mark::Removed => format!("\n  - {}", line.text),
        Mark::Added => format!("\n  + {}", line.text),
    });
    let mut text: String = shown.collect();
    if let Some(more @ 1..) = all.len().checked_sub(MOST_LINES) {
        text += &format!("\nand {more} more lines");
    }
    text
}

fn unreadable(error: &LockFileError) -> Cause {
    Cause::new(CauseKind::Refused, format!("what was accepted is not known: {error}"))
}
