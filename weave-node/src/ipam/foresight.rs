//! What was asked on the switch ahead of the allocator: containers often come in numbers, and the
//! next one should not wait for an answer that could be there.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Addresses that are asked about ahead: the allocator takes them in order.
const AHEAD: u32 = 8;
/// How long an answer counts. Peers may come with containers of which nobody knew.
const FRESH: Duration = Duration::from_secs(5);

/// Answers that nobody has asked for yet.
#[derive(Default)]
pub(super) struct Foresight {
    answers: BTreeMap<Ipv4Addr, (bool, Instant)>,
}

impl Foresight {
    /// Takes the answer for an address, whether it is in use, if there is one.
    pub(super) fn take(&mut self, now: Instant, address: Ipv4Addr) -> Option<bool> {
        self.answers.retain(|_, (_, told)| now.saturating_duration_since(*told) < FRESH);
        self.answers.remove(&address).map(|(in_use, _)| in_use)
    }

    /// Remembers an answer.
    pub(super) fn remember(&mut self, now: Instant, address: Ipv4Addr, in_use: bool) {
        self.answers.insert(address, (in_use, now));
    }

    /// Returns the addresses to ask about, when the allocator asks about this one.
    pub(super) fn after(&self, address: Ipv4Addr) -> Vec<Ipv4Addr> {
        let next = (1..=AHEAD).filter_map(|step| address.to_bits().checked_add(step));
        next.map(Ipv4Addr::from_bits).filter(|next| !self.answers.contains_key(next)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8) -> Ipv4Addr {
        [10, 32, 0, host].into()
    }

    #[test]
    fn an_answer_counts_once_and_not_for_long() {
        let (mut foresight, now) = (Foresight::default(), Instant::now());
        foresight.remember(now, address(2), false);
        foresight.remember(now, address(3), true);
        foresight.remember(now, address(4), false);
        assert_eq!(foresight.take(now, address(2)), Some(false));
        assert_eq!(foresight.take(now, address(2)), None, "it may have been given out");
        assert_eq!(foresight.take(now, address(3)), Some(true));
        assert_eq!(foresight.take(now + FRESH, address(4)), None);
        assert!(foresight.answers.is_empty(), "what is old takes no memory");
    }

    #[test]
    fn what_is_known_is_not_asked_again() {
        let (mut foresight, now) = (Foresight::default(), Instant::now());
        foresight.remember(now, address(3), false);
        let asked = foresight.after(address(1));
        assert_eq!(asked, [2, 4, 5, 6, 7, 8, 9].map(address));
        assert!(foresight.after(Ipv4Addr::BROADCAST).is_empty());
    }
}
