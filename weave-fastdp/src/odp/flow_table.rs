//! The flows in the datapath, and how long they stay (spec fastdp.md, section 8).

use std::collections::BTreeMap;

use weave_odp::{Action, DumpedFlow, Flow, FlowMatch};

/// Largest number of flows: there are two for each pair of stations that communicate. Packets that
/// need more take the slow path until unused flows are deleted.
pub(super) const MAX_FLOWS: usize = 8192;

/// A table of the flows that the engine has put into the datapath.
#[derive(Debug, Default)]
pub(super) struct FlowTable {
    flows: BTreeMap<FlowMatch, Vec<Action>>,
}

/// A step in the maintenance of flows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Maintenance {
    /// Delete a flow, since it is unused or not of this engine.
    Delete(FlowMatch),
    /// Reset the counters of a flow, which is in use: its stations are alive.
    Reset(FlowMatch),
}

impl FlowTable {
    /// Returns whether there is room for a flow.
    pub(super) fn has_room_for(&self, matches: &FlowMatch) -> bool {
        self.flows.len() < MAX_FLOWS || self.flows.contains_key(matches)
    }

    /// Adds a flow that was put into the datapath.
    pub(super) fn put(&mut self, flow: &Flow) {
        self.flows.insert(flow.matches.clone(), flow.actions.clone());
    }

    /// Removes a flow that was deleted.
    pub(super) fn remove(&mut self, matches: &FlowMatch) {
        self.flows.remove(matches);
    }

    /// Returns the flow with this match.
    pub(super) fn flow(&self, matches: FlowMatch) -> Option<Flow> {
        let actions = self.flows.get(&matches)?.clone();
        Some(Flow { matches, actions })
    }

    /// Returns the matches of all flows but those that stay.
    pub(super) fn all_but(&self, stays: impl Fn(&FlowMatch, &[Action]) -> bool) -> Vec<FlowMatch> {
        let removed = |(matches, actions): (&FlowMatch, &Vec<Action>)| {
            (!stays(matches, actions)).then(|| matches.clone())
        };
        self.flows.iter().filter_map(removed).collect()
    }

    /// Returns the number of flows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Returns the flows whose actions differ from those that `plan` returns, with their new
    /// actions; `None` is that the flow is to be deleted.
    pub(super) fn changes(
        &self,
        mut plan: impl FnMut(&FlowMatch, &[Action]) -> Option<Vec<Action>>,
    ) -> Vec<(FlowMatch, Option<Vec<Action>>)> {
        let changed = |(matches, actions): (&FlowMatch, &Vec<Action>)| {
            let planned = plan(matches, actions);
            (planned.as_ref() != Some(actions)).then(|| (matches.clone(), planned))
        };
        self.flows.iter().filter_map(changed).collect()
    }

    /// Returns the maintenance steps for the flows that the datapath lists. Flows that it does not
    /// list are removed; flows to be deleted stay in the table until they are.
    pub(super) fn maintain(&mut self, dumped: &[DumpedFlow]) -> Vec<Maintenance> {
        let mut listed = BTreeMap::new();
        let mut steps = Vec::with_capacity(dumped.len());
        for DumpedFlow { flow, stats, .. } in dumped {
            let used = stats.used.is_some_and(|time| time != 0);
            let known = self.flows.remove(&flow.matches);
            steps.push(if used && known.is_some() {
                Maintenance::Reset(flow.matches.clone())
            } else {
                Maintenance::Delete(flow.matches.clone())
            });
            if let Some(actions) = known {
                listed.insert(flow.matches.clone(), actions);
            }
        }
        self.flows = listed;
        steps
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
    fn unused_and_foreign_flows_are_deleted() {
        let mut table = FlowTable::default();
        for number in [1, 2, 3] {
            table.put(&flow(number));
        }
        let list = [dumped(1, Some(5)), dumped(2, None), dumped(4, Some(5))];
        let delete = |number| Maintenance::Delete(flow(number).matches);
        assert_eq!(
            table.maintain(&list),
            [Maintenance::Reset(flow(1).matches), delete(2), delete(4)]
        );
        assert_eq!(table.len(), 2, "the third was deleted by another program");
        assert!(table.flows.contains_key(&flow(2).matches), "it stays until it is deleted");
    }

    #[test]
    fn only_flows_that_differ_are_changed() {
        let mut table = FlowTable::default();
        for number in [1, 2, 3] {
            table.put(&flow(number));
        }
        let replaced = vec![Action::Output(PortNumber(9))];
        let changes = table.changes(|matches, _| match matches.ethernet.key().source[5] {
            1 => Some(flow(1).actions),
            2 => Some(replaced.clone()),
            _ => None,
        });
        assert_eq!(changes, [(flow(2).matches, Some(replaced)), (flow(3).matches, None)]);
    }

    #[test]
    fn random_addresses_do_not_exceed_the_limit() {
        let mut table = FlowTable::default();
        let number = |n: usize| {
            let mut flow = flow(0);
            let mut ethernet = flow.matches.ethernet.key();
            ethernet.destination[2..].copy_from_slice(&u32::try_from(n).unwrap().to_be_bytes());
            flow.matches.ethernet = Masked::exact(ethernet);
            flow
        };
        for n in 0..2 * MAX_FLOWS {
            let flow = number(n);
            if table.has_room_for(&flow.matches) {
                table.put(&flow);
            }
        }
        assert_eq!(table.len(), MAX_FLOWS);
        assert!(table.has_room_for(&number(0).matches), "an existing flow needs no room");
        // None of them has seen a second packet.
        let list: Vec<_> =
            (0..MAX_FLOWS).map(|n| DumpedFlow { flow: number(n), ..dumped(0, None) }).collect();
        let deletes = |step: &Maintenance| matches!(step, Maintenance::Delete(_));
        assert_eq!(table.maintain(&list).iter().filter(|step| deletes(step)).count(), MAX_FLOWS);
    }
}
