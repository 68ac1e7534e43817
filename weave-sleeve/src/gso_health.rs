//! Detects paths that damage GSO batches (docs/protocol.md, "Counts").
//!
//! Some kernels, network cards and hypervisors damage datagrams that are sent as a batch
//! (`UDP_SEGMENT`), where each of them alone would pass. No version number tells which. So the
//! neighbour is regularly asked how many datagrams it has opened, and the answer is compared with
//! the number sent by then:
//!
//! ```text
//!           > 25 % of them lost, twice           less than half as much lost
//!   enabled ───────────────────────────▶ on trial ──────────────────────────▶ off, 1 min to 1 h
//!    ▲ ▲                                  │    ▲                                   │
//!    │ └─────────── lost as much ─────────┘    └──── > 25 % lost, once ───────┐    │
//!    └────────────────────────────── ≤ 25 % lost ──────────────────────────  retried
//! ```
//!
//! Congestion and lossy networks lose as much without batches: then batches are used again, and not
//! suspected for ten minutes. The time without them doubles with each failed attempt.
//!
//! Only opened datagrams count: on a sealed link forged datagrams change nothing. A lying neighbour
//! can only slow down its own link.

use std::time::Duration;

use weave_core::time::Instant;

/// Interval between requests for the neighbour's counts.
const INTERVAL: Duration = Duration::from_secs(5);
/// The same during a trial or a retry, when losses are expensive.
const TRIAL_INTERVAL: Duration = Duration::from_secs(2);
/// Datagrams that an interval needs to be judged; it is extended until it has them. On a network
/// that loses 5 %, the chance to lose more than a quarter of 64 datagrams is below 10^-7.
const MIN_SAMPLE: u64 = 64;
/// Percentage of the datagrams sent in batches above which a loss is high.
const HIGH_LOSS: u64 = 25;
/// Percentage of all datagrams that has to be lost as well. Otherwise a few batches among much
/// other traffic would be blamed for its losses.
const MIN_TOTAL_LOSS: u64 = 5;
/// Consecutive intervals with high loss after which batches are suspected.
const SUSPECT_AFTER: u32 = 2;
/// Time without batches, at first and at most.
const MIN_BACKOFF: Duration = Duration::from_secs(60);
const MAX_BACKOFF: Duration = Duration::from_secs(3600);
/// Time without suspicion after a trial that cleared batches.
const GRACE_PERIOD: Duration = Duration::from_secs(600);

/// The counts of a link on this side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Datagrams sent, except those with special frames.
    pub sent: u64,
    /// Those of them that shared a batch with others.
    pub in_batches: u64,
    /// Received datagrams that opened, except those with special frames.
    pub opened: u64,
    /// Received datagrams that did not open.
    pub unopened: u64,
}

/// The counts of the neighbour when a request reached it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CountsReply {
    /// Number of the request.
    pub(crate) number: u64,
    /// See [`Counts::opened`].
    pub(crate) opened: u64,
    /// See [`Counts::unopened`].
    pub(crate) unopened: u64,
}

/// A change of whether datagrams are sent in batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoChange {
    /// Batches do not arrive.
    Disabled {
        /// Percentage of lost datagrams.
        lost: u64,
        /// Percentage of the lost datagrams that arrived but did not open.
        damaged: u64,
        /// Time without batches, unless the trial clears them.
        backoff: Duration,
    },
    /// The time without batches is over.
    Retried,
    /// Single datagrams do not arrive either.
    Cleared {
        /// Percentage of datagrams lost without batches.
        lost: u64,
    },
}

/// The state of one link.
#[derive(Debug)]
pub(crate) struct GsoHealth {
    state: State,
    /// Start of the interval that is judged next.
    start: Option<Snapshot>,
    /// Number of the last unanswered request, and the counts when it was sent.
    request: Option<(u64, Counts)>,
    number: u64,
    ask_at: Option<Instant>,
    /// Next time without batches.
    backoff: Duration,
    /// Batches are not suspected before.
    trusted_until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Enabled {
        bad_intervals: u32,
    },
    /// Enabled again after a confirmed suspicion, until batches are found to arrive.
    Retried,
    /// On trial until `confirmed`.
    Disabled {
        before: Loss,
        until: Instant,
        confirmed: bool,
    },
}

/// The counts of both sides at one point in the stream of datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Snapshot {
    sent: u64,
    in_batches: u64,
    opened: u64,
    unopened: u64,
}

/// The losses of an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Loss {
    sent: u64,
    in_batches: u64,
    lost: u64,
    damaged: u64,
}

