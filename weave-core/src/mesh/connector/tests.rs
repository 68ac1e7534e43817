use super::*;

struct Bench {
    connector: Connector,
    random: Random,
    ids: Ids,
    now: Instant,
    candidates: Candidates,
}

impl Bench {
    fn new() -> Self {
        Self::with_limit(None)
    }

    fn with_limit(limit: Option<usize>) -> Self {
        Self {
            connector: Connector::new(name(1), 6783, limit),
            random: Random::new([9; 32]),
            ids: Ids::default(),
            now: Instant::since_origin(Duration::from_secs(100)),
            candidates: Candidates::default(),
        }
    }

    fn connect(&mut self, targets: &[&str]) {
        self.connector.connect(self.now, &texts(targets), false).unwrap();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn check(&mut self) -> Vec<Action> {
        self.connector.check(self.now, &self.candidates, &mut self.random, &mut self.ids)
    }

    /// Checks and expects one dial.
    fn dial(&mut self) -> (ConnectionId, String) {
        match self.check().as_slice() {
            [Action::Dial { id, address }] => (*id, address.to_string()),
            other => panic!("expected one dial, got {other:?}"),
        }
    }

    fn ended(&mut self, id: ConnectionId, error: ConnectionError) -> Option<Action> {
        self.connector.ended(self.now, id, &error, &mut self.random, &mut self.ids)
    }

    fn added(&mut self, id: ConnectionId, peer: u64, address: &str, outbound: bool) {
        self.connector.identified(id, name(peer));
        self.connector.added(id, name(peer), address.parse().unwrap(), outbound);
    }

    fn inbound(&mut self, peer: u64, address: &str) -> ConnectionId {
        let id = self.ids.next();
        self.added(id, peer, address, false);
        id
    }

    fn resolved(&mut self, target: &str, addresses: &[&str]) -> Option<Action> {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.connector.resolved(self.now, target, Ok(addresses), &mut self.random, &mut self.ids)
    }

    fn delay(&self) -> Duration {
        self.connector.poll_timeout().unwrap().saturating_since(self.now)
    }

    fn states(&self) -> Vec<(String, TargetState)> {
        self.connector.report().map(|target| (target.address, target.state)).collect()
    }
}

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

/// The branch of a neighbour.
fn branch(neighbour: u64) -> Branch {
    [(name(neighbour), 1)].into()
}

fn texts(targets: &[&str]) -> Vec<String> {
    targets.iter().map(|t| (*t).to_owned()).collect()
}

fn lost() -> ConnectionError {
    ConnectionError::Lost("reset".to_owned())
}

#[test]
fn a_target_is_dialled_at_once_with_the_own_port() {
    let mut bench = Bench::new();
    bench.connect(&["10.0.0.2"]);
    let (id, address) = bench.dial();
    assert_eq!(address, "10.0.0.2:6783");
    assert!(bench.connector.is_direct(id));
    assert_eq!(bench.check(), [], "once is enough");
}

#[test]
fn a_failed_dial_is_repeated_later_and_later() {
    let mut bench = Bench::new();
    bench.connect(&["10.0.0.2:7000"]);
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        let (id, _) = bench.dial();
        bench.ended(id, ConnectionError::Dial("refused".to_owned()));
        assert_eq!(bench.check(), []);
        last = bench.delay();
        bench.pass(last);
    }
    assert!(last >= Duration::from_secs(180) && last < Duration::from_secs(540), "{last:?}");
}

#[test]
fn asking_again_tries_at_once() {
    let mut bench = Bench::new();
    bench.connect(&["10.0.0.2"]);
    let (id, _) = bench.dial();
    bench.ended(id, ConnectionError::Dial("refused".to_owned()));
    assert_eq!(bench.check(), []);
    bench.connect(&["10.0.0.2"]);
    bench.dial();
}

#[test]
fn connections_to_self_and_name_collisions_are_not_repeated() {
    for error in [
        ConnectionError::ConnectedToSelf,
        ConnectionError::NameCollision {
            name: name(1),
            address: "10.0.0.2:6783".parse().unwrap(),
            ours: crate::mesh::Uid(1),
            theirs: crate::mesh::Uid(2),
        },
    ] {
        let mut bench = Bench::new();
        bench.connect(&["10.0.0.2"]);
        let (id, _) = bench.dial();
        // A list of peers that is the same everywhere has each of them in it.
        let state = match error {
            ConnectionError::ConnectedToSelf => TargetState::Itself,
            _ => TargetState::Waiting { until: None },
        };
        bench.ended(id, error);
        bench.pass(Duration::from_secs(100_000));
        assert_eq!(bench.check(), []);
        assert_eq!(bench.states(), [("10.0.0.2:6783".to_owned(), state)]);
    }
}

