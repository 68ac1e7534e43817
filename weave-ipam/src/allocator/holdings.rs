//! Who has which addresses here.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::Holding;
use crate::{Cidr, Label};

/// Stands for holders that are not known by a name. Each address of theirs is filed under its own
/// text.
pub(super) const NOBODY: &str = "_";

/// Largest number of labels that wait for their holders to get an address.
const MAX_COMING: usize = 1024;

/// The addresses in use here, by holder.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    by_holder: BTreeMap<String, Holding>,
    by_address: BTreeMap<u32, String>,
    /// Labels of those that have nothing yet.
    coming: BTreeMap<String, Label>,
    /// Those that changed since they were last stored.
    changed: BTreeSet<String>,
}

impl Holdings {
    pub(super) fn get(&self, holder: &str) -> Option<&Holding> {
        self.by_holder.get(holder)
    }

    pub(super) fn holder_of(&self, address: u32) -> Option<&str> {
        self.by_address.get(&address).map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Holding)> {
        self.by_holder.iter()
    }

    pub(super) fn add(&mut self, holder: &str, cidr: Cidr, is_container: bool) {
        let holder = if holder == NOBODY { cidr.address().to_string() } else { holder.to_owned() };
        let holding = self.by_holder.entry(holder.clone()).or_default();
        holding.is_container = is_container;
        if let Some(label) = self.coming.remove(&holder) {
            holding.label = Some(label);
        }
        holding.cidrs.push(cidr);
        self.by_address.insert(cidr.address().to_bits(), holder.clone());
        self.changed.insert(holder);
    }

    /// Notes what a holder is to those who run it, also before it gets an address.
    pub(super) fn describe(&mut self, holder: &str, label: Label) {
        match self.by_holder.get_mut(holder) {
            Some(holding) if holding.label.as_ref() == Some(&label) => {}
            Some(holding) => {
                holding.label = Some(label);
                self.changed.insert(holder.to_owned());
            }
            None => {
                if self.coming.len() >= MAX_COMING {
                    self.coming.pop_first();
                }
                self.coming.insert(holder.to_owned(), label);
            }
        }
    }

    /// Puts back what was stored.
    pub(super) fn restore(&mut self, holder: String, holding: Holding) {
        for cidr in &holding.cidrs {
            self.by_address.insert(cidr.address().to_bits(), holder.clone());
        }
        self.by_holder.insert(holder, holding);
    }

    pub(super) fn remove_all(&mut self, holder: &str) -> Vec<Cidr> {
        self.coming.remove(holder);
        let cidrs = self.by_holder.remove(holder).map(|holding| holding.cidrs).unwrap_or_default();
        for cidr in &cidrs {
            self.by_address.remove(&cidr.address().to_bits());
        }
        if !cidrs.is_empty() {
            self.changed.insert(holder.to_owned());
        }
        cidrs
    }

    pub(super) fn remove(&mut self, holder: &str, address: u32) -> bool {
        if self.holder_of(address) != Some(holder) {
            return false;
        }
        self.by_address.remove(&address);
        if let Some(holding) = self.by_holder.get_mut(holder) {
            holding.cidrs.retain(|cidr| cidr.address().to_bits() != address);
            if holding.cidrs.is_empty() {
                self.by_holder.remove(holder);
            }
        }
        self.changed.insert(holder.to_owned());
        true
    }

    pub(super) fn clear(&mut self) {
        let holders: Vec<String> = self.by_holder.keys().cloned().collect();
        for holder in holders {
            self.remove_all(&holder);
        }
    }

    /// Those that changed since this was last called; none for those that have nothing any more.
    pub(super) fn take_changed(&mut self) -> BTreeMap<String, Option<Holding>> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .map(|holder| {
                let holding = self.by_holder.get(&holder).cloned();
                (holder, holding)
            })
            .collect()
    }
}
