//! How fast connections are accepted (spec mesh.md, section 2): a token bucket. And in which order,
//! so that whoever opens many does not keep others waiting.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Instant;

/// Connections that can be accepted at once after a quiet time.
const BURST: u32 = 20;
/// Time in which one more may be accepted.
const INTERVAL: Duration = Duration::from_millis(50);

/// A bucket of [`BURST`] tokens that gains one per [`INTERVAL`]. Starts full.
#[derive(Clone, Debug)]
pub(super) struct AcceptLimit {
    tokens: u32,
    /// When `tokens` was right; the fraction of a token earned since lies after it.
    counted_at: Instant,
}

impl AcceptLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, counted_at: now }
    }

    /// When the next connection may be accepted: `now`, or the time of the next token.
    pub(super) fn allowed_at(&mut self, now: Instant) -> Instant {
        self.refill(now);
        if self.tokens > 0 { now } else { self.counted_at + INTERVAL }
    }

    /// A connection was accepted.
    pub(super) fn take(&mut self, now: Instant) {
        self.refill(now);
        self.tokens = self.tokens.saturating_sub(1);
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_since(self.counted_at).as_nanos() / INTERVAL.as_nanos();
        match u32::try_from(earned) {
            Ok(earned) if self.tokens.saturating_add(earned) < BURST => {
                self.tokens += earned;
                self.counted_at += INTERVAL * earned;
            }
            _ => {
                self.tokens = BURST;
                self.counted_at = now;
            }
        }
    }
}

/// Who opens a connection, as far as one can tell before the handshake: an IPv4 address, or the
/// /64 of an IPv6 one, all of which one host may use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Source(IpAddr);

impl Source {
    /// The source of a connection from this address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::since_origin(Duration::from_millis(millis))
    }

    #[test]
    fn twenty_at_once_then_one_each_fifty_milliseconds() {
        let mut limit = AcceptLimit::new(at(0));
        for _ in 0..20 {
            assert_eq!(limit.allowed_at(at(10)), at(10));
            limit.take(at(10));
        }
        let mut now = at(10);
        let mut accepted = Vec::new();
        for _ in 0..4 {
            now = limit.allowed_at(now);
            limit.take(now);
            accepted.push(now.elapsed().as_millis());
        }
        assert_eq!(accepted, [60, 110, 160, 210]);
    }

    #[test]
    fn a_quiet_second_fills_the_bucket_and_no_more() {
        let mut limit = AcceptLimit::new(at(0));
        for _ in 0..20 {
            limit.take(at(0));
        }
        let later = at(3_600_000);
        let burst = (0..100).take_while(|_| {
            let allowed = limit.allowed_at(later) == later;
            limit.take(later);
            allowed
        });
        assert_eq!(burst.count(), 20);
    }

    #[test]
    fn an_ipv6_host_is_one_source_whatever_address_it_makes_up() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3:4:5"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
    }

    #[test]
    fn parts_of_a_token_are_not_lost() {
        let mut limit = AcceptLimit::new(at(0));
        for _ in 0..20 {
            limit.take(at(0));
        }
        assert_eq!(limit.allowed_at(at(30)), at(50));
        assert_eq!(limit.allowed_at(at(49)), at(50));
        assert_eq!(limit.allowed_at(at(50)), at(50));
    }
}
