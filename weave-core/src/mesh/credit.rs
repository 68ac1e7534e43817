//! How much of the router's time a connection gets.
//!
//! A message of a few bytes can ask for all records of a large mesh, so bytes are no measure of
//! work. Each message has a price instead, in time that it takes on an ordinary processor, and each
//! connection has credit that comes back with time. A price is an estimate: what matters is that no
//! connection gets more than its share many times over.

use std::time::Duration;

use crate::time::Instant;

/// A connection has one part in so many of one processor. Neighbours of a busy mesh of hundreds
/// use a hundredth.
const SHARE: u32 = 8;
/// What it can use at once after a quiet time: some thousand messages.
const BURST: i64 = 50_000_000;
/// Used up, it goes on only when there is so much again, so that it does not begin with each
/// message.
const RESUMPTION: i64 = 5_000_000;
/// The longest message takes its time and is then forgiven: nobody has to wait for longer than
/// this and [`RESUMPTION`], times [`SHARE`], which is far below the time after which a peer is
/// taken for dead.
const MAX_DEBT: i64 = 250_000_000;

/// The credit of one connection, in nanoseconds.
#[derive(Debug)]
pub(super) struct Credit {
    balance: i64,
    counted_at: Instant,
}

impl Credit {
    pub(super) const fn new(now: Instant) -> Self {
        Self { balance: BURST, counted_at: now }
    }

    /// Whether there is any left.
    pub(super) fn is_left(&mut self, now: Instant) -> bool {
        let earned = now.saturating_since(self.counted_at) / SHARE;
        let earned = i64::try_from(earned.as_nanos()).unwrap_or(BURST);
        self.counted_at = self.counted_at.max(now);
        self.balance = self.balance.saturating_add(earned).min(BURST);
        self.balance > 0
    }

    pub(super) fn spend(&mut self, price: Duration) {
        let price = i64::try_from(price.as_nanos()).unwrap_or(MAX_DEBT);
        self.balance = self.balance.saturating_sub(price).max(-MAX_DEBT);
    }

    /// When to go on, if there is none left.
    pub(super) fn returns_at(&self) -> Instant {
        let lacking = u64::try_from(RESUMPTION.saturating_sub(self.balance)).unwrap_or(0);
        self.counted_at + Duration::from_nanos(lacking) * SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::since_origin(Duration::from_millis(millis))
    }

    #[test]
    fn over_time_a_connection_has_its_share_and_no_more() {
        let price = Duration::from_micros(700);
        let mut credit = Credit::new(at(0));
        let (mut now, mut used) = (at(0), Duration::ZERO);
        while now < at(10_000) {
            if credit.is_left(now) {
                credit.spend(price);
                used += price;
            } else {
                now = credit.returns_at();
                assert!(credit.is_left(now), "it has come back by then");
            }
        }
        let share = Duration::from_secs(10) / SHARE;
        assert!(used > share && used < share + Duration::from_millis(60), "{used:?}");
    }

    #[test]
    fn no_debt_takes_longer_than_some_seconds() {
        let mut credit = Credit::new(at(0));
        credit.spend(Duration::from_secs(3600));
        assert!(!credit.is_left(at(1)));
        assert!(credit.returns_at() < at(2500));
        assert!(credit.is_left(credit.returns_at()));
    }

    #[test]
    fn a_quiet_hour_gives_no_more_than_a_burst() {
        let mut credit = Credit::new(at(0));
        assert!(credit.is_left(at(3_600_000)));
        credit.spend(Duration::from_millis(50));
        assert!(!credit.is_left(at(3_600_000)));
    }
}
