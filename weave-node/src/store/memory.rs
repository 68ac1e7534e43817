//! A store that is gone with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weave_core::mesh::PeerName;
use weave_ipam::Range;
use weave_ipam::allocator::{Stored, Update};
use weave_ipam::message::{Holding, decode_ring};

use super::{StateError, Store};

/// A state in memory, for tests and for nodes whose addresses mean nothing after they ended.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    peer_name: Option<PeerName>,
    direct_peers: Option<Vec<String>>,
    exposed: Vec<(String, bool)>,
    /// Whose allocator uses the store, and for which range.
    current: Option<(PeerName, String)>,
    allocators: BTreeMap<(PeerName, String), Allocator>,
}

/// What one allocator stored, in its own encoding.
#[derive(Debug, Default)]
struct Allocator {
    ring: Option<Vec<u8>>,
    holdings: BTreeMap<String, Vec<u8>>,
}

impl MemoryStore {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn fault(&self) -> Option<String> {
        None
    }

    fn peer_name(&self) -> Result<Option<PeerName>, StateError> {
        Ok(self.lock().peer_name)
    }

    fn set_peer_name(&self, name: PeerName) -> Result<(), StateError> {
        self.lock().peer_name = Some(name);
        Ok(())
    }

    fn direct_peers(&self) -> Result<Option<Vec<String>>, StateError> {
        Ok(self.lock().direct_peers.clone())
    }

    fn set_direct_peers(&self, peers: &[String]) -> Result<(), StateError> {
        self.lock().direct_peers = Some(peers.to_vec());
        Ok(())
    }

    fn exposed(&self) -> Result<Vec<(String, bool)>, StateError> {
        Ok(self.lock().exposed.clone())
    }

    fn set_exposed(&self, exposed: &[(String, bool)]) -> Result<(), StateError> {
        self.lock().exposed = exposed.to_vec();
        Ok(())
    }

    fn ipam(&self, name: PeerName, range: Range) -> Result<Stored, StateError> {
        let mut memory = self.lock();
        let key = (name, range.to_string());
        memory.current = Some(key.clone());
        let damaged = |error: &dyn ToString| StateError::value("ipam", &error.to_string());
        let allocator = memory.allocators.entry(key).or_default();
        let ring = allocator.ring.as_deref().map(decode_ring).transpose();
        let holdings = allocator.holdings.iter().map(|(holder, bytes)| {
            let holding = Holding::decode(bytes).map_err(|error| damaged(&error))?;
            Ok((holder.clone(), holding))
        });
        Ok(Stored {
            ring: ring.map_err(|error| damaged(&error))?,
            holdings: holdings.collect::<Result<_, StateError>>()?,
        })
    }

    fn update_ipam(&self, update: &Update) -> Result<(), StateError> {
        let mut memory = self.lock();
        let Some(key) = memory.current.clone() else {
            return Err(StateError::Closed("nobody began to use it".to_owned()));
        };
        let allocator = memory.allocators.entry(key).or_default();
        if update.clear {
            *allocator = Allocator::default();
        }
        if let Some(ring) = &update.ring {
            allocator.ring = Some(ring.clone());
        }
        for (holder, holding) in &update.holdings {
            match holding {
                Some(holding) => allocator.holdings.insert(holder.clone(), holding.clone()),
                None => allocator.holdings.remove(holder),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_and_range_has_what_it_stored() {
        let store = MemoryStore::new();
        let name = PeerName::from_u64(1).unwrap();
        let ranges = ["10.32.0.0/12", "10.48.0.0/12"];
        let [range, other] =
            ranges.map(|range| range.parse::<weave_ipam::Subnet>().unwrap().range());
        assert!(store.update_ipam(&Update::default()).is_err(), "whose is it?");
        assert_eq!(store.ipam(name, range).unwrap(), Stored::default());
        let holding = {
            let cidrs = vec!["10.32.0.1/12".parse().unwrap()];
            Holding { cidrs, ..Holding::default() }.encode()
        };
        let holdings = [("a".to_owned(), Some(holding))].into();
        store.update_ipam(&Update { holdings, ..Update::default() }).unwrap();
        assert_eq!(store.ipam(name, other).unwrap(), Stored::default());
        assert!(store.ipam(name, range).unwrap().holdings.contains_key("a"));
        let holdings = [("a".to_owned(), None)].into();
        store.update_ipam(&Update { holdings, ..Update::default() }).unwrap();
        assert_eq!(store.ipam(name, range).unwrap(), Stored::default());
    }
}
