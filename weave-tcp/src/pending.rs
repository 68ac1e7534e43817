//! TCP connections that were accepted and have not shown a token yet.
//!
//! Only the addresses of neighbours are let in at all. Somebody who shares one of them can still
//! open connections and say nothing; the oldest of that address then has to go.

use std::net::IpAddr;

/// Connections of one address that wait at most: an honest neighbour has one.
const MAX_PER_SOURCE: usize = 4;
/// Connections that wait at most.
const MAX_TOTAL: usize = 256;

/// Returns which connection to close before one of `source` is let in. `waiting` is in the order
/// of arrival.
pub(crate) fn victim<K: Copy>(waiting: &[(K, IpAddr)], source: IpAddr) -> Option<K> {
    let of = |source: IpAddr| waiting.iter().filter(move |(_, other)| *other == source);
    if of(source).count() >= MAX_PER_SOURCE {
        return of(source).map(|(key, _)| *key).next();
    }
    if waiting.len() < MAX_TOTAL {
        return None;
    }
    let most = waiting.iter().map(|(_, source)| of(*source).count()).max()?;
    waiting.iter().find(|(_, source)| of(*source).count() == most).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, host])
    }

    #[test]
    fn a_flood_from_one_address_replaces_itself() {
        let mut waiting = vec![(0, address(1))];
        for key in 1..100 {
            if let Some(gone) = victim(&waiting, address(2)) {
                waiting.retain(|(key, _)| *key != gone);
            }
            waiting.push((key, address(2)));
        }
        assert_eq!(waiting.len(), 1 + MAX_PER_SOURCE);
        assert_eq!(waiting[0], (0, address(1)));
        assert_eq!(waiting[1].0, 100 - MAX_PER_SOURCE, "the oldest goes");
    }

    #[test]
    fn the_address_with_most_makes_room_for_others() {
        let mut waiting: Vec<_> = (0..MAX_TOTAL - 2)
            .map(|key| (key, IpAddr::from([10, 1, 0, u8::try_from(key).unwrap()])))
            .collect();
        assert_eq!(victim(&waiting, address(1)), None);
        waiting.extend([(1000, address(1)), (1001, address(1))]);
        assert_eq!(victim(&waiting, address(2)), Some(1000));
    }
}
