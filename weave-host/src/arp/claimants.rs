//! Who answers for addresses. A station that answers for every address would keep all others from
//! getting one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use weave_core::wire::MacAddress;

/// Addresses that a station may say are its own, of those it is asked about in [`MEMORY`].
const MAX_ADDRESSES: usize = 4;
/// How long an answer counts.
const MEMORY: Duration = Duration::from_secs(10 * 60);
/// Stations that are remembered. Whoever makes up more has answered with each of them.
const MAX_STATIONS: usize = 256;

/// The answers of late, to tell a station that has an address from one that says so of each.
#[derive(Clone, Debug, Default)]
pub struct Claimants(BTreeMap<MacAddress, Station>);

#[derive(Clone, Debug, Default)]
struct Station {
    /// The addresses it was believed to have, and when it said so.
    addresses: BTreeMap<Ipv4Addr, Instant>,
    /// The log says that it is not believed: one line, however many answers it sends.
    is_reported: bool,
}

impl Claimants {
    /// Whether to believe a station that an address is its own: not if it said that of four others.
    pub fn believes(&mut self, now: Instant, station: MacAddress, address: Ipv4Addr) -> bool {
        self.0.retain(|_, Station { addresses, .. }| {
            addresses.retain(|_, told| now.saturating_duration_since(*told) < MEMORY);
            !addresses.is_empty()
        });
        if self.0.len() >= MAX_STATIONS && !self.0.contains_key(&station) {
            return true;
        }
        let Station { addresses, is_reported } = self.0.entry(station).or_default();
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&address) {
            if !std::mem::replace(is_reported, true) {
                tracing::warn!(
                    "{station} answers for {address} as for {MAX_ADDRESSES} other addresses: it is \
                     not believed; `weave ps` shows which container it is"
                );
            }
            return false;
        }
        addresses.insert(address, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIAR: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    fn address(host: u8) -> Ipv4Addr {
        [10, 32, 0, host].into()
    }

    #[test]
    fn who_answers_for_everything_is_not_believed() {
        let (mut claimants, now) = (Claimants::default(), Instant::now());
        let believed = (1..100).filter(|host| claimants.believes(now, LIAR, address(*host)));
        assert_eq!(believed.collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(claimants.believes(now, LIAR, address(2)), "what it said before may be right");
        let other = MacAddress([2, 0, 0, 0, 0, 2]);
        assert!(claimants.believes(now, other, address(50)), "others are believed");
        assert!(claimants.believes(now + MEMORY, LIAR, address(50)), "it may have changed");
    }

    #[test]
    fn made_up_stations_take_no_memory() {
        let (mut claimants, now) = (Claimants::default(), Instant::now());
        for number in 0..10_000_u16 {
            let [high, low] = number.to_be_bytes();
            claimants.believes(now, MacAddress([2, 0, 0, 0, high, low]), address(1));
        }
        assert_eq!(claimants.0.len(), MAX_STATIONS);
    }
}
