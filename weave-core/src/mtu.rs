//! Path MTU discovery (spec sleeve.md, section 7).
//!
//! [`PathMtu`] finds the largest IP packet that the overlay can carry to one neighbour in one
//! datagram. It knows two sources: the estimate of the kernel, which comes with the refusal of a
//! datagram that is too big, and test frames, which the neighbour acknowledges over the mesh
//! connection.
//!
//! ```text
//!              refused: estimate < mtu           acknowledged or given up: good + 1 >= bad
//!   unknown ──────────────────────────▶ search ───────────────────────────────▶ settled
//!                                         ▲      check (30 s), look up (10 min)    │
//!                                         └────────────────────────────────────────┘
//! ```
//!
//! A search is a bisection between a size that passes and one that does not, as in Weave Net
//! 2.x. What is new happens once it settled, with the same frames, so that an old neighbour
//! takes part without knowing:
//!
//! * Every [`CHECK_INTERVAL`] a test frame of the current size is sent. If three rounds of eight
//!   stay unanswered, the path drops datagrams that it used to carry, and the search goes down.
//!   (One round, two and a half seconds, may just as well be a busy machine.)
//! * Every [`LOOK_UP_INTERVAL`], and [`LOOK_UP_AFTER_SHRINK`] after the size went down, the
//!   kernel is asked for its estimate again, by sending a frame that no path takes. If the
//!   estimate is above the size in use, the search goes up; the size in use stays until a larger
//!   one is acknowledged.

use std::time::Duration;

use crate::time::Instant;
use crate::wire::ethernet::HEADER_LEN as ETHERNET_HEADER;

/// The overlay MTU before anything is known.
pub const UNKNOWN_MTU: usize = 65_535;

/// The largest UDP payload over IPv4: 65535 - 20 - 8 (RFC 768, RFC 791).
pub const MAX_UDP_PAYLOAD: usize = 65_507;

/// The size that is taken to pass without a test (spec sleeve.md, section 7).
pub const DEFAULT_FLOOR: usize = 552;

/// Every IPv4 link carries this much (RFC 791, section 3.2); nothing below is ever tested. It
/// also keeps test frames apart from heartbeats, which a neighbour tells by their length.
pub const SMALLEST_MTU: usize = 68;

/// How often the size in use is tested.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// How often a larger size is looked for. Linux keeps a path MTU estimate for as long.
pub const LOOK_UP_INTERVAL: Duration = Duration::from_secs(600);

/// How soon a larger size is looked for after the size went down, in case it was a short
/// disturbance.
pub const LOOK_UP_AFTER_SHRINK: Duration = Duration::from_secs(60);

/// Length of the frame that no path is expected to take.
pub const DISCOVERY_FRAME_LEN: usize = 60_000;

/// How often a test frame is sent before its size counts as bad.
const ATTEMPTS: u32 = 8;

/// How many more rounds of attempts the size in use gets before it is doubted.
const CHECK_PATIENCE: u32 = 2;

/// The time allowed for the first answer; each further attempt doubles it.
const FIRST_TIMEOUT: Duration = Duration::from_millis(10);

/// Outer IPv4 and UDP header.
const OUTER_HEADERS: usize = 28;

/// A frame to be sent with "don't fragment" set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// [`DISCOVERY_FRAME_LEN`] zeros, to hear the kernel's estimate from the refusal.
    Discovery,
    /// A test frame of as many zeros, to be acknowledged by the neighbour.
    Test {
        /// Length of the frame: the tested MTU and an Ethernet header.
        frame_len: usize,
    },
}

impl Probe {
    /// How many zeros the frame has.
    pub const fn frame_len(self) -> usize {
        match self {
            Self::Discovery => DISCOVERY_FRAME_LEN,
            Self::Test { frame_len } => frame_len,
        }
    }
}

/// The state of path MTU discovery towards one neighbour.
///
/// Call [`Self::start`] when datagrams are known to pass, and the `handle_*` methods as their
/// events happen; after each, drain [`Self::poll_transmit`], then ask [`Self::poll_timeout`].
#[derive(Clone, Debug)]
pub struct PathMtu {
    overhead: usize,
    floor: usize,
    mtu: usize,
    /// The neighbour acknowledged a test frame of the size in use.
    verified: bool,
    max_payload: usize,
    search: Option<Search>,
    check_at: Option<Instant>,
    look_up_at: Option<Instant>,
    transmit: Option<Probe>,
}

