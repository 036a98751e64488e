//! How often servers' tools are called, whichever way the calls come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use osvm_mcp::CallRates;
use osvm_spec::{ServerName, ToolPolicy};

/// Of all servers whose policies set limits.
#[derive(Default)]
pub(super) struct Rates(Mutex<BTreeMap<ServerName, Arc<CallRates>>>);

impl Rates {
    /// What all clients of a server share. Limits that were changed are counted anew.
    pub(super) fn of(&self, name: &ServerName, policy: &ToolPolicy) -> Option<Arc<CallRates>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rates) = all.get(name).filter(|rates| rates.is_of(policy)) {
            return Some(Arc::clone(rates));
        }
        all.remove(name);
        let rates = Arc::new(CallRates::of(policy)?);
        all.insert(name.clone(), Arc::clone(&rates));
        Some(rates)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn clients_share_what_is_counted_until_the_limits_change() {
        let (rates, name) = (Rates::default(), "a".parse().unwrap());
        let limited = |calls| ToolPolicy {
            calls_per_minute: NonZeroU32::new(calls),
            ..ToolPolicy::default()
        };
        let one = rates.of(&name, &limited(5)).unwrap();
        assert!(Arc::ptr_eq(&one, &rates.of(&name, &limited(5)).unwrap()));
        assert!(!Arc::ptr_eq(&one, &rates.of(&"b".parse().unwrap(), &limited(5)).unwrap()));
        assert!(!Arc::ptr_eq(&one, &rates.of(&name, &limited(6)).unwrap()));
        assert!(rates.of(&name, &limited(0)).is_none());
    }
}
