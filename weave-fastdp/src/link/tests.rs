use super::*;
use crate::ipsec::IpsecError;

const UID: ConnectionUid = ConnectionUid(77);

fn at(milliseconds: u64) -> Instant {
    Instant::since_origin(Duration::from_millis(milliseconds))
}

/// Two links and the path between them in virtual time. Control messages always get through.
struct Pair {
    links: [LinkMachine; 2],
    now: u64,
    /// The largest frame that gets through from each link.
    widths: [u16; 2],
    /// Whether a link serves neither timers nor frames.
    frozen: [bool; 2],
    /// The events of both links but control messages, each with its time and its link.
    events: Vec<(u64, usize, LinkEvent)>,
    sent: [u32; 2],
    waiting: [Vec<Arrived>; 2],
}

enum Arrived {
    Frame(Vec<u8>),
    Control(u8, Vec<u8>),
}

impl Pair {
    fn new(reporting: bool) -> Self {
        let mut links = [(); 2].map(|()| LinkMachine::new(UID, 1376, reporting));
        for link in &mut links {
            link.confirm(at(0));
        }
        Self {
            links,
            now: 0,
            widths: [u16::MAX; 2],
            frozen: [false; 2],
            events: Vec::new(),
            sent: [0; 2],
            waiting: Default::default(),
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            let due = self.links.iter().filter_map(LinkMachine::poll_timeout).min();
            let due = due.map_or(end, |due| u64::try_from(due.elapsed().as_millis()).unwrap());
            let idle = self.waiting.iter().all(Vec::is_empty) && self.frozen == [false; 2];
            self.now = if idle { due.clamp(self.now + 1, end) } else { self.now + 1 };
            for side in 0..2 {
                self.turn(side);
            }
        }
    }

    fn turn(&mut self, side: usize) {
        if self.frozen[side] {
            return;
        }
        let now = at(self.now);
        if self.links[side].poll_timeout().is_some_and(|due| due <= now) {
            self.links[side].handle_timeout(now);
        }
        for arrived in std::mem::take(&mut self.waiting[side]) {
            match arrived {
                Arrived::Frame(frame) => self.links[side].handle_special(now, &frame).unwrap(),
                Arrived::Control(message, data) => {
                    self.links[side].handle_control(now, message, &data);
                }
            }
        }
        let other = 1 - side;
        while let Some(transmit) = self.links[side].poll_transmit() {
            let mut frame = Vec::new();
            match transmit {
                Transmit::Heartbeat { length } => heartbeat::heartbeat(UID, length, &mut frame),
                Transmit::Probe => heartbeat::probe(UID, &mut frame),
            }
            self.sent[side] += 1;
            if frame.len() <= usize::from(self.widths[side]) {
                self.waiting[other].push(Arrived::Frame(frame));
            }
        }
        while let Some(event) = self.links[side].poll_event() {
            match event {
                LinkEvent::Control { message, data } => {
                    self.waiting[other].push(Arrived::Control(message, data));
                }
                event => self.events.push((self.now, side, event)),
            }
        }
    }

    fn carry(&self) -> [bool; 2] {
        [0, 1].map(|side| self.links[side].may_offload())
    }

    /// Returns the changes of health with their times and links.
    fn health(&self) -> Vec<(u64, usize, bool)> {
        let healthy = |(time, side, event): &(u64, usize, LinkEvent)| match event {
            LinkEvent::Healthy(healthy) => Some((*time, *side, *healthy)),
            _ => None,
        };
        self.events.iter().filter_map(healthy).collect()
    }
}

#[test]
fn links_are_established_at_once() {
    for reporting in [false, true] {
        let mut pair = Pair::new(reporting);
        pair.run_until(30);
        assert_eq!(pair.carry(), [true; 2]);
        assert_eq!(pair.links[0].mtu(), Some(1376));
        assert_eq!(pair.links[0].problem(), None);
        let established = pair.events.iter().filter(|e| e.2 == LinkEvent::Established).count();
        assert_eq!((established, pair.events.len()), (2, 2));
    }
}

#[test]
fn heartbeats_are_as_often_as_specified() {
    let mut pair = Pair::new(false);
    pair.widths = [0; 2];
    pair.run_until(59_900);
    // 20, 40, 80, 160 and 320 ms, then two a second.
    assert!((120..=125).contains(&pair.sent[0]), "{:?}", pair.sent);
    let mut pair = Pair::new(false);
    pair.run_until(60_000);
    assert!((6..=8).contains(&pair.sent[0]), "{:?}", pair.sent);
}

#[test]
fn with_weave_net_a_minute_of_silence_counts_and_the_first_heartbeat_ends_it() {
    let mut pair = Pair::new(false);
    pair.run_until(20_000);
    pair.widths = [0; 2];
    pair.run_until(90_000);
    assert_eq!(pair.carry(), [false; 2]);
    assert!(pair.health().iter().all(|(at, _, _)| (70_000..=80_100).contains(at)));
    assert!(pair.links[0].problem().is_some());
    pair.widths = [u16::MAX; 2];
    pair.run_until(95_100);
    assert_eq!(pair.carry(), [true; 2], "{:?}", pair.events);
    assert_eq!(pair.links[0].problem(), None);
}

