//! Whether trains of datagrams arrive (docs/protocol.md, "Counts").
//!
//! Some kernels, network cards and hypervisors damage the datagrams of a train, where each of them
//! alone would pass. No version number tells which. So the neighbour is asked now and then how many
//! datagrams it has opened, and that is compared with what was sent by then:
//!
//! ```text
//!           > 25 % of them lost, twice           less than half as much lost
//!   used ──────────────────────────────▶ on trial ──────────────────────────▶ off, 1 min to 1 h
//!    ▲ ▲                                  │    ▲                                   │
//!    │ └─────────── lost as much ─────────┘    └──── > 25 % lost, once ───────┐    │
//!    └────────────────────────────── ≤ 25 % lost ──────────────────────────  retried
//! ```
//!
//! Congestion and lossy networks lose as much without trains: then trains are used again, and not
//! suspected for ten minutes. The time without them doubles with each attempt that fails.
//!
//! Only what was opened counts: on a sealed link forged datagrams change nothing. A neighbour that
//! lies makes us slower, at most.

use std::time::Duration;

use weave_core::time::Instant;

/// How often the neighbour is asked.
const CALM: Duration = Duration::from_secs(5);
/// The same while trains are on trial or retried, when what is lost is dear.
const TENSE: Duration = Duration::from_secs(2);
/// Datagrams that an interval must have to be judged; it goes on until it has. Of 64 datagrams more
/// than a quarter is lost less than once in 10^7 times on a network that loses 5 %.
const ENOUGH: u64 = 64;
/// Much loss: more than so many of a hundred datagrams that were sent in trains.
const MUCH: u64 = 25;
/// And at least so many of a hundred of all datagrams. Else a few trains among much other traffic
/// would be blamed for its losses.
const NOTABLE: u64 = 5;
/// Intervals with much loss, one after the other, that trains are suspected after.
const STRIKES: u32 = 2;
/// How long trains are left off, at first and at most.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
/// How long trains are not suspected after a trial that found nothing.
const ACQUITTED: Duration = Duration::from_secs(600);

/// What this side has counted of a link so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Datagrams sent, but for those of the link itself.
    pub sent: u64,
    /// Those of them that went with others in one train.
    pub in_trains: u64,
    /// Datagrams received that opened, but for those of the link itself.
    pub opened: u64,
    /// Datagrams received that did not open.
    pub unopened: u64,
}

/// What the neighbour has counted when a question reached it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// Of the question.
    pub(crate) number: u64,
    /// See [`Counts::opened`].
    pub(crate) opened: u64,
    /// See [`Counts::unopened`].
    pub(crate) unopened: u64,
}

/// Trains are used, or not, from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrainChange {
    /// They do not arrive.
    Off {
        /// How many of a hundred are lost.
        lost: u64,
        /// How many of a hundred lost ones arrived, but did not open.
        damaged: u64,
        /// For how long, unless it turns out not to help.
        time: Duration,
    },
    /// The time is over.
    Retried,
    /// They do not arrive alone either.
    Acquitted {
        /// How many of a hundred are lost without trains.
        lost: u64,
    },
}

/// The state of one link.
#[derive(Debug)]
pub(crate) struct TrainHealth {
    state: State,
    /// Where the interval began that is judged next.
    start: Option<Point>,
    /// The last question, if there is no answer yet: its number, and the counts at that time.
    asked: Option<(u64, Counts)>,
    number: u64,
    ask_at: Option<Instant>,
    /// How long trains are left off next time.
    time: Duration,
    /// No suspicion before.
    acquitted_until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Used {
        strikes: u32,
    },
    /// Used again after a conviction, until they are found to arrive.
    Retried,
    /// On trial until it is `convicted`.
    Off {
        before: Loss,
        until: Instant,
        convicted: bool,
    },
}

/// The counts of both sides at one point of the stream of datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Point {
    sent: u64,
    in_trains: u64,
    opened: u64,
    unopened: u64,
}

/// What was lost in an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Loss {
    sent: u64,
    in_trains: u64,
    lost: u64,
    damaged: u64,
}

