//! One peer, one era, one way: what it was told by the server itself, and what through osvm.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::place::{Place, Places, Way};
use super::step::{Seen, Step};

/// The handshake's revisions, to 2025-11-25, or 2026-07-28, which has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Era {
    Legacy,
    Modern,
}

pub(super) trait Peer {
    /// With its version, for the page.
    fn name(&self) -> &str;

    fn eras(&self) -> &[Era];

    fn ways(&self) -> &[Way] {
        &[Way::Stdio, Way::Http]
    }

    /// All that it does with a server, in the same order each time.
    fn meet(&self, place: &Place, era: Era) -> Result<Vec<Step>>;
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) peer: String,
    pub(super) era: Era,
    pub(super) way: Way,
    pub(super) alone: Vec<Step>,
    pub(super) through: Vec<Step>,
}

pub(super) fn rows(peer: &dyn Peer, places: &Places<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (&era, &way) in
        peer.eras().iter().flat_map(|era| peer.ways().iter().map(move |way| (era, way)))
    {
        rows.push(row(peer, era, way, places)?);
    }
    Ok(rows)
}

fn row(peer: &dyn Peer, era: Era, way: Way, places: &Places<'_>) -> Result<Row> {
    let name = peer.name();
    let met = |place: &Place, what| {
        eprintln!("{name}, {era:?}, {way:?}: {what}");
        peer.meet(place, era).with_context(|| format!("try {name}, {what}"))
    };
    let (place, serving) = places.alone(way)?;
    let alone = met(&place, "the server by itself")?;
    drop(serving);
    let through = met(&places.through_osvm(way)?, "through osvm")?;
    Ok(Row { peer: name.to_owned(), era, way, alone, through })
}

impl Row {
    /// How many steps ended with an answer, by itself.
    pub(super) fn answered_alone(&self) -> usize {
        self.alone.iter().filter(|step| step.is_answered()).count()
    }

    /// How many steps ended with that same answer, through osvm.
    pub(super) fn answered_through(&self) -> usize {
        self.alone.iter().filter(|step| step.is_answered() && self.through.contains(step)).count()
    }

    /// The steps that have no answer, neither by itself nor through osvm, and why.
    pub(super) fn unanswered(&self) -> Vec<String> {
        let failed = |step: &Step| match &step.seen {
            Seen::Answer(_) => None,
            Seen::Failed(why) => Some(format!("{} ({why})", step.step)),
        };
        self.alone.iter().filter_map(failed).collect()
    }

    /// The steps that have another answer through osvm, or none, and why.
    pub(super) fn different(&self) -> Vec<String> {
        let answered = self.alone.iter().filter(|step| step.is_answered());
        let worse = answered.filter(|step| !self.through.contains(step));
        worse.map(|step| format!("{} ({})", step.step, self.told(&step.step))).collect()
    }

    fn told(&self, name: &str) -> String {
        let step = self.through.iter().find(|step| step.step == name);
        match step.map(|step| &step.seen) {
            None => "not reached".to_owned(),
            Some(Seen::Failed(why)) => why.clone(),
            Some(Seen::Answer(answer)) => format!("answered {answer}"),
        }
    }

    /// What is different, of which row.
    pub(super) fn worse(&self) -> Vec<String> {
        let of = |what| format!("{}, {:?}, {:?}: {what}", self.peer, self.era, self.way);
        self.different().into_iter().map(of).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn row(alone: &[Step], through: &[Step]) -> Row {
        let (alone, through) = (alone.to_vec(), through.to_vec());
        Row { peer: "peer 1".to_owned(), era: Era::Legacy, way: Way::Stdio, alone, through }
    }

    #[test]
    fn an_answer_through_osvm_counts_where_it_is_the_same() {
        let (one, two) = (Step::answer("a", json!(1)), Step::answer("b", json!(2)));
        let same = row(&[one.clone(), two.clone()], &[one.clone(), two.clone()]);
        assert_eq!((same.answered_alone(), same.answered_through()), (2, 2));
        assert!(same.worse().is_empty());
        let other = row(&[one.clone(), two.clone()], &[one.clone(), Step::answer("b", json!(3))]);
        assert_eq!((other.answered_alone(), other.answered_through()), (2, 1));
        assert_eq!(other.worse(), ["peer 1, Legacy, Stdio: b (answered 3)"]);
        let fewer = row(&[one.clone(), two], &[one]);
        assert_eq!(fewer.different(), ["b (not reached)"]);
    }

    #[test]
    fn what_fails_by_itself_is_no_fault_of_osvms() {
        let row = row(&[Step::failed("a", "late")], &[Step::failed("a", "late")]);
        assert_eq!((row.answered_alone(), row.answered_through()), (0, 0));
        assert!(row.worse().is_empty());
        assert_eq!(row.unanswered(), ["a (late)"]);
    }
}
