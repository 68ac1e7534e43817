//! The flows that are in the datapath, and how long they stay (spec fastdp.md, section 8).

use std::collections::BTreeMap;

use weave_odp::{Action, DumpedFlow, Flow, FlowMatch};

/// How many flows there can be: two for each pair of stations that speak with each other. Further
/// packets go through the router one by one, until flows that nothing uses are gone.
pub(super) const MAX_FLOWS: usize = 8192;

/// The book of flows.
#[derive(Debug, Default)]
pub(super) struct Book {
    flows: BTreeMap<FlowMatch, Vec<Action>>,
}

/// What to do about a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Upkeep {
    /// Nothing used it, or nobody knows it: delete it.
    Delete(FlowMatch),
    /// It is in use: its stations are alive. Clear its counters.
    Keep(FlowMatch),
}

impl Book {
    /// Whether there is room for a flow.
    pub(super) fn has_room_for(&self, matches: &FlowMatch) -> bool {
        self.flows.len() < MAX_FLOWS || self.flows.contains_key(matches)
    }

    /// Writes down a flow that was put into the datapath.
    pub(super) fn put(&mut self, flow: &Flow) {
        self.flows.insert(flow.matches.clone(), flow.actions.clone());
    }

    /// Strikes out a flow that was deleted.
    pub(super) fn remove(&mut self, matches: &FlowMatch) {
        self.flows.remove(matches);
    }

    /// The flow that is there for such packets.
    pub(super) fn flow(&self, matches: FlowMatch) -> Option<Flow> {
        let actions = self.flows.get(&matches)?.clone();
        Some(Flow { matches, actions })
    }

    /// The flows for which this does not hold.
    pub(super) fn all_but(&self, stays: impl Fn(&FlowMatch, &[Action]) -> bool) -> Vec<FlowMatch> {
        let goes = |(matches, actions): (&FlowMatch, &Vec<Action>)| {
            (!stays(matches, actions)).then(|| matches.clone())
        };
        self.flows.iter().filter_map(goes).collect()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// What has to be changed so that each flow does what `plan` says of it now; `None` is that
    /// there should be none.
    pub(super) fn revise(
        &self,
        mut plan: impl FnMut(&FlowMatch, &[Action]) -> Option<Vec<Action>>,
    ) -> Vec<(FlowMatch, Option<Vec<Action>>)> {
        let changed = |(matches, actions): (&FlowMatch, &Vec<Action>)| {
            let planned = plan(matches, actions);
            (planned.as_ref() != Some(actions)).then(|| (matches.clone(), planned))
        };
        self.flows.iter().filter_map(changed).collect()
    }

    /// What to do about the flows that the datapath lists. Those it does not list any more are
    /// struck out; those to delete stay in the book until they are.
    pub(super) fn maintain(&mut self, dumped: &[DumpedFlow]) -> Vec<Upkeep> {
        let mut listed = BTreeMap::new();
        let mut upkeep = Vec::with_capacity(dumped.len());
        for DumpedFlow { flow, stats, .. } in dumped {
            let used = stats.used.is_some_and(|time| time != 0);
            let known = self.flows.remove(&flow.matches);
            upkeep.push(if used && known.is_some() {
                Upkeep::Keep(flow.matches.clone())
            } else {
                Upkeep::Delete(flow.matches.clone())
            });
            if let Some(actions) = known {
                listed.insert(flow.matches.clone(), actions);
            }
        }
        self.flows = listed;
        upkeep
    }
}

#[cfg(test)]
mod tests {
    use weave_odp::{DatapathId, Ethernet, FlowStats, Masked, PortNumber};

    use super::*;

    fn flow(number: u8) -> Flow {
        let ethernet = Ethernet { source: [2, 0, 0, 0, 0, number], ..Ethernet::ANY };
        let matches = FlowMatch::new(PortNumber(1), Masked::exact(ethernet));
        Flow { matches, actions: vec![Action::Output(PortNumber(number.into()))] }
    }

    fn dumped(number: u8, used: Option<u64>) -> DumpedFlow {
        let stats = FlowStats { packets: 1, bytes: 60, used };
        DumpedFlow { datapath: DatapathId(7), flow: flow(number), stats }
    }

    #[test]
    fn flows_that_nothing_uses_and_strange_ones_are_deleted() {
        let mut book = Book::default();
        for number in [1, 2, 3] {
            book.put(&flow(number));
        }
        let list = [dumped(1, Some(5)), dumped(2, None), dumped(4, Some(5))];
        let delete = |number| Upkeep::Delete(flow(number).matches);
        assert_eq!(book.maintain(&list), [Upkeep::Keep(flow(1).matches), delete(2), delete(4)]);
        assert_eq!(book.len(), 2, "the third was deleted by somebody else");
        assert!(book.flows.contains_key(&flow(2).matches), "it is there until it is deleted");
    }

    #[test]
    fn a_change_touches_what_changed_alone() {
        let mut book = Book::default();
        for number in [1, 2, 3] {
            book.put(&flow(number));
        }
        let replaced = vec![Action::Output(PortNumber(9))];
        let changes = book.revise(|matches, _| match matches.ethernet.key().source[5] {
            1 => Some(flow(1).actions),
            2 => Some(replaced.clone()),
            _ => None,
        });
        assert_eq!(changes, [(flow(2).matches, Some(replaced)), (flow(3).matches, None)]);
    }

    #[test]
    fn random_addresses_fill_it_to_its_brim_and_no_further() {
        let mut book = Book::default();
        let number = |n: usize| {
            let mut flow = flow(0);
            let mut ethernet = flow.matches.ethernet.key();
            ethernet.destination[2..].copy_from_slice(&u32::try_from(n).unwrap().to_be_bytes());
            flow.matches.ethernet = Masked::exact(ethernet);
            flow
        };
        for n in 0..2 * MAX_FLOWS {
            let flow = number(n);
            if book.has_room_for(&flow.matches) {
                book.put(&flow);
            }
        }
        assert_eq!(book.len(), MAX_FLOWS);
        assert!(book.has_room_for(&number(0).matches), "it is there already");
        // None of them has seen a second packet.
        let list: Vec<_> =
            (0..MAX_FLOWS).map(|n| DumpedFlow { flow: number(n), ..dumped(0, None) }).collect();
        let goes = |upkeep: &Upkeep| matches!(upkeep, Upkeep::Delete(_));
        assert_eq!(book.maintain(&list).iter().filter(|upkeep| goes(upkeep)).count(), MAX_FLOWS);
    }
}
