//! How often the tools of one server may be called, by all of its clients together.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use osvm_spec::ToolPolicy;

use crate::rate::Rate;

/// What is used up of the limits of one server and of its tools.
#[derive(Debug)]
pub struct CallRates {
    server: Option<Rate>,
    tools: BTreeMap<String, Rate>,
}

impl CallRates {
    /// Nothing where a policy sets no limit.
    pub fn of(policy: &ToolPolicy) -> Option<Self> {
        let server = policy.calls_per_minute.map(Rate::new);
        let tools: BTreeMap<_, _> =
            tools(policy).map(|(name, limit)| (name.to_owned(), Rate::new(limit))).collect();
        (server.is_some() || !tools.is_empty()).then_some(Self { server, tools })
    }

    /// Whether these are the limits that a policy sets.
    pub fn is_of(&self, policy: &ToolPolicy) -> bool {
        let own = self.tools.iter().map(|(name, rate)| (name.as_str(), rate.limit()));
        self.server.as_ref().map(Rate::limit) == policy.calls_per_minute && own.eq(tools(policy))
    }

    /// Counts a call that is about to be made; or says why it is not.
    pub(super) fn take(&self, tool: &str) -> Result<(), String> {
        let take = |rate: Option<&Rate>, whose: &str| match rate {
            Some(rate) => rate
                .take(NonZeroU32::MIN)
                .map_err(|exceeded| format!("{whose} is called too often: {exceeded}")),
            None => Ok(()),
        };
        take(self.tools.get(tool), "it")?;
        take(self.server.as_ref(), "its server")
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
        let rates = Arc::new(CallRates::of(&policy).unwrap());
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
    fn other_limits_are_counted_anew_and_the_same_are_not() {
        let rates = CallRates::of(&policy(3, 1)).unwrap();
        assert!(rates.is_of(&policy(3, 1)));
        assert!(!rates.is_of(&policy(3, 2)) && !rates.is_of(&policy(0, 1)));
        assert!(CallRates::of(&policy(0, 0)).is_none());
    }
}