#[test]
fn a_blocked_path_is_left_within_a_second_and_taken_again() {
    let mut pair = Pair::new(true);
    for round in 0_u64..20 {
        let start = pair.now;
        pair.run_until(start + 3_000 + 37 * round);
        assert_eq!(pair.carry(), [true; 2]);
        pair.widths = [0; 2];
        let blocked = pair.now;
        pair.run_until(blocked + 1_000);
        assert_eq!(pair.carry(), [false; 2], "{:?}", pair.events);
        pair.run_until(blocked + 30_000);
        assert_eq!(pair.carry(), [false; 2]);
        pair.widths = [u16::MAX; 2];
        pair.run_until(blocked + 30_300);
        assert_eq!(pair.carry(), [true; 2], "{:?}", pair.events);
    }
    assert_eq!(pair.health().len(), 80, "once down and up for each, each time");
}

#[test]
fn after_a_long_time_it_still_comes_back() {
    for reporting in [false, true] {
        let mut pair = Pair::new(reporting);
        pair.widths = [0; 2];
        pair.run_until(3_600_000);
        assert_eq!(pair.carry(), [false; 2]);
        assert!(pair.sent[0] < 2_000, "{:?}", pair.sent);
        pair.widths = [u16::MAX; 2];
        pair.run_until(3_605_600);
        assert_eq!(pair.carry(), [true; 2], "{reporting} {:?}", pair.events);
    }
}

#[test]
fn only_the_side_whose_frames_do_not_arrive_stops() {
    let mut pair = Pair::new(true);
    pair.run_until(5_000);
    pair.widths[0] = 0;
    pair.run_until(6_000);
    assert_eq!(pair.carry(), [false, true]);
    assert!(pair.links[0].problem().unwrap().contains("nothing arrives there"));
    // The silence is too long for a statement about the other direction.
    pair.run_until(66_000);
    assert_eq!(pair.carry(), [false, false]);
}

#[test]
fn a_path_mtu_that_is_too_small_is_reported() {
    let mut pair = Pair::new(true);
    pair.widths = [1389; 2];
    pair.run_until(3_000);
    assert_eq!((pair.carry(), pair.links[0].mtu()), ([false; 2], None));
    let problem = pair.links[0].problem().unwrap();
    assert!(problem.contains("packets of 1376 bytes do not get through, small ones do"));
    assert!(problem.contains("1426 bytes"), "{problem}");
    pair.widths = [1390; 2];
    pair.run_until(4_000);
    assert_eq!((pair.carry(), pair.links[0].problem()), ([true; 2], None));
    // It becomes too small while the link is in use.
    pair.widths = [1389; 2];
    pair.run_until(8_000);
    assert_eq!(pair.carry(), [false; 2]);
    assert!(pair.links[1].problem().unwrap().contains("small ones do"));
}

#[test]
fn a_stalled_router_is_not_a_broken_path() {
    let mut pair = Pair::new(true);
    pair.run_until(5_000);
    pair.frozen[1] = true;
    pair.run_until(50_000);
    assert_eq!(pair.carry(), [true; 2], "the kernel continues");
    pair.frozen[1] = false;
    pair.run_until(52_000);
    assert_eq!(pair.carry(), [true; 2]);
    // Frozen again and for too long.
    pair.frozen[1] = true;
    pair.run_until(112_100);
    assert_eq!(pair.carry(), [false, true]);
    pair.frozen[1] = false;
    pair.run_until(113_000);
    assert_eq!(pair.carry(), [true; 2], "{:?}", pair.events);
}

#[test]
fn malformed_messages_and_heartbeats_change_nothing() {
    let mut link = LinkMachine::new(UID, 1376, true);
    link.handle_control(at(0), ACKNOWLEDGED, &[]);
    assert_eq!((link.poll_event(), link.poll_timeout()), (None, None), "passive");
    link.confirm(at(0));
    for (message, data) in [
        (RECEIVE_STATUS, vec![3]),
        (RECEIVE_STATUS, vec![]),
        (SECURITY_ASSOCIATION, vec![0; 64]),
        (9, vec![]),
    ] {
        link.handle_control(at(1), message, &data);
    }
    assert!(link.handle_special(at(1), &[0; 30]).is_err());
    assert_eq!((link.poll_event(), link.may_offload()), (None, false));
    link.fail(&IpsecError::ThreadEnded.into());
    link.fail(&IpsecError::NoRandomness.into());
    let report =
        LinkEvent::Control { message: RECEIVE_STATUS, data: vec![ReceiveStatus::Nothing.encode()] };
    assert_eq!(link.poll_event(), Some(report), "the neighbour need not find out");
    assert_eq!(
        link.poll_event(),
        Some(LinkEvent::Failed("the thread for IPsec has ended".to_owned()))
    );
    assert_eq!((link.poll_event(), link.poll_timeout()), (None, None));
}
