//! Whose addresses are, whatever liars say: an owner alone disposes of what it has.

use std::collections::BTreeMap;

use weave_core::mesh::PeerName;

use crate::ipam::{self, Tenants};

/// Follows each address from honest owner to honest owner.
#[derive(Default)]
pub struct Truth {
    /// The owner of each address as long as that is honest; none once a liar had it.
    owners: BTreeMap<u32, Option<PeerName>>,
}

impl Truth {
    /// Looks at what honest owners say of what they own.
    pub fn look(&mut self, honest: &BTreeMap<PeerName, &Tenants>) {
        if self.owners.is_empty() {
            self.begin(honest);
        }
        for (address, owner) in &mut self.owners {
            // Nobody is asked twice: two that each name the other one do so for a moment.
            for _ in 0..honest.len() {
                let Some(tenants) = owner.and_then(|owner| honest.get(&owner)) else { break };
                // One that is down says nothing.
                let Some(named) = tenants.owner(*address).filter(|named| Some(*named) != *owner)
                else {
                    break;
                };
                *owner = Some(named).filter(|named| honest.contains_key(named));
            }
        }
    }

    /// The first division.
    fn begin(&mut self, honest: &BTreeMap<PeerName, &Tenants>) {
        if !honest.values().all(|tenants| tenants.is_divided()) {
            return;
        }
        let first = honest.values().next();
        let owners = ipam::addresses().map(|address| {
            let owner = first.and_then(|tenants| tenants.owner(address));
            (address, owner.filter(|owner| honest.contains_key(owner)))
        });
        self.owners = owners.collect();
    }

    /// Whether an address has been with honest owners all the time. Of one that a liar was given it
    /// can tell two routers that each of them has it now: each hears it from the owner, and neither
    /// can know what the other one heard before it is told.
    pub fn is_honest(&self, address: u32) -> bool {
        self.owners.get(&address).is_some_and(Option::is_some)
    }
}
