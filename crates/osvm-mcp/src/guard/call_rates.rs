//! How often the tools of one server may be called, by all of its clients together.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use osvm_spec::ToolPolicy;

use crate::rate::Rate;

/// What is used up of the limits of one server and of its tools. There is one of each server, whatever its limits are at
/// the moment.
#[derive(Debug, Default)]
pub struct CallRates(Mutex<Rates>);

#[derive(Debug, Default)]
struct Rates {
    server: Option<Rate>,
    tools: BTreeMap<String, Rate>,
}

impl CallRates {
    /// From now on what a policy sets holds, for whoever has this. Limits that are not other ones go on as they are, others
    /// are counted from nothing.
    pub fn hold(&self, policy: &ToolPolicy) {
        let mut rates = self.rates();
        let kept = |old: Option<Rate>, limit| match old.filter(|old| old.limit() == limit) {
            Some(old) => old,
            None => Rate::new(limit),
        };
        let server = rates.server.take();
        rates.server = policy.calls_per_minute.map(|limit| kept(server, limit));
        let mut old = std::mem::take(&mut rates.tools);
        rates.tools = tools(policy)
            .map(|(name, limit)| (name.to_owned(), kept(old.remove(name), limit)))
            .collect();
    }

    /// Whether there is no limit at all.
    pub fn is_empty(&self) -> bool {
        let rates = self.rates();
        rates.server.is_none() && rates.tools.is_empty()
    }

    /// Counts a call that is about to be made; or says why it is not, and counts it nowhere.
    pub(super) fn take(&self, tool: &str) -> Result<(), String> {
        // Held, so that what is given back is nobody else's.
        let rates = self.rates();
        let take = |rate: Option<&Rate>, whose: &str| match rate {
            Some(rate) => rate
                .take(NonZeroU32::MIN)
                .map_err(|exceeded| format!("{whose} is called too often: {exceeded}")),
            None => Ok(()),
        };
        let server = rates.server.as_ref();
        let used = server.map(Rate::used);
        take(server, "its server")?;
        take(rates.tools.get(tool), "it").inspect_err(|_| {
            if let (Some(server), Some(used)) = (server, used) {
                server.give_back(used);
            }
        })
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tools(policy: &ToolPolicy) -> impl Iterator<Item = (&str, NonZeroU32)> {
    policy
        .limits
        .iter()
        .filter_map(|(name, limits)| Some((name.as_str(), limits.calls_per_minute?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use osvm_spec::ToolLimits;
    use serde_json::{Value, json};

    use super::super::{Guard, Outcome, Rules};
    use super::*;

    fn policy(server: u32, tool: u32) -> ToolPolicy {
        let limits =
            ToolLimits { calls_per_minute: NonZeroU32::new(tool), ..ToolLimits::default() };
        ToolPolicy {
            calls_per_minute: NonZeroU32::new(server),
            limits: [("slow".to_owned(), limits)].into(),
            ..ToolPolicy::default()
        }
    }

    fn rates(policy: &ToolPolicy) -> Arc<CallRates> {
        let rates = CallRates::default();
        rates.hold(policy);
        Arc::new(rates)
    }

    fn guard(policy: &ToolPolicy, rates: &Arc<CallRates>) -> Guard {
        let rates = Some(Arc::clone(rates));
        let policy = policy.clone();
        Guard::new(Rules { server: "s".to_owned(), policy, rates, ..Rules::default() })
    }

    /// Why a call is refused.
    fn call(guard: &mut Guard, id: u32, tool: &str) -> Option<String> {
        let params = json!({ "name": tool });
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        let line = format!("{call}\n").into_bytes();
        let passage = guard.of_client(&line, Instant::now());
        if passage.to_server == line {
            return None;
        }
        assert!(passage.to_server.is_empty());
        let answer: Value = serde_json::from_slice(&passage.to_client).unwrap();
        Some(answer["error"]["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn clients_of_one_server_use_up_one_limit_and_refusals_are_recorded() {
        let policy = policy(3, 1);
        let rates = rates(&policy);
        let (mut one, mut other) = (guard(&policy, &rates), guard(&policy, &rates));
        assert_eq!(call(&mut one, 1, "slow"), None);
        let why = call(&mut other, 1, "slow").unwrap();
        let told = "policy refuses tool slow of s: it is called too often: the limit is 1 a minute; try again in ";
        assert!(why.starts_with(told), "{why}");
        let ended = other.take_ended();
        assert_eq!(ended[0].outcome, Outcome::Refused(why));
        // What was refused does not count.
        assert_eq!(call(&mut other, 2, "fast"), None);
        assert_eq!(call(&mut one, 2, "fast"), None);
        let why = call(&mut one, 3, "fast").unwrap();
        assert!(why.contains("its server is called too often: the limit is 3 a minute"), "{why}");
    }

    #[test]
    fn what_another_limit_refuses_uses_up_none() {
        let policy = policy(2, 3);
        let rates = rates(&policy);
        let mut guard = guard(&policy, &rates);
        assert_eq!(call(&mut guard, 1, "fast"), None);
        assert_eq!(call(&mut guard, 2, "slow"), None);
        for id in 3..9 {
            let why = call(&mut guard, id, "slow").unwrap();
            assert!(why.contains("its server is called too often"), "{why}");
        }
        // The tool has two left, once its server may be called again.
        rates.hold(&super::tests::policy(0, 3));
        assert_eq!((call(&mut guard, 10, "slow"), call(&mut guard, 11, "slow")), (None, None));
        assert!(call(&mut guard, 12, "slow").is_some());
        // And the other way round.
        let policy = super::tests::policy(3, 1);
        let rates = super::tests::rates(&policy);
        let mut guard = super::tests::guard(&policy, &rates);
        assert_eq!(call(&mut guard, 1, "slow"), None);
        for id in 2..9 {
            let why = call(&mut guard, id, "slow").unwrap();
            assert!(why.contains(": it is called too often"), "{why}");
        }
        assert_eq!((call(&mut guard, 10, "fast"), call(&mut guard, 11, "fast")), (None, None));
    }

    #[test]
    fn what_a_rule_refuses_uses_up_no_limit() {
        let limits = ToolLimits {
            calls_per_minute: NonZeroU32::new(1),
            confirm: true,
            ..ToolLimits::default()
        };
        let limits = [("slow".to_owned(), limits)].into();
        let policy = ToolPolicy { limits, ..policy(1, 1) };
        let mut guard = guard(&policy, &rates(&policy));
        for id in 0..3 {
            let why = call(&mut guard, id, "slow").unwrap();
            assert!(why.ends_with("this client can't be asked"), "{why}");
        }
        assert_eq!(call(&mut guard, 3, "fast"), None);
    }

    #[test]
    fn changed_limits_hold_for_conversations_that_are_open_and_the_same_go_on() {
        let none = ToolPolicy::default();
        let rates = rates(&none);
        let mut guard = guard(&none, &rates);
        assert_eq!((call(&mut guard, 1, "slow"), rates.is_empty()), (None, true));
        rates.hold(&policy(3, 1));
        assert_eq!((call(&mut guard, 2, "slow"), rates.is_empty()), (None, false));
        rates.hold(&policy(4, 1));
        assert!(call(&mut guard, 3, "slow").is_some(), "the tool's is used up as before");
        assert!((4..8).all(|id| call(&mut guard, id, "fast").is_none()), "the server's is another");
        assert!(call(&mut guard, 8, "fast").is_some());
        rates.hold(&none);
        assert_eq!((call(&mut guard, 9, "slow"), call(&mut guard, 10, "fast")), (None, None));
    }
}
