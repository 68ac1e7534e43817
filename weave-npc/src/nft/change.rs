//! From one state of the table to another, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use weave_firewall::nftables::{self, Batch, Verdict};

use super::table::{class, full_set, isolated, missing, own_addresses, pairs};
use super::{TABLE, map, own};
use crate::block::Family;
use crate::compile::Ruleset;
use crate::object::Direction;

/// Returns what makes the table of one ruleset that of another.
///
/// In this order, so that nothing refers to what is not there: new sets and chains, the way to
/// them, then what nothing leads to any more. The kernel takes it as a whole or not at all.
pub fn change(old: &Ruleset, new: &Ruleset) -> Batch {
    let mut batch = Batch::new(nftables::Family::Inet, TABLE);
    for (name, set) in &new.sets {
        batch = match old.sets.get(name) {
            None => batch.add_set(full_set(name, set)),
            Some(before) if Arc::ptr_eq(before, set) || before == set => batch,
            Some(before) => batch
                .delete_elements(name, missing(before, set))
                .add_elements(name, missing(set, before)),
        };
    }
    for (name, chain) in &new.chains {
        // A chain is named by its content: one that is there is the same.
        if !old.chains.contains_key(name) {
            batch = batch.replace_chain(class(name, chain));
        }
    }
    let (own_before, own_after) = (own_addresses(old), own_addresses(new));
    for family in Family::ALL {
        let (before, after) = (pairs(family, &own_before), pairs(family, &own_after));
        batch = changed(
            batch,
            |batch| {
                batch
                    .delete_elements(own(family), before.difference(&after).cloned())
                    .add_elements(own(family), after.difference(&before).cloned())
            },
            before != after,
        );
        for direction in Direction::ALL {
            let before: BTreeMap<_, _> = isolated(old, direction, family).collect();
            let after: BTreeMap<_, _> = isolated(new, direction, family).collect();
            let gone = before.iter().filter(|(address, chain)| after.get(address) != Some(chain));
            let gone: Vec<_> = gone.map(|(address, _)| address.to_string()).collect();
            let come = after.iter().filter(|(address, chain)| before.get(address) != Some(chain));
            let come: Vec<_> = come
                .map(|(address, chain)| (address.to_string(), Verdict::Jump((*chain).to_owned())))
                .collect();
            let map = map(direction, family);
            let differs = !gone.is_empty() || !come.is_empty();
            batch = changed(
                batch,
                |batch| batch.delete_elements(map, gone).add_to_map(map, come),
                differs,
            );
        }
    }
    for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
        batch = batch.delete_chain(name);
    }
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
        batch = batch.delete_set(name);
    }
    batch
}

/// Adds steps only where something differs, so that a batch without changes is empty.
fn changed(batch: Batch, steps: impl FnOnce(Batch) -> Batch, differs: bool) -> Batch {
    if differs { steps(batch) } else { batch }
}