#[test]
fn a_connection_that_lived_a_minute_is_remade_at_once() {
    let mut bench = Bench::new();
    bench.connect(&["10.0.0.2"]);
    let (id, address) = bench.dial();
    bench.added(id, 2, &address, true);
    bench.pass(Duration::from_secs(61));
    bench.ended(id, lost());
    bench.dial();
}

#[test]
fn a_short_lived_connection_is_remade_later() {
    let mut bench = Bench::new();
    bench.connect(&["10.0.0.2"]);
    let (id, address) = bench.dial();
    bench.added(id, 2, &address, true);
    bench.pass(Duration::from_secs(5));
    bench.ended(id, lost());
    assert_eq!(bench.check(), []);
    assert!(bench.delay() >= Duration::from_secs(1));
}

#[test]
fn without_a_port_an_inbound_connection_from_there_will_do() {
    let mut bench = Bench::new();
    let id = bench.inbound(2, "10.0.0.2:34567");
    bench.connect(&["10.0.0.2"]);
    assert_eq!(bench.check(), []);
    assert_eq!(bench.states(), [], "suspended targets are not listed");
    bench.ended(id, lost());
    assert_eq!(bench.dial().1, "10.0.0.2:6783");
}

#[test]
fn with_a_port_it_is_dialled_once_to_learn_who_is_there() {
    let mut bench = Bench::new();
    let inbound = bench.inbound(2, "10.0.0.2:34567");
    bench.connect(&["10.0.0.2:6783"]);
    let (id, _) = bench.dial();
    bench.connector.identified(id, name(2));
    bench.ended(id, ConnectionError::Duplicate(name(2)));
    bench.pass(Duration::from_secs(10_000));
    assert_eq!(bench.check(), [], "that peer is connected already");
    bench.ended(inbound, lost());
    bench.dial();
}

#[test]
fn what_others_tell_of_is_dialled_by_one_end_and_by_the_other_only_later() {
    let (mut first, mut second) = (0, 0);
    for other in 2..40 {
        let mut bench = Bench::new();
        bench.candidates.offer(
            name(other),
            "10.0.0.9:7000".parse().unwrap(),
            true,
            6783,
            &branch(8),
        );
        match bench.check().as_slice() {
            [Action::Dial { .. }] => first += 1,
            _ => {
                second += 1;
                bench.pass(DEFERENCE + Duration::from_millis(DEFERENCE_JITTER_MS));
                let (id, address) = bench.dial();
                assert_eq!(address, "10.0.0.9:7000");
                assert!(!bench.connector.is_direct(id));
            }
        }
        assert_ne!(dials(name(1), name(other)), dials(name(other), name(1)));
    }
    assert!(first > 10 && second > 10, "{first} and {second}");
}

#[test]
fn what_nobody_tells_of_any_more_is_forgotten() {
    let mut bench = Bench::new();
    bench.candidates.offer(name(2), "10.0.0.9:7000".parse().unwrap(), true, 6783, &branch(8));
    bench.pass(Duration::from_secs(10));
    bench.check();
    bench.pass(Duration::from_secs(10));
    let (id, _) = match bench.check().as_slice() {
        [Action::Dial { id, address }] => (*id, *address),
        _ => {
            (bench.connector.dialled.keys().next().copied().unwrap(), "0.0.0.0:0".parse().unwrap())
        }
    };
    bench.ended(id, ConnectionError::Dial("refused".to_owned()));
    assert_eq!(bench.states().len(), 1);
    bench.candidates = Candidates::default();
    bench.check();
    assert_eq!(bench.states(), []);
}

#[test]
fn forgotten_targets_are_not_dialled_again_but_stay_connected() {
    let mut bench = Bench::new();
    bench.connect(&["10.0.0.2"]);
    let (id, address) = bench.dial();
    bench.added(id, 2, &address, true);
    bench.connector.forget(&texts(&["10.0.0.2"]));
    assert_eq!(bench.check(), []);
    bench.pass(Duration::from_secs(100));
    bench.ended(id, lost());
    assert_eq!(bench.check(), []);
    assert_eq!(bench.states(), []);
}

#[test]
fn replacing_keeps_the_good_and_reports_the_bad() {
    let mut bench = Bench::new();
    bench.connect(&["10.0.0.2", "10.0.0.3"]);
    let errors =
        bench.connector.connect(bench.now, &texts(&["10.0.0.4", "a:b"]), true).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].target, "a:b");
    assert_eq!(bench.connector.direct_peers().collect::<Vec<_>>(), ["10.0.0.4"]);
    assert_eq!(bench.dial().1, "10.0.0.4:6783");
}

