//! How often servers' tools are called, whichever way the calls come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osvm_mcp::CallRates;
use osvm_spec::{Config, Overrides, ServerName, ToolPolicy};

use super::Daemon;

/// Of all servers that are in use.
#[derive(Default)]
pub(super) struct Rates {
    servers: Mutex<BTreeMap<ServerName, Arc<CallRates>>>,
    /// What they were read from last.
    config: Mutex<Option<Arc<Config>>>,
}

impl Daemon {
    /// Has limits that were changed meanwhile hold for conversations that are open. A configuration that can't be read
    /// changes none.
    pub(super) fn renew_rates(&self) {
        let Ok(config) = self.config() else { return };
        for name in self.rates.outdated(&config) {
            let server = self.resolve_in(&config, &name, &Overrides::default());
            // Of one that was removed, they hold for whoever still has it.
            if let Some(server) = server.ok().filter(|server| server.registered) {
                self.rates.of(&name, &server.tool_policy);
            }
        }
    }
}

impl Rates {
    /// What all clients of a server share, holding what its policy says by now.
    pub(super) fn of(&self, name: &ServerName, policy: &ToolPolicy) -> Arc<CallRates> {
        let mut servers = self.servers();
        // What nobody has and nothing is counted in is not worth keeping.
        servers.retain(|_, rates| Arc::strong_count(rates) > 1 || !rates.is_empty());
        let rates = Arc::clone(servers.entry(name.clone()).or_default());
        rates.hold(policy);
        rates
    }

    /// Servers whose limits may be other ones by this configuration, which is not so for the one that was asked about
    /// last.
    fn outdated(&self, config: &Arc<Config>) -> Vec<ServerName> {
        let mut last = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, config)) {
            return Vec::new();
        }
        *last = Some(Arc::clone(config));
        self.servers().keys().cloned().collect()
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<ServerName, Arc<CallRates>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn clients_share_what_is_counted_whatever_the_limits_are() {
        let (rates, name) = (Rates::default(), "a".parse().unwrap());
        let limited = |calls| ToolPolicy {
            calls_per_minute: NonZeroU32::new(calls),
            ..ToolPolicy::default()
        };
        let one = rates.of(&name, &limited(5));
        assert!(Arc::ptr_eq(&one, &rates.of(&name, &limited(5))));
        assert!(!Arc::ptr_eq(&one, &rates.of(&"b".parse().unwrap(), &limited(5))));
        assert!(Arc::ptr_eq(&one, &rates.of(&name, &limited(0))), "it is for old and new numbers");
        assert!(one.is_empty());
        drop(one);
        rates.of(&"c".parse().unwrap(), &limited(0));
        let kept: Vec<_> = rates.servers().keys().map(ToString::to_string).collect();
        assert_eq!(kept, ["b", "c"]);
    }

    #[test]
    fn each_configuration_is_looked_at_once() {
        let rates = Rates::default();
        let name: ServerName = "a".parse().unwrap();
        rates.of(&name, &ToolPolicy::default());
        let (one, other) = (Arc::new(Config::default()), Arc::new(Config::default()));
        assert_eq!(rates.outdated(&one), std::slice::from_ref(&name));
        assert!(rates.outdated(&one).is_empty());
        assert_eq!(rates.outdated(&other), [name]);
    }
}