impl GsoHealth {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Enabled { bad_intervals: 0 },
            start: None,
            request: None,
            number: 0,
            ask_at: None,
            backoff: MIN_BACKOFF,
            trusted_until: Instant::ORIGIN,
        }
    }

    /// Starts requests: the neighbour receives.
    pub(crate) fn start(&mut self, now: Instant) {
        self.ask_at.get_or_insert(now);
    }

    /// Returns whether datagrams may be sent in batches.
    pub(crate) const fn uses_gso(&self) -> bool {
        !matches!(self.state, State::Disabled { .. })
    }

    /// Returns the percentage of datagrams that were lost in batches, while none are used.
    pub(crate) fn loss(&self) -> Option<u64> {
        match self.state {
            State::Enabled { .. } | State::Retried => None,
            State::Disabled { before, .. } => Some(before.of_batches()),
        }
    }

    /// Returns when [`Self::handle_timeout`] is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let until = match self.state {
            State::Enabled { .. } | State::Retried => None,
            State::Disabled { until, .. } => Some(until),
        };
        [self.ask_at, until].into_iter().flatten().min()
    }

    /// Handles the time of [`Self::poll_timeout`]. Returns the number of a request to be sent after
    /// all datagrams sent so far.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        counts: &Counts,
    ) -> (Option<u64>, Option<GsoChange>) {
        let mut change = None;
        if let State::Disabled { until, confirmed, .. } = self.state
            && until <= now
        {
            // If nothing was sent, nothing was found out: batches are no worse than before.
            let state =
                if confirmed { State::Retried } else { State::Enabled { bad_intervals: 0 } };
            self.switch(now, state);
            change = Some(GsoChange::Retried);
        }
        if self.ask_at.is_none_or(|at| at > now) {
            return (None, change);
        }
        self.ask_at = Some(now + if self.is_on_trial() { TRIAL_INTERVAL } else { INTERVAL });
        if !self.start.is_none_or(|start| self.is_large_enough(start, counts)) {
            return (None, change);
        }
        self.number += 1;
        self.request = Some((self.number, *counts));
        (Some(self.number), change)
    }

    /// Handles the neighbour's reply.
    pub(crate) fn handle_answer(&mut self, now: Instant, answer: CountsReply) -> Option<GsoChange> {
        // A late reply to an earlier request says nothing about what was sent since.
        let (_, counts) = self.request.take_if(|(number, _)| *number == answer.number)?;
        let CountsReply { opened, unopened, .. } = answer;
        let end = Snapshot { sent: counts.sent, in_batches: counts.in_batches, opened, unopened };
        let loss = Loss::between(self.start.replace(end)?, end);
        match self.state {
            State::Enabled { bad_intervals } => self.judge(now, bad_intervals + 1, loss),
            State::Retried => self.judge(now, SUSPECT_AFTER, loss),
            State::Disabled { before, until, confirmed: false } => {
                self.judge_trial(now, before, until, loss)
            }
            State::Disabled { confirmed: true, .. } => None,
        }
    }

    /// Judges an interval with batches. If its loss is high, it is consecutive interval number
    /// `bad_intervals`.
    fn judge(&mut self, now: Instant, bad_intervals: u32, loss: Loss) -> Option<GsoChange> {
        if !loss.is_high() {
            self.state = State::Enabled { bad_intervals: 0 };
            self.backoff = MIN_BACKOFF;
            return None;
        }
        if now < self.trusted_until {
            return None;
        }
        if bad_intervals < SUSPECT_AFTER {
            self.state = State::Enabled { bad_intervals };
            return None;
        }
        let backoff = self.backoff;
        self.switch(now, State::Disabled { before: loss, until: now + backoff, confirmed: false });
        Some(GsoChange::Disabled { lost: loss.of_batches(), damaged: loss.damaged(), backoff })
    }

    /// Judges the first interval without batches.
    fn judge_trial(
        &mut self,
        now: Instant,
        before: Loss,
        until: Instant,
        loss: Loss,
    ) -> Option<GsoChange> {
        if 2 * loss.of_all() < before.of_all() {
            self.state = State::Disabled { before, until, confirmed: true };
            self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
            return None;
        }
        self.trusted_until = now + GRACE_PERIOD;
        self.backoff = MIN_BACKOFF;
        self.switch(now, State::Enabled { bad_intervals: 0 });
        Some(GsoChange::Cleared { lost: loss.of_all() })
    }

    /// Switches to another state. Datagrams under way are not judged.
    fn switch(&mut self, now: Instant, state: State) {
        self.state = state;
        self.start = None;
        self.request = None;
        self.ask_at = Some(now);
    }

    const fn is_on_trial(&self) -> bool {
        match self.state {
            State::Enabled { .. } => false,
            State::Retried => true,
            State::Disabled { confirmed, .. } => !confirmed,
        }
    }

    /// Returns whether the reply to a request would be judged.
    fn is_large_enough(&self, start: Snapshot, counts: &Counts) -> bool {
        let sent = match self.state {
            State::Enabled { .. } | State::Retried => {
                counts.in_batches.saturating_sub(start.in_batches)
            }
            State::Disabled { confirmed: false, .. } => counts.sent.saturating_sub(start.sent),
            State::Disabled { confirmed: true, .. } => 0,
        };
        sent >= MIN_SAMPLE
    }
}

impl Loss {
    fn between(start: Snapshot, end: Snapshot) -> Self {
        let sent = end.sent.saturating_sub(start.sent);
        let opened = end.opened.saturating_sub(start.opened);
        Self {
            sent,
            in_batches: end.in_batches.saturating_sub(start.in_batches),
            lost: sent.saturating_sub(opened),
            damaged: end.unopened.saturating_sub(start.unopened),
        }
    }

    /// Returns the percentage of all datagrams.
    fn of_all(&self) -> u64 {
        percent(self.lost, self.sent)
    }

    /// Returns the percentage of those in batches, if only they were lost.
    fn of_batches(&self) -> u64 {
        percent(self.lost, self.in_batches)
    }

    /// Returns the percentage of the lost datagrams that arrived damaged.
    fn damaged(&self) -> u64 {
        percent(self.damaged, self.lost)
    }

    fn is_high(&self) -> bool {
        self.of_batches() > HIGH_LOSS && self.of_all() >= MIN_TOTAL_LOSS
    }
}

/// Returns a percentage of at most a hundred.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part.min(whole)) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).expect("at most a hundred")
}

#[cfg(test)]
mod tests;