#[test]
fn names_are_looked_up_at_each_attempt_and_all_addresses_tried_in_turn() {
    let mut bench = Bench::new();
    bench.connect(&["host"]);
    for last in ["10.0.0.3", "10.0.0.4"] {
        let Some(Action::Resolve { target, host }) = bench.check().pop() else {
            panic!("the name must be looked up")
        };
        assert_eq!((target.as_str(), host.as_str()), ("host", "host"));
        let Some(Action::Dial { id, address }) = bench.resolved("host", &["10.0.0.2", last]) else {
            panic!("the first address must be dialled")
        };
        assert_eq!(address.to_string(), "10.0.0.2:6783");
        let next = bench.ended(id, ConnectionError::Dial("refused".to_owned()));
        let Some(Action::Dial { id, address }) = next else {
            panic!("the second address must be dialled")
        };
        assert_eq!(address.to_string(), format!("{last}:6783"));
        assert_eq!(bench.ended(id, ConnectionError::Dial("refused".to_owned())), None);
        assert_eq!(bench.check(), []);
        bench.pass(bench.delay());
    }
}

#[test]
fn a_name_that_cannot_be_looked_up_is_tried_later() {
    let mut bench = Bench::new();
    bench.connect(&["host"]);
    bench.check();
    let result = Err("no such host".to_owned());
    let now = bench.now;
    assert_eq!(
        bench.connector.resolved(now, "host", result, &mut bench.random, &mut bench.ids),
        None
    );
    assert_eq!(bench.check(), []);
    let target = bench.connector.report().next().unwrap();
    assert_eq!(target.last_error.unwrap(), "cannot look up the host: no such host");
    bench.pass(bench.delay());
    assert!(matches!(bench.check().as_slice(), [Action::Resolve { .. }]));
}

#[test]
fn answers_nobody_asked_for_are_ignored() {
    let mut bench = Bench::new();
    bench.connect(&["host"]);
    assert_eq!(bench.resolved("host", &["10.0.0.2"]), None);
    assert_eq!(bench.resolved("other", &["10.0.0.2"]), None);
    bench.check();
    bench.connector.forget(&texts(&["host"]));
    assert_eq!(bench.resolved("host", &["10.0.0.2"]), None);
}

#[test]
fn at_the_connection_limit_nothing_is_dialled() {
    let mut bench = Bench::with_limit(Some(1));
    let inbound = bench.inbound(3, "10.0.0.3:1000");
    bench.connect(&["10.0.0.2"]);
    assert_eq!(bench.check(), []);
    let target = bench.connector.report().next().unwrap();
    assert_eq!(target.last_error.unwrap(), "connection limit of 1 reached");
    bench.ended(inbound, lost());
    bench.pass(bench.delay());
    bench.dial();
}

#[test]
fn attempts_are_bounded_and_those_of_the_user_apart() {
    let mut bench = Bench::new();
    for host in 0..100 {
        for peer in 2..4 {
            let address = SocketAddr::from(([10, peer, 0, host], 6783));
            let told = name(u64::from(host) * 10 + u64::from(peer));
            bench.candidates.offer(told, address, true, 0, &branch(u64::from(peer)));
        }
    }
    bench.connect(&["192.168.0.1"]);
    let mut actions = bench.check();
    assert_eq!(actions.len(), MAX_ATTEMPTS + 1);
    let direct = actions.iter().position(|action| {
        matches!(action, Action::Dial { address, .. } if address.to_string() == "192.168.0.1:6783")
    });
    actions.remove(direct.unwrap());
    let Action::Dial { id, .. } = actions[1] else { panic!("a dial") };
    bench.ended(id, ConnectionError::Dial("refused".to_owned()));
    assert_eq!(bench.check().len(), 1, "one may follow for one that ended");
}

#[test]
fn addresses_that_a_member_invents_keep_no_slot_from_others() {
    let mut bench = Bench::new();
    for number in 0..2400_u64 {
        let [.., high, low] = number.to_be_bytes();
        let address = SocketAddr::from(([10, 1, high, low], 6783));
        bench.candidates.offer(name(10_000 + number), address, true, 0, &branch(8));
    }
    // None of them answers.
    assert_eq!(bench.check().len(), MAX_ATTEMPTS / 2);
    bench.pass(DEFERENCE + Duration::from_millis(DEFERENCE_JITTER_MS));
    assert_eq!(bench.check(), []);
    bench.candidates.offer(name(5), "10.0.0.9:6783".parse().unwrap(), true, 0, &branch(9));
    bench.check();
    bench.pass(DEFERENCE + Duration::from_millis(DEFERENCE_JITTER_MS));
    bench.check();
    let honest = "10.0.0.9:6783".parse().unwrap();
    assert_eq!(bench.connector.targets[&Key::Address(honest)].state, State::Dialling);
}