impl TrainHealth {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Used { strikes: 0 },
            start: None,
            asked: None,
            number: 0,
            ask_at: None,
            time: SHORTEST,
            acquitted_until: Instant::ORIGIN,
        }
    }

    /// The neighbour receives: it may be asked.
    pub(crate) fn start(&mut self, now: Instant) {
        self.ask_at.get_or_insert(now);
    }

    /// Whether datagrams may go in trains.
    pub(crate) const fn uses_trains(&self) -> bool {
        !matches!(self.state, State::Off { .. })
    }

    /// How many of a hundred datagrams of trains were lost, while none are used.
    pub(crate) fn loss(&self) -> Option<u64> {
        match self.state {
            State::Used { .. } | State::Retried => None,
            State::Off { before, .. } => Some(before.of_trains()),
        }
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let until = match self.state {
            State::Used { .. } | State::Retried => None,
            State::Off { until, .. } => Some(until),
        };
        [self.ask_at, until].into_iter().flatten().min()
    }

    /// The time of [`Self::poll_timeout`] may have come. Returns the number of a question to be
    /// asked behind all datagrams that were sent so far.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        counts: &Counts,
    ) -> (Option<u64>, Option<TrainChange>) {
        let mut change = None;
        if let State::Off { until, convicted, .. } = self.state
            && until <= now
        {
            // If nothing was sent, nothing was found out: they are not worse than before.
            let state = if convicted { State::Retried } else { State::Used { strikes: 0 } };
            self.switch(now, state);
            change = Some(TrainChange::Retried);
        }
        if self.ask_at.is_none_or(|at| at > now) {
            return (None, change);
        }
        self.ask_at = Some(now + if self.is_tense() { TENSE } else { CALM });
        if !self.start.is_none_or(|start| self.is_enough(start, counts)) {
            return (None, change);
        }
        self.number += 1;
        self.asked = Some((self.number, *counts));
        (Some(self.number), change)
    }

    /// The neighbour answers.
    pub(crate) fn handle_answer(&mut self, now: Instant, answer: Answer) -> Option<TrainChange> {
        // A late answer to an earlier question says nothing about what was sent since.
        let (_, counts) = self.asked.take_if(|(number, _)| *number == answer.number)?;
        let Answer { opened, unopened, .. } = answer;
        let end = Point { sent: counts.sent, in_trains: counts.in_trains, opened, unopened };
        let loss = Loss::between(self.start.replace(end)?, end);
        match self.state {
            State::Used { strikes } => self.judge(now, strikes + 1, loss),
            State::Retried => self.judge(now, STRIKES, loss),
            State::Off { before, until, convicted: false } => {
                self.try_without(now, before, until, loss)
            }
            State::Off { convicted: true, .. } => None,
        }
    }

    /// An interval with trains is over; if much was lost, it was the one with the number `strikes`
    /// in a row.
    fn judge(&mut self, now: Instant, strikes: u32, loss: Loss) -> Option<TrainChange> {
        if !loss.is_much() {
            self.state = State::Used { strikes: 0 };
            self.time = SHORTEST;
            return None;
        }
        if now < self.acquitted_until {
            return None;
        }
        if strikes < STRIKES {
            self.state = State::Used { strikes };
            return None;
        }
        let time = self.time;
        self.switch(now, State::Off { before: loss, until: now + time, convicted: false });
        Some(TrainChange::Off { lost: loss.of_trains(), damaged: loss.damaged(), time })
    }

    /// The first interval without trains is over.
    fn try_without(
        &mut self,
        now: Instant,
        before: Loss,
        until: Instant,
        loss: Loss,
    ) -> Option<TrainChange> {
        if 2 * loss.of_all() < before.of_all() {
            self.state = State::Off { before, until, convicted: true };
            self.time = (self.time * 2).min(LONGEST);
            return None;
        }
        self.acquitted_until = now + ACQUITTED;
        self.time = SHORTEST;
        self.switch(now, State::Used { strikes: 0 });
        Some(TrainChange::Acquitted { lost: loss.of_all() })
    }

    /// From here on datagrams travel in another way: what is under way is not judged.
    fn switch(&mut self, now: Instant, state: State) {
        self.state = state;
        self.start = None;
        self.asked = None;
        self.ask_at = Some(now);
    }

    const fn is_tense(&self) -> bool {
        match self.state {
            State::Used { .. } => false,
            State::Retried => true,
            State::Off { convicted, .. } => !convicted,
        }
    }

    /// Whether the answer to a question would be judged.
    fn is_enough(&self, start: Point, counts: &Counts) -> bool {
        let sent = match self.state {
            State::Used { .. } | State::Retried => counts.in_trains.saturating_sub(start.in_trains),
            State::Off { convicted: false, .. } => counts.sent.saturating_sub(start.sent),
            State::Off { convicted: true, .. } => 0,
        };
        sent >= ENOUGH
    }
}

