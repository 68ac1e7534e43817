//! Lines that one peer can bring about by the thousand: some are written, the rest is counted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::mesh::{Event as Mesh, PeerName};
use crate::router::Event;
use crate::time::Instant;

/// From one sum to the next.
const INTERVAL: Duration = Duration::from_secs(60);
/// Lines of one kind that are written in that time.
const BURST: u64 = 30;
/// Kinds of lines that are told apart: more than a few, since neighbours are.
const MAX_KINDS: usize = 256;

/// How many lines of each kind there were of late.
#[derive(Debug, Default)]
pub(super) struct Repeats(BTreeMap<Kind, Repeated>);

/// Lines that are counted together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    PeerRemoved,
    DialFailed,
    NameCollision,
    ShortIdTaken,
    /// Transports of the connection to one neighbour come and go; with none, those to all others.
    Overlay(Option<PeerName>),
}

/// Lines of one kind since the first one.
#[derive(Clone, Copy, Debug)]
struct Repeated {
    since: Instant,
    written: u64,
    untold: u64,
}

impl Repeats {
    /// Whether a line is to be written.
    pub(super) fn admit(&mut self, now: Instant, event: &Event) -> bool {
        let Some(mut kind) = Kind::of(event) else { return true };
        if self.0.len() >= MAX_KINDS && !self.0.contains_key(&kind) {
            self.0.retain(|_, repeated| !repeated.is_over(now));
            if self.0.len() >= MAX_KINDS {
                kind = kind.of_all();
            }
        }
        let new = Repeated { since: now, written: 0, untold: 0 };
        let repeated = self.0.entry(kind).or_insert(new);
        if repeated.is_over(now) {
            *repeated = new;
        }
        let admits = repeated.written < BURST;
        *(if admits { &mut repeated.written } else { &mut repeated.untold }) += 1;
        admits
    }

    /// When [`Self::sum_up`] is wanted next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let untold = self.0.values().filter(|repeated| repeated.untold > 0);
        untold.map(|repeated| repeated.since + INTERVAL).min()
    }

    /// The sums that are due, one line each.
    pub(super) fn sum_up(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, repeated) in &mut self.0 {
            if repeated.untold > 0 && now >= repeated.since + INTERVAL {
                let seconds = now.saturating_since(repeated.since).as_secs();
                lines.push(format!("{} more {kind} in {seconds} s", repeated.untold));
                // While it goes on, one line a minute is enough.
                *repeated = Repeated { since: now, written: BURST, untold: 0 };
            }
        }
        lines
    }
}

impl Repeated {
    fn is_over(&self, now: Instant) -> bool {
        self.untold == 0 && now.saturating_since(self.since) >= INTERVAL
    }
}

impl Kind {
    /// None for what is counted elsewhere, or rare whatever others do.
    fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Mesh(Mesh::PeerRemoved { .. }) => Some(Self::PeerRemoved),
            Event::Mesh(Mesh::ConnectionEnded { peer: None, .. }) => Some(Self::DialFailed),
            Event::Mesh(Mesh::NameCollision(_)) => Some(Self::NameCollision),
            Event::Mesh(Mesh::ShortIdReassigned { .. }) => Some(Self::ShortIdTaken),
            Event::OverlayInUse { peer, .. } | Event::OverlayLost { peer, .. } => {
                Some(Self::Overlay(Some(*peer)))
            }
            _ => None,
        }
    }

    /// The kind for those that are too many to be told apart.
    const fn of_all(self) -> Self {
        match self {
            Self::Overlay(_) => Self::Overlay(None),
            other => other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerRemoved => "peers were removed that cannot be reached any more",
            Self::DialFailed => "attempts to connect failed",
            Self::NameCollision => "name collisions were found",
            Self::ShortIdTaken => "short ids were taken by others",
            Self::Overlay(_) => "changes of the transport in use",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(seconds))
    }

    fn removed(number: u64) -> Event {
        let peer = PeerName::from_u64(number).unwrap();
        Event::Mesh(Mesh::PeerRemoved { peer, nickname: "x".repeat(1000) })
    }

    #[test]
    fn a_thousand_peers_that_leave_are_some_lines_and_a_number() {
        let mut repeats = Repeats::default();
        let mut lines = |from: u64, seconds| {
            (from..from + 1000).filter(|n| repeats.admit(at(seconds), &removed(*n))).count()
        };
        assert_eq!(lines(1, 1), 30);
        assert_eq!(lines(1001, 2), 0);
        assert_eq!(repeats.poll_timeout(), Some(at(61)));
        let sum = "1970 more peers were removed that cannot be reached any more in 60 s";
        assert_eq!(repeats.sum_up(at(61)), [sum]);
        assert_eq!(repeats.poll_timeout(), None);
        assert!(!repeats.admit(at(62), &removed(1)), "it goes on: the number is enough");
        assert_eq!(repeats.sum_up(at(121)).len(), 1);
        assert!(repeats.admit(at(200), &removed(1)), "after a minute of rest");
    }

    #[test]
    fn neighbours_are_told_apart_and_bounded() {
        let mut repeats = Repeats::default();
        let lost = |number: u64| Event::OverlayLost {
            id: crate::mesh::ConnectionId(1),
            peer: PeerName::from_u64(number).unwrap(),
            nickname: String::new(),
            name: "sleeve",
            reason: String::new(),
        };
        assert_eq!((0..1000).filter(|_| repeats.admit(at(1), &lost(1))).count(), 30);
        assert!(repeats.admit(at(1), &lost(2)), "another neighbour");
        for number in 0..10_000 {
            repeats.admit(at(2), &lost(number));
        }
        assert!(repeats.0.len() <= MAX_KINDS + 1);
    }
}