/// A bisection under way.
#[derive(Clone, Copy, Debug)]
struct Search {
    /// Taken to pass.
    good: usize,
    /// It was acknowledged in this search.
    acknowledged: bool,
    /// Taken not to pass.
    bad: usize,
    /// The size being tested.
    candidate: usize,
    /// How often it was sent in this round.
    attempts: u32,
    /// Further rounds before the size counts as bad.
    patience: u32,
    /// When to lose patience.
    due: Instant,
}

impl PathMtu {
    /// Nothing known yet. `overhead` is the difference between the MTU of the path and of the
    /// overlay; `floor` the size that is taken to pass untested, usually [`DEFAULT_FLOOR`].
    pub const fn new(overhead: usize, floor: usize) -> Self {
        Self {
            overhead,
            floor: if floor < SMALLEST_MTU { SMALLEST_MTU } else { floor },
            mtu: UNKNOWN_MTU,
            verified: false,
            max_payload: MAX_UDP_PAYLOAD,
            search: None,
            check_at: None,
            look_up_at: None,
            transmit: None,
        }
    }

    /// The largest IP packet that fits; [`UNKNOWN_MTU`] before discovery.
    pub const fn mtu(&self) -> usize {
        self.mtu
    }

    /// [`Self::mtu`], if the neighbour has acknowledged a test frame of that size: until then it is
    /// what the kernel estimates, or nothing.
    pub fn verified(&self) -> Option<usize> {
        self.verified.then_some(self.mtu)
    }

    /// The largest UDP payload to send with "don't fragment".
    pub const fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Whether [`Self::mtu`] says anything. It stays unknown on a path that takes everything.
    const fn is_known(&self) -> bool {
        self.mtu != UNKNOWN_MTU
    }

    /// The size being tested, and the bounds it lies between.
    #[cfg(test)]
    fn bisection(&self) -> Option<(usize, usize, usize)> {
        self.search.map(|s| (s.candidate, s.good, s.bad))
    }

    /// Datagrams pass: find out how big they may be.
    pub fn start(&mut self, now: Instant) {
        self.look_up(now);
    }

    /// A datagram with "don't fragment" was refused, and the kernel thinks that the path carries
    /// IP packets of `path_mtu` bytes.
    pub fn handle_too_big(&mut self, now: Instant, path_mtu: usize) {
        let estimate = path_mtu.saturating_sub(self.overhead).clamp(SMALLEST_MTU, UNKNOWN_MTU);
        if self.search.is_some_and(|search| estimate >= search.candidate) {
            return;
        }
        if estimate < self.mtu {
            self.mtu = estimate;
            self.verified = false;
            self.max_payload = self.payload_for(estimate);
            self.look_up_at = Some(now + LOOK_UP_AFTER_SHRINK);
            self.test_anew(now, 0);
        } else if estimate == self.mtu {
            self.test_anew(now, CHECK_PATIENCE);
        } else {
            let (good, bad) = (self.mtu, estimate + 1);
            self.send_test(now, Search { candidate: estimate, ..Search::between(now, good, bad) });
        }
    }

