use proptest::prelude::*;

use super::*;

/// A link on a network that loses a percentage of batches and of single datagrams.
struct TestLink {
    health: GsoHealth,
    now: Instant,
    counts: Counts,
    opened: u64,
    in_batches: u64,
    alone: u64,
}

impl TestLink {
    fn new(in_batches: u64, alone: u64) -> Self {
        let mut health = GsoHealth::new();
        health.start(Instant::ORIGIN);
        let counts = Counts::default();
        Self { health, now: Instant::ORIGIN, counts, opened: 0, in_batches, alone }
    }

    /// Sends a thousand datagrams a second, half of them in batches while these are used, and
    /// returns all changes.
    fn run(&mut self, seconds: u64) -> Vec<(u64, GsoChange)> {
        let end = self.now + Duration::from_secs(seconds);
        let mut changes = Vec::new();
        while self.now < end {
            let in_batches = if self.health.uses_gso() { 500 } else { 0 };
            self.send(in_batches, 1000 - in_batches);
            self.now += Duration::from_secs(1);
            if self.health.poll_timeout().is_some_and(|at| at <= self.now) {
                let (request, change) = self.health.handle_timeout(self.now, &self.counts);
                let answer = request.and_then(|number| self.answer(number));
                let change = change.into_iter().chain(answer);
                changes.extend(change.map(|change| (self.now.elapsed().as_secs(), change)));
            }
            assert!(self.health.poll_timeout().is_some_and(|at| at > self.now - TRIAL_INTERVAL));
        }
        changes
    }

    fn send(&mut self, in_batches: u64, alone: u64) {
        self.counts.sent += in_batches + alone;
        self.counts.in_batches += in_batches;
        self.opened += in_batches * (100 - self.in_batches) / 100;
        self.opened += alone * (100 - self.alone) / 100;
    }

    fn answer(&mut self, number: u64) -> Option<GsoChange> {
        if self.alone == 100 {
            return None;
        }
        let unopened = self.counts.sent - self.opened;
        let answer = CountsReply { number, opened: self.opened, unopened };
        self.health.handle_answer(self.now, answer)
    }
}

fn off(seconds: u64) -> GsoChange {
    let backoff = Duration::from_secs(seconds);
    GsoChange::Disabled { lost: 100, damaged: 100, backoff }
}

#[test]
fn gso_backs_off_exponentially_while_batches_are_lost() {
    let mut link = TestLink::new(100, 0);
    let changes = link.run(5000);
    let offs = changes.iter().filter(|(_, change)| *change != GsoChange::Retried);
    let offs: Vec<_> = offs.map(|(_, change)| *change).collect();
    assert_eq!(offs, [60, 120, 240, 480, 960, 1920, 3600].map(off)[..offs.len()]);
    assert!(offs.len() >= 6, "{changes:?}");
    // Each attempt ends soon.
    for pair in changes.windows(2) {
        if let [(from, GsoChange::Retried), (to, _)] = pair {
            assert!(to - from <= 5, "{changes:?}");
        }
    }
}

#[test]
fn a_repaired_path_is_noticed() {
    let mut link = TestLink::new(90, 0);
    assert_eq!(link.run(30).len(), 1);
    assert_eq!(link.health.loss(), Some(90));
    link.in_batches = 0;
    assert_eq!(
        link.run(80).into_iter().map(|(_, it)| it).collect::<Vec<_>>(),
        [GsoChange::Retried]
    );
    assert_eq!(link.health.loss(), None);
    // The earlier suspicion is forgotten: the backoff starts over.
    link.in_batches = 100;
    assert!(link.run(20).iter().any(|(_, change)| *change == off(60)));
}

#[test]
fn congestion_is_not_blamed_on_gso() {
    let mut link = TestLink::new(40, 40);
    let changes = link.run(600);
    let Some((_, GsoChange::Disabled { .. })) = changes.first() else { panic!("{changes:?}") };
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(changes[1].1, GsoChange::Cleared { lost: 40 });
    assert!(changes[1].0 - changes[0].0 <= 5, "{changes:?}");
    assert!(link.health.uses_gso());
}

#[test]
fn ordinary_loss_does_not_disable_gso() {
    for (in_batches, alone) in [(0, 0), (5, 5), (25, 0), (0, 4)] {
        assert!(TestLink::new(in_batches, alone).run(600).is_empty(), "{in_batches} {alone}");
    }
}

#[test]
fn an_outage_does_not_disable_gso() {
    let mut link = TestLink::new(0, 0);
    for seconds in 1..40 {
        // Requests are lost too, so that the outage lies within one interval.
        (link.in_batches, link.alone) = (100, 100);
        assert!(link.run(seconds).is_empty(), "{seconds}");
        (link.in_batches, link.alone) = (0, 0);
        assert!(link.run(17).is_empty(), "{seconds}");
    }
}

#[test]
fn a_link_that_sends_little_gets_no_requests() {
    let mut link = TestLink::new(100, 0);
    let mut request = Vec::new();
    for _ in 0..40 {
        link.send(3, 100);
        link.now += INTERVAL;
        let (number, _) = link.health.handle_timeout(link.now, &link.counts);
        request.extend(number);
        number.and_then(|number| link.answer(number));
    }
    // At the beginning, and whenever 64 datagrams were sent in batches.
    assert_eq!(request, [1, 2]);
}

#[test]
fn replies_to_earlier_requests_are_ignored() {
    let mut link = TestLink::new(0, 0);
    for round in 1..20 {
        link.send(1000, 0);
        link.now += INTERVAL;
        let (number, _) = link.health.handle_timeout(link.now, &link.counts);
        assert_eq!(number, Some(round));
        // Nothing of it has arrived yet.
        let late = CountsReply { number: round - 1, opened: 0, unopened: 0 };
        assert_eq!(link.health.handle_answer(link.now, late), None);
    }
    assert_eq!(link.health.start, None);
    assert!(link.answer(19).is_none() && link.health.start.is_some());
}

#[test]
fn gso_is_enabled_again_after_a_trial_without_traffic() {
    let mut link = TestLink::new(100, 0);
    let mut changes = Vec::new();
    while changes.is_empty() {
        changes = link.run(1);
    }
    link.now += MIN_BACKOFF;
    let (_, change) = link.health.handle_timeout(link.now, &link.counts);
    assert_eq!(change, Some(GsoChange::Retried));
    assert_eq!(link.health.state, State::Enabled { bad_intervals: 0 });
    assert_eq!(link.health.backoff, MIN_BACKOFF);
}

proptest! {
    #[test]
    fn gso_is_enabled_again_whatever_the_neighbour_replies(
        answers in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 1..200),
    ) {
        let mut link = TestLink::new(0, 0);
        for (opened, unopened, grows) in answers {
            link.counts.sent = link.counts.sent.wrapping_add(if grows { 1000 } else { opened });
            link.counts.in_batches = link.counts.sent / 2;
            link.now = link.health.poll_timeout().unwrap_or(link.now).max(link.now);
            let (number, _) = link.health.handle_timeout(link.now, &link.counts);
            let number = number.unwrap_or(unopened);
            link.health.handle_answer(link.now, CountsReply { number, opened, unopened });
            prop_assert!(link.health.loss().is_none_or(|lost| lost <= 100));
        }
        link.now += MAX_BACKOFF;
        link.health.handle_timeout(link.now, &link.counts);
        prop_assert!(link.health.uses_gso());
    }
}