impl Loss {
    fn between(start: Point, end: Point) -> Self {
        let sent = end.sent.saturating_sub(start.sent);
        let opened = end.opened.saturating_sub(start.opened);
        Self {
            sent,
            in_trains: end.in_trains.saturating_sub(start.in_trains),
            lost: sent.saturating_sub(opened),
            damaged: end.unopened.saturating_sub(start.unopened),
        }
    }

    /// In a hundred of all datagrams.
    fn of_all(&self) -> u64 {
        percent(self.lost, self.sent)
    }

    /// In a hundred of those in trains, if they alone were lost.
    fn of_trains(&self) -> u64 {
        percent(self.lost, self.in_trains)
    }

    /// In a hundred of the lost ones.
    fn damaged(&self) -> u64 {
        percent(self.damaged, self.lost)
    }

    fn is_much(&self) -> bool {
        self.of_trains() > MUCH && self.of_all() >= NOTABLE
    }
}

/// Up to a hundred.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part.min(whole)) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).expect("at most a hundred")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A link on a network that loses so many of a hundred datagrams.
    struct Bench {
        health: TrainHealth,
        now: Instant,
        counts: Counts,
        opened: u64,
        in_trains: u64,
        alone: u64,
    }

    impl Bench {
        fn new(in_trains: u64, alone: u64) -> Self {
            let mut health = TrainHealth::new();
            health.start(Instant::ORIGIN);
            let counts = Counts::default();
            Self { health, now: Instant::ORIGIN, counts, opened: 0, in_trains, alone }
        }

        /// Sends a thousand datagrams a second, half of them in trains while these are used, and
        /// returns what changed.
        fn run(&mut self, seconds: u64) -> Vec<(u64, TrainChange)> {
            let end = self.now + Duration::from_secs(seconds);
            let mut changes = Vec::new();
            while self.now < end {
                let in_trains = if self.health.uses_trains() { 500 } else { 0 };
                self.send(in_trains, 1000 - in_trains);
                self.now += Duration::from_secs(1);
                if self.health.poll_timeout().is_some_and(|at| at <= self.now) {
                    let (asked, change) = self.health.handle_timeout(self.now, &self.counts);
                    let answer = asked.and_then(|number| self.answer(number));
                    let change = change.into_iter().chain(answer);
                    changes.extend(change.map(|change| (self.now.elapsed().as_secs(), change)));
                }
                assert!(self.health.poll_timeout().is_some_and(|at| at > self.now - TENSE));
            }
            changes
        }

        fn send(&mut self, in_trains: u64, alone: u64) {
            self.counts.sent += in_trains + alone;
            self.counts.in_trains += in_trains;
            self.opened += in_trains * (100 - self.in_trains) / 100;
            self.opened += alone * (100 - self.alone) / 100;
        }

        fn answer(&mut self, number: u64) -> Option<TrainChange> {
            if self.alone == 100 {
                return None;
            }
            let unopened = self.counts.sent - self.opened;
            let answer = Answer { number, opened: self.opened, unopened };
            self.health.handle_answer(self.now, answer)
        }
    }

    fn off(seconds: u64) -> TrainChange {
        let time = Duration::from_secs(seconds);
        TrainChange::Off { lost: 100, damaged: 100, time }
    }

    #[test]
    fn trains_that_do_not_arrive_are_left_off_for_longer_and_longer() {
        let mut bench = Bench::new(100, 0);
        let changes = bench.run(5000);
        let offs = changes.iter().filter(|(_, change)| *change != TrainChange::Retried);
        let offs: Vec<_> = offs.map(|(_, change)| *change).collect();
        assert_eq!(offs, [60, 120, 240, 480, 960, 1920, 3600].map(off)[..offs.len()]);
        assert!(offs.len() >= 6, "{changes:?}");
        // Each attempt is over soon.
        for pair in changes.windows(2) {
            if let [(from, TrainChange::Retried), (to, _)] = pair {
                assert!(to - from <= 5, "{changes:?}");
            }
        }
    }

    #[test]
    fn a_path_that_was_repaired_is_noticed() {
        let mut bench = Bench::new(90, 0);
        assert_eq!(bench.run(30).len(), 1);
        assert_eq!(bench.health.loss(), Some(90));
        bench.in_trains = 0;
        assert_eq!(
            bench.run(80).into_iter().map(|(_, it)| it).collect::<Vec<_>>(),
            [TrainChange::Retried]
        );
        assert_eq!(bench.health.loss(), None);
        // And forgotten: another time is a first time.
        bench.in_trains = 100;
        assert!(bench.run(20).iter().any(|(_, change)| *change == off(60)));
    }

    #[test]
    fn congestion_is_not_blamed_on_trains() {
        let mut bench = Bench::new(40, 40);
        let changes = bench.run(600);
        let Some((_, TrainChange::Off { .. })) = changes.first() else { panic!("{changes:?}") };
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!(changes[1].1, TrainChange::Acquitted { lost: 40 });
        assert!(changes[1].0 - changes[0].0 <= 5, "{changes:?}");
        assert!(bench.health.uses_trains());
    }

    #[test]
    fn ordinary_loss_is_no_cause() {
        for (in_trains, alone) in [(0, 0), (5, 5), (25, 0), (0, 4)] {
            assert!(Bench::new(in_trains, alone).run(600).is_empty(), "{in_trains} {alone}");
        }
    }

    #[test]
    fn an_outage_is_no_cause() {
        let mut bench = Bench::new(0, 0);
        for seconds in 1..40 {
            // Questions are lost too, so that it lies in one interval as a whole.
            (bench.in_trains, bench.alone) = (100, 100);
            assert!(bench.run(seconds).is_empty(), "{seconds}");
            (bench.in_trains, bench.alone) = (0, 0);
            assert!(bench.run(17).is_empty(), "{seconds}");
        }
    }

    #[test]
    fn a_link_that_sends_little_is_not_asked() {
        let mut bench = Bench::new(100, 0);
        let mut asked = Vec::new();
        for _ in 0..40 {
            bench.send(3, 100);
            bench.now += CALM;
            let (number, _) = bench.health.handle_timeout(bench.now, &bench.counts);
            asked.extend(number);
            number.and_then(|number| bench.answer(number));
        }
        // At the beginning, and whenever 64 have gone in trains.
        assert_eq!(asked, [1, 2]);
    }

    #[test]
    fn an_answer_to_an_earlier_question_says_nothing() {
        let mut bench = Bench::new(0, 0);
        for round in 1..20 {
            bench.send(1000, 0);
            bench.now += CALM;
            let (number, _) = bench.health.handle_timeout(bench.now, &bench.counts);
            assert_eq!(number, Some(round));
            // None of it has arrived yet.
            let late = Answer { number: round - 1, opened: 0, unopened: 0 };
            assert_eq!(bench.health.handle_answer(bench.now, late), None);
        }
        assert_eq!(bench.health.start, None);
        assert!(bench.answer(19).is_none() && bench.health.start.is_some());
    }

    #[test]
    fn without_traffic_trains_come_back_without_suspicion() {
        let mut bench = Bench::new(100, 0);
        let mut changes = Vec::new();
        while changes.is_empty() {
            changes = bench.run(1);
        }
        bench.now += SHORTEST;
        let (_, change) = bench.health.handle_timeout(bench.now, &bench.counts);
        assert_eq!(change, Some(TrainChange::Retried));
        assert_eq!(bench.health.state, State::Used { strikes: 0 });
        assert_eq!(bench.health.time, SHORTEST);
    }

    proptest! {
        #[test]
        fn whatever_the_neighbour_says_trains_come_back(
            answers in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 1..200),
        ) {
            let mut bench = Bench::new(0, 0);
            for (opened, unopened, grows) in answers {
                bench.counts.sent = bench.counts.sent.wrapping_add(if grows { 1000 } else { opened });
                bench.counts.in_trains = bench.counts.sent / 2;
                bench.now = bench.health.poll_timeout().unwrap_or(bench.now).max(bench.now);
                let (number, _) = bench.health.handle_timeout(bench.now, &bench.counts);
                let number = number.unwrap_or(unopened);
                bench.health.handle_answer(bench.now, Answer { number, opened, unopened });
                prop_assert!(bench.health.loss().is_none_or(|lost| lost <= 100));
            }
            bench.now += LONGEST;
            bench.health.handle_timeout(bench.now, &bench.counts);
            prop_assert!(bench.health.uses_trains());
        }
    }
}