    /// The neighbour received a test frame for `mtu`.
    pub fn handle_ack(&mut self, now: Instant, mtu: usize) {
        if let Some(search) = self.search
            && search.candidate == mtu
        {
            self.bisect(now, Search { good: mtu, acknowledged: true, ..search });
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(search) = self.search {
            if now < search.due {
                return;
            }
            if search.attempts < ATTEMPTS {
                self.send_test(now, search);
            } else if search.patience > 0 {
                self.send_test(
                    now,
                    Search { attempts: 0, patience: search.patience - 1, ..search },
                );
            } else {
                self.bisect(now, Search { bad: search.candidate, ..search });
            }
        } else if self.look_up_at.is_some_and(|at| at <= now) {
            self.look_up(now);
        } else if self.check_at.is_some_and(|at| at <= now) {
            self.test_anew(now, CHECK_PATIENCE);
        }
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.search {
            Some(search) => Some(search.due),
            None => [self.look_up_at, self.check_at].into_iter().flatten().min(),
        }
    }

    /// What to send.
    pub fn poll_transmit(&mut self) -> Option<Probe> {
        self.transmit.take()
    }

    /// Asks the kernel. The refusal calls [`Self::handle_too_big`] and so decides what follows.
    fn look_up(&mut self, now: Instant) {
        self.look_up_at = Some(now + LOOK_UP_INTERVAL);
        self.check_at = self.is_known().then_some(now + CHECK_INTERVAL);
        self.transmit = Some(Probe::Discovery);
    }

    /// Tests the size in use; without an answer the search goes on below it.
    fn test_anew(&mut self, now: Instant, patience: u32) {
        let search = Search::between(now, self.floor.min(self.mtu), self.mtu + 1);
        self.send_test(now, Search { candidate: self.mtu, patience, ..search });
    }

    fn bisect(&mut self, now: Instant, search: Search) {
        let Search { good, bad, acknowledged, .. } = search;
        if good + 1 < bad {
            let search = Search { acknowledged, ..Search::between(now, good, bad) };
            return self.send_test(now, search);
        }
        self.search = None;
        // While the answers are awaited nothing is due; the next check counts from here.
        self.check_at = Some(now + CHECK_INTERVAL);
        if good < self.mtu {
            self.look_up_at = Some(now + LOOK_UP_AFTER_SHRINK);
        }
        // A size that only was not refuted is as sure as it was before.
        self.verified = acknowledged || (self.verified && good == self.mtu);
        self.mtu = good;
        self.max_payload = self.payload_for(good);
    }

    fn send_test(&mut self, now: Instant, search: Search) {
        let due = now + FIRST_TIMEOUT * (1 << search.attempts);
        self.search = Some(Search { attempts: search.attempts + 1, due, ..search });
        self.transmit = Some(Probe::Test { frame_len: search.candidate + ETHERNET_HEADER });
    }

    fn payload_for(&self, mtu: usize) -> usize {
        (mtu + self.overhead - OUTER_HEADERS).min(MAX_UDP_PAYLOAD)
    }
}

impl Search {
    const fn between(now: Instant, good: usize, bad: usize) -> Self {
        let candidate = usize::midpoint(good, bad);
        Self { good, acknowledged: false, bad, candidate, attempts: 0, patience: 0, due: now }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// A path, and the kernel's idea of it.
    struct Path {
        kernel: usize,
        real: usize,
    }

    /// Sends what the machine wants to send; returns the UDP payload lengths that went out. On a
    /// path that takes the discovery frame the neighbour acknowledges it, too.
    fn send(machine: &mut PathMtu, now: Instant, path: &Path) -> Vec<usize> {
        let mut sent = Vec::new();
        if let Some(probe) = machine.poll_transmit() {
            let packet = probe.frame_len() + machine.overhead - ETHERNET_HEADER;
            if packet > path.kernel {
                machine.handle_too_big(now, path.kernel);
                return sent;
            }
            sent.push(packet - OUTER_HEADERS);
            if packet <= path.real {
                machine.handle_ack(now, probe.frame_len() - ETHERNET_HEADER);
            }
        }
        sent
    }

    fn exchange(machine: &mut PathMtu, now: Instant, path: &Path) -> Vec<usize> {
        let mut sent = Vec::new();
        while machine.transmit.is_some() {
            sent.extend(send(machine, now, path));
        }
        sent
    }

    /// Runs the clock up to `until`.
    fn run(machine: &mut PathMtu, now: &mut Instant, until: Instant, path: &Path) -> Vec<usize> {
        let mut sent = exchange(machine, *now, path);
        while let Some(due) = machine.poll_timeout().filter(|due| *due <= until) {
            *now = due;
            machine.handle_timeout(due);
            sent.extend(exchange(machine, due, path));
        }
        *now = until;
        sent
    }

    fn number(value: &Value) -> usize {
        usize::try_from(value.as_u64().unwrap()).unwrap()
    }

    #[test]
    fn only_what_the_neighbour_acknowledged_is_verified() {
        let start = Instant::since_origin(Duration::from_secs(1));
        let mut machine = PathMtu::new(62, DEFAULT_FLOOR);
        machine.start(start);
        machine.handle_too_big(start, 1500);
        assert_eq!((machine.mtu(), machine.verified()), (1438, None), "the kernel's idea");
        machine.handle_ack(start, 1438);
        assert_eq!(machine.verified(), Some(1438));

        // The path shrinks without a word: until the search is over the old size is shown.
        let mut now = start;
        let dead = Path { kernel: 1500, real: 0 };
        run(&mut machine, &mut now, start + Duration::from_secs(90), &dead);
        assert_eq!((machine.mtu(), machine.verified()), (DEFAULT_FLOOR, None), "taken on trust");
    }

    #[test]
    fn traces_of_the_reference() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/sleeve.json")).unwrap();
        for case in vectors["path_mtu"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let overhead = if case["encrypted"].as_bool().unwrap() { 86 } else { 62 };
            let path = Path {
                kernel: number(&case["kernel_path_mtu"]),
                real: number(&case["largest_ip_packet_that_really_passes"]),
            };
            let mut machine = PathMtu::new(overhead, DEFAULT_FLOOR);
            machine.start(Instant::ORIGIN);
            let mut sent = Vec::new();
            let mut trace = Vec::new();
            let mut now = Instant::ORIGIN;
            loop {
                let before = machine.bisection();
                sent.extend(send(&mut machine, now, &path));
                let after = machine.bisection();
                if trace.is_empty() || after != before {
                    trace.push(after);
                    continue;
                }
                if after.is_none() {
                    break;
                }
                now = machine.poll_timeout().unwrap();
                machine.handle_timeout(now);
                if machine.bisection() != after {
                    trace.push(machine.bisection());
                }
            }
            let steps = case["trace"].as_array().unwrap();
            let expected: Vec<_> = steps
                .iter()
                .map(|step| {
                    let bounds = (&step["highest_good"], &step["lowest_bad"]);
                    let candidate = number(&step["candidate"]);
                    (candidate != 0).then(|| (candidate, number(bounds.0), number(bounds.1)))
                })
                .collect();
            assert_eq!(trace, expected, "{name}");
            assert_eq!(machine.mtu(), number(&case["final_mtu"]), "{name}");
            assert_eq!(machine.max_payload(), number(&case["final_max_payload"]), "{name}");
            let expected: Vec<_> =
                case["udp_payload_lengths_sent"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(sent, expected, "{name}");
        }
    }

    /// A machine that has settled on this path, and the time.
    fn settled(path: &Path) -> (PathMtu, Instant) {
        let mut machine = PathMtu::new(62, DEFAULT_FLOOR);
        let mut now = Instant::ORIGIN;
        machine.start(now);
        run(&mut machine, &mut now, Instant::since_origin(Duration::from_secs(29)), path);
        (machine, now)
    }

    #[test]
    fn eight_attempts_with_doubling_timeouts() {
        let path = Path { kernel: 1500, real: 1500 };
        let mut machine = PathMtu::new(62, DEFAULT_FLOOR);
        machine.start(Instant::ORIGIN);
        assert_eq!(machine.poll_transmit(), Some(Probe::Discovery));
        machine.handle_too_big(Instant::ORIGIN, path.kernel);
        let mut now = Instant::ORIGIN;
        for milliseconds in [10, 20, 40, 80, 160, 320, 640, 1280] {
            assert_eq!(machine.poll_transmit(), Some(Probe::Test { frame_len: 1452 }));
            let due = machine.poll_timeout().unwrap();
            assert_eq!(due.saturating_since(now), Duration::from_millis(milliseconds));
            machine.handle_timeout(now);
            assert_eq!(machine.poll_transmit(), None, "not yet due");
            now = due;
            machine.handle_timeout(now);
        }
        assert_eq!(machine.poll_transmit(), Some(Probe::Test { frame_len: 995 + 14 }));
    }

    #[test]
    fn kernel_estimate_falls_during_the_search() {
        let mut machine = PathMtu::new(62, DEFAULT_FLOOR);
        machine.handle_too_big(Instant::ORIGIN, 9000);
        machine.handle_too_big(Instant::ORIGIN, 9000);
        assert_eq!(machine.bisection(), Some((8938, 552, 8939)), "the same estimate again");
        machine.handle_too_big(Instant::ORIGIN, 1500);
        assert_eq!(machine.bisection(), Some((1438, 552, 1439)));
        assert_eq!((machine.mtu(), machine.max_payload()), (1438, 1472));
    }

    #[test]
    fn wrong_acknowledgements_mean_nothing() {
        let mut machine = PathMtu::new(62, DEFAULT_FLOOR);
        machine.handle_ack(Instant::ORIGIN, 0);
        assert!(!machine.is_known());
        machine.handle_too_big(Instant::ORIGIN, 1500);
        machine.handle_ack(Instant::ORIGIN, 1437);
        machine.handle_ack(Instant::ORIGIN, 65_535);
        assert_eq!(machine.bisection(), Some((1438, 552, 1439)));
    }

    #[test]
    fn a_busy_moment_is_no_black_hole() {
        let (mut machine, mut now) = settled(&Path { kernel: 1500, real: 1500 });
        let nothing = Path { kernel: 1500, real: 0 };
        run(&mut machine, &mut now, Instant::since_origin(Duration::from_secs(36)), &nothing);
        assert_eq!(machine.bisection(), Some((1438, 552, 1439)));
        machine.handle_ack(now, 1438);
        assert_eq!(machine.bisection(), None);
        assert_eq!(machine.mtu(), 1438);
    }

    #[test]
    fn black_hole_after_discovery_is_noticed() {
        let (mut machine, mut now) = settled(&Path { kernel: 1500, real: 1500 });
        assert_eq!(machine.mtu(), 1438);
        let narrow = Path { kernel: 1500, real: 1400 };
        run(&mut machine, &mut now, Instant::since_origin(Duration::from_secs(55)), &narrow);
        assert_eq!((machine.mtu(), machine.max_payload()), (1338, 1372));
    }

    #[test]
    fn wider_path_is_noticed_a_minute_after_the_shrink() {
        let (mut machine, mut now) = settled(&Path { kernel: 1500, real: 1400 });
        assert_eq!(machine.mtu(), 1338);
        let wide = Path { kernel: 1500, real: 1500 };
        run(&mut machine, &mut now, Instant::since_origin(Duration::from_secs(100)), &wide);
        assert_eq!((machine.mtu(), machine.max_payload()), (1438, 1472));
    }

    #[test]
    fn grown_estimate_is_noticed_and_used_only_when_acknowledged() {
        let (mut machine, mut now) = settled(&Path { kernel: 1500, real: 1500 });
        let wide = Path { kernel: 9000, real: 4000 };
        while let Some(due) = machine.poll_timeout() {
            now = due;
            machine.handle_timeout(now);
            send(&mut machine, now, &wide);
            if machine.bisection().is_some_and(|(candidate, ..)| candidate > 1438) {
                break;
            }
        }
        assert_eq!(machine.bisection(), Some((8938, 1438, 8939)));
        assert_eq!(machine.mtu(), 1438, "still what is known to pass");
        let later = now + Duration::from_secs(29);
        run(&mut machine, &mut now, later, &wide);
        assert_eq!((machine.mtu(), machine.max_payload()), (3938, 3972));
    }

    #[test]
    fn quiet_path_costs_one_test_frame_each_interval() {
        let path = Path { kernel: 1500, real: 1500 };
        let (mut machine, mut now) = settled(&path);
        let later = now + LOOK_UP_INTERVAL * 6;
        let sent = run(&mut machine, &mut now, later, &path);
        assert!(sent.iter().all(|payload| *payload == 1472));
        assert!((110..=130).contains(&sent.len()), "{}", sent.len());
    }

    #[test]
    fn path_below_the_floor() {
        let (machine, _) = settled(&Path { kernel: 500, real: 500 });
        assert_eq!((machine.mtu(), machine.max_payload()), (438, 472));
        let mut machine = PathMtu::new(86, 0);
        machine.handle_too_big(Instant::ORIGIN, 0);
        assert_eq!(machine.mtu(), SMALLEST_MTU);
    }

    proptest! {
        /// Wherever the path goes above the floor, the search follows.
        #[test]
        fn follows_the_path(
            overhead in prop::sample::select(vec![62_usize, 86]),
            paths in prop::collection::vec((700_usize..9200, 0_usize..2000), 1..5),
        ) {
            let mut machine = PathMtu::new(overhead, DEFAULT_FLOOR);
            let mut now = Instant::ORIGIN;
            machine.start(now);
            for (kernel, hidden) in paths {
                let path = Path { kernel, real: kernel.saturating_sub(hidden).max(700) };
                let later = now + LOOK_UP_INTERVAL + Duration::from_secs(120);
                run(&mut machine, &mut now, later, &path);
                let expected = path.real - overhead;
                // The machine may be in the middle of the last periodic search, during which
                // the size in use is right.
                prop_assert_eq!(machine.mtu(), expected);
                prop_assert_eq!(machine.max_payload(), expected + overhead - 28);
            }
        }

        /// No order of events makes it test a size outside of the bounds or lose its timer.
        #[test]
        fn any_order_of_events(
            events in prop::collection::vec((0_u8..4, 0_usize..70_000), 0..200),
        ) {
            let mut machine = PathMtu::new(86, DEFAULT_FLOOR);
            let mut now = Instant::ORIGIN;
            for (kind, value) in events {
                match kind {
                    0 => machine.handle_too_big(now, value),
                    1 => machine.handle_ack(now, value),
                    2 => machine.start(now),
                    _ => {
                        now += Duration::from_millis(value as u64);
                        machine.handle_timeout(now);
                    }
                }
                if let Some((candidate, good, bad)) = machine.bisection() {
                    prop_assert!(good <= candidate && candidate < bad);
                    prop_assert!(machine.poll_timeout().is_some());
                }
                prop_assert!((SMALLEST_MTU..=UNKNOWN_MTU).contains(&machine.mtu()));
                prop_assert!(machine.max_payload() <= MAX_UDP_PAYLOAD);
                while let Some(probe) = machine.poll_transmit() {
                    prop_assert!(probe.frame_len() > 22 + 14);
                }
            }
        }
    }
}
