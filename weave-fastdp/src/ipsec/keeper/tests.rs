//! A kernel and a firewall that note what they are told, in one list.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use weave_xfrm::{Template, Usage};

use super::*;

const OURS: Reqid = Reqid(0x7765_1a80);
/// Routers whose ports for sleeve are 7000 and 8000.
const RUNNING: Reqid = Reqid(0x7765_1b59);
const ENDED: Reqid = Reqid(0x7765_1f41);
pub(in crate::ipsec) const ENDS: Ends = Ends {
    local: std::net::Ipv4Addr::new(192, 168, 48, 11),
    remote: std::net::Ipv4Addr::new(192, 168, 48, 12),
    port: 6784,
};
const OUT: Path = ENDS.outwards();
const IN: Path = OUT.reversed();

#[derive(Clone, Default)]
pub(in crate::ipsec) struct Host(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    notes: Vec<String>,
    states: Vec<StateEntry>,
    policies: Vec<PolicyEntry>,
    last_spi: u32,
    rules: Rules,
    refuse: VecDeque<(&'static str, Errno)>,
}

impl Host {
    fn with<A>(&self, f: impl FnOnce(&mut Inner) -> A) -> A {
        f(&mut self.0.lock().unwrap())
    }

    pub(in crate::ipsec) fn notes(&self) -> Vec<String> {
        self.with(|inner| std::mem::take(&mut inner.notes))
    }

    /// How many states, policies and guarded tunnels there are.
    pub(in crate::ipsec) fn counts(&self) -> (usize, usize, usize) {
        self.with(|inner| (inner.states.len(), inner.policies.len(), inner.rules.tunnels.len()))
    }

    fn note(&self, note: String) {
        self.with(|inner| inner.notes.push(note));
    }

    fn check(&self, request: &'static str) -> Result<(), Error> {
        self.with(|inner| match inner.refuse.front() {
            Some((refused, errno)) if *refused == request => {
                let errno = *errno;
                inner.refuse.pop_front();
                Err(Error::Refused { request, errno })
            }
            _ => Ok(()),
        })
    }
}

fn entry(path: Path, spi: Spi, reqid: Reqid) -> StateEntry {
    let mode = Mode::Transport;
    let (aes_gcm, extended_sequence, usage) = (true, true, Usage::default());
    StateEntry { path, spi: Some(spi), reqid, mode, aes_gcm, extended_sequence, usage }
}

impl Kernel for Host {
    fn allocate_spi(&mut self, path: Path, reqid: Reqid) -> Result<Spi, Error> {
        self.check("allocate")?;
        let spi = self.with(|inner| {
            inner.last_spi += 1;
            let spi = Spi::new(0xff + inner.last_spi).unwrap();
            inner.states.push(entry(path, spi, reqid));
            spi
        });
        self.note(format!("allocate {}", spi.get()));
        Ok(spi)
    }

    fn update_state(&mut self, state: &State) -> Result<(), Error> {
        self.check("update")?;
        self.note(format!("receive {}", state.spi.get()));
        Ok(())
    }

    fn add_state(&mut self, state: &State) -> Result<(), Error> {
        self.check("add")?;
        self.with(|inner| inner.states.push(entry(state.path, state.spi, state.reqid)));
        self.note(format!("seal {}", state.spi.get()));
        Ok(())
    }

    fn delete_state(&mut self, path: Path, spi: Spi) -> Result<bool, Error> {
        self.note(format!("delete {}", spi.get()));
        self.with(|inner| {
            let before = inner.states.len();
            inner.states.retain(|state| (state.path, state.spi) != (path, Some(spi)));
            Ok(inner.states.len() < before)
        })
    }

    fn states(&mut self) -> Result<Vec<StateEntry>, Error> {
        Ok(self.with(|inner| inner.states.clone()))
    }

    fn put_policy(&mut self, policy: &Policy) -> Result<(), Error> {
        self.check("put_policy")?;
        self.note(format!("policy {}", policy.spi.get()));
        let template = Template { spi: Some(policy.spi), reqid: policy.reqid };
        self.with(|inner| {
            inner.policies.retain(|other| other.path != Some(policy.path));
            inner.policies.push(self::policy(policy.path, template));
        });
        Ok(())
    }

    fn policy(&mut self, path: Path, mark: Mark) -> Result<Option<PolicyEntry>, Error> {
        let found = |policy: &&PolicyEntry| (policy.path, policy.mark) == (Some(path), Some(mark));
        Ok(self.with(|inner| inner.policies.iter().find(found).copied()))
    }

    fn delete_policy(&mut self, path: Path, _: Mark) -> Result<bool, Error> {
        self.note("no policy".to_owned());
        self.with(|inner| inner.policies.retain(|policy| policy.path != Some(path)));
        Ok(true)
    }

    fn policies(&mut self) -> Result<Vec<PolicyEntry>, Error> {
        Ok(self.with(|inner| inner.policies.clone()))
    }
}

fn policy(path: Path, template: Template) -> PolicyEntry {
    PolicyEntry {
        path: Some(path),
        direction: PolicyDirection::Out,
        udp: true,
        mark: Some(MARK),
        template: Some(template),
    }
}

impl Firewall for Host {
    fn prepare(&mut self) -> Result<(), String> {
        self.note("prepare".to_owned());
        Ok(())
    }

    fn apply(&mut self, rules: &Rules) -> Result<bool, String> {
        self.check("apply").map_err(|error| error.to_string())?;
        let changed =
            self.with(|inner| std::mem::replace(&mut inner.rules, rules.clone()) != *rules);
        if changed {
            self.note(format!("rules: {} {}", rules.tunnels.len(), rules.states.len()));
        }
        Ok(changed)
    }

    fn remove(&mut self) -> Result<(), String> {
        self.note("no rules".to_owned());
        Ok(())
    }
}

fn at(seconds: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(seconds)
}

/// Of the router before this one on the same port, and of another that has ended.
fn owners() -> Owners {
    Owners::of(6784, [7000])
}

pub(in crate::ipsec) fn start(host: &Host) -> Keeper<Host> {
    let keeper =
        Keeper::start(host.clone(), Box::new(host.clone()), OURS, &owners(), at(0)).unwrap();
    host.notes();
    keeper
}

fn key() -> AeadKey {
    AeadKey::new([7; 36])
}

fn spi(number: u32) -> Spi {
    Spi::new(number).unwrap()
}

const FIRST: ConnectionId = ConnectionId(1);
const SECOND: ConnectionId = ConnectionId(2);

#[test]
fn rules_come_first_and_go_last() {
    let host = Host::default();
    let mut keeper = start(&host);
    assert_eq!(keeper.receive(at(0), FIRST, ENDS, &key()), Ok(spi(257)));
    keeper.send(FIRST, ENDS, spi(9), key()).unwrap();
    assert_eq!(host.notes(), ["allocate 257", "rules: 1 1", "receive 257", "seal 9", "policy 9"]);
    keeper.close(at(5), FIRST);
    assert_eq!(host.notes(), ["no policy", "delete 9", "delete 257"]);
    keeper.handle_timeout(at(64));
    assert_eq!(host.notes(), ["rules: 1 0"]);
    assert_eq!(keeper.poll_timeout(), at(65));
    keeper.handle_timeout(at(65));
    assert_eq!(host.notes(), ["rules: 0 0"]);
    keeper.stop(at(66));
    assert_eq!(host.notes(), ["no rules"]);
}

#[test]
fn the_neighbour_s_key_may_come_before_ours() {
    let host = Host::default();
    let mut keeper = start(&host);
    keeper.send(FIRST, ENDS, spi(9), key()).unwrap();
    assert_eq!(host.notes(), ["rules: 1 0", "seal 9", "policy 9"]);
    keeper.receive(at(0), FIRST, ENDS, &key()).unwrap();
    assert_eq!(host.notes(), ["allocate 257", "rules: 1 1", "receive 257"]);
}

#[test]
fn a_number_that_the_kernel_took_back_is_reserved_anew() {
    let host = Host::default();
    let mut keeper = start(&host);
    let gone = |count: usize| {
        host.with(|inner| inner.refuse.extend((0..count).map(|_| ("update", Errno::ESRCH))));
    };
    gone(2);
    assert_eq!(keeper.receive(at(0), FIRST, ENDS, &key()), Ok(spi(259)));
    let reserved = ["allocate 257", "rules: 1 1", "allocate 258", "rules: 1 1", "allocate 259"];
    assert_eq!(host.notes(), [&reserved[..], &["rules: 1 1", "receive 259"]].concat());
    gone(3);
    let error = keeper.receive(at(0), SECOND, ENDS, &key()).unwrap_err();
    assert!(error.contains("ESRCH"), "{error}");
}

#[test]
fn a_renewed_key_overlaps_with_the_one_before() {
    let host = Host::default();
    let mut keeper = start(&host);
    keeper.receive(at(0), FIRST, ENDS, &key()).unwrap();
    host.notes();
    assert_eq!(keeper.receive(at(100), FIRST, ENDS, &key()), Ok(spi(258)));
    assert_eq!(host.notes(), ["allocate 258", "rules: 1 2", "receive 258"]);
    keeper.handle_timeout(at(159));
    assert!(host.notes().is_empty());
    assert_eq!(keeper.poll_timeout(), at(160));
    keeper.handle_timeout(at(160));
    assert_eq!(host.notes(), ["delete 257", "rules: 1 1"]);
    // One that does not come leaves the one there is.
    host.with(|inner| inner.refuse.push_back(("update", Errno::ENOMEM)));
    assert!(keeper.receive(at(170), FIRST, ENDS, &key()).is_err());
    assert_eq!(host.notes(), ["allocate 259", "rules: 1 2", "delete 259"]);
    keeper.receive(at(180), FIRST, ENDS, &key()).unwrap();
    host.notes();
    keeper.receive(at(190), FIRST, ENDS, &key()).unwrap();
    assert_eq!(host.notes(), ["allocate 261", "rules: 1 3", "receive 261", "delete 258"]);
    keeper.close(at(200), FIRST);
    assert_eq!(host.notes(), ["delete 261", "delete 260"]);
}

#[test]
fn without_rules_there_is_no_state() {
    let host = Host::default();
    let mut keeper = start(&host);
    for _ in 0..2 {
        host.with(|inner| inner.refuse.push_back(("apply", Errno::EPERM)));
    }
    assert!(keeper.receive(at(0), FIRST, ENDS, &key()).is_err());
    assert!(keeper.send(FIRST, ENDS, spi(9), key()).is_err());
    assert_eq!(host.notes(), ["allocate 257", "delete 257"]);
    keeper.close(at(0), FIRST);
    assert_eq!(host.notes(), [] as [&str; 0]);
    assert!(host.with(|inner| inner.states.is_empty()));
}

#[test]
fn a_newer_connection_keeps_its_policy() {
    let host = Host::default();
    let mut keeper = start(&host);
    for (id, number) in [(FIRST, 9), (SECOND, 10)] {
        keeper.receive(at(0), id, ENDS, &key()).unwrap();
        keeper.send(id, ENDS, spi(number), key()).unwrap();
    }
    host.notes();
    keeper.close(at(0), FIRST);
    assert_eq!(host.notes(), ["delete 9", "delete 257"]);
    keeper.close(at(0), SECOND);
    assert_eq!(host.notes(), ["no policy", "delete 10", "delete 258"]);
}

#[test]
fn a_second_key_replaces_the_first() {
    let host = Host::default();
    let mut keeper = start(&host);
    keeper.send(FIRST, ENDS, spi(9), key()).unwrap();
    host.notes();
    keeper.send(FIRST, ENDS, spi(10), key()).unwrap();
    assert_eq!(host.notes(), ["seal 10", "policy 10", "delete 9"]);
    // A key that the kernel does not take leaves the one there is.
    host.with(|inner| inner.refuse.push_back(("add", Errno::EEXIST)));
    assert!(keeper.send(FIRST, ENDS, spi(11), key()).is_err());
    assert_eq!(host.notes(), [] as [&str; 0]);
}

#[test]
fn policies_of_others_are_left_alone() {
    let host = Host::default();
    let mut keeper = start(&host);
    let foreign = policy(OUT, Template { spi: Some(spi(3)), reqid: Reqid(16389) });
    host.with(|inner| inner.policies.push(foreign));
    let error = keeper.send(FIRST, ENDS, spi(9), key()).unwrap_err();
    assert_eq!(error, "somebody else has an IPsec policy from 192.168.48.11 to 192.168.48.12");
    keeper.close(at(0), FIRST);
    assert_eq!(host.with(|inner| inner.policies.clone()), [foreign]);
}

#[test]
fn leftovers_are_removed_and_nothing_else() {
    let other = Path { source: std::net::Ipv4Addr::new(10, 0, 0, 1), ..OUT };
    let host = Host::default();
    let nobody = Reqid(0);
    let theirs = policy(other, Template { spi: Some(spi(3)), reqid: Reqid(16389) });
    let unmarked = PolicyEntry { mark: None, ..policy(IN, theirs.template.unwrap()) };
    let kept = [
        entry(other, spi(5), nobody),
        entry(other, spi(10), RUNNING),
        entry(OUT, spi(6), Reqid(16389)),
        StateEntry { mode: Mode::Tunnel, ..entry(OUT, spi(7), nobody) },
        StateEntry { extended_sequence: false, ..entry(IN, spi(8), nobody) },
        StateEntry { aes_gcm: false, ..entry(OUT, spi(9), nobody) },
    ];
    host.with(|inner| {
        let weave_net = policy(OUT, Template { spi: Some(spi(1)), reqid: nobody });
        let ended = policy(other.reversed(), Template { spi: Some(spi(4)), reqid: ENDED });
        inner.policies = vec![theirs, weave_net, unmarked, ended];
        inner.states = kept.to_vec();
        inner.states.extend([
            entry(OUT, spi(1), nobody),
            entry(IN, spi(2), nobody),
            entry(other, spi(3), OURS),
            entry(other, spi(4), ENDED),
        ]);
    });
    start(&host);
    assert_eq!(host.with(|inner| inner.policies.clone()), [theirs, unmarked]);
    assert_eq!(host.with(|inner| inner.states.clone()), kept);
}

#[test]
fn what_is_marked_is_dropped_before_the_leftovers_go() {
    let host = Host::default();
    host.with(|inner| {
        inner.policies.push(policy(OUT, Template { spi: Some(spi(1)), reqid: OURS }));
        inner.last_spi = 1;
    });
    Keeper::start(host.clone(), Box::new(host.clone()), OURS, &owners(), at(0)).unwrap();
    assert_eq!(host.notes(), ["allocate 257", "receive 257", "delete 257", "prepare", "no policy"]);
}

#[test]
fn a_kernel_without_esp_says_so() {
    let host = Host::default();
    host.with(|inner| inner.refuse.push_back(("update", Errno::EPROTONOSUPPORT)));
    let started = Keeper::start(host.clone(), Box::new(host.clone()), OURS, &owners(), at(0));
    let error = started.err().unwrap();
    assert!(error.starts_with("this kernel has no ESP with AES-GCM (esp4, gcm): "), "{error}");
    assert_eq!(host.notes(), ["allocate 256", "delete 256"]);
}

#[test]
fn rules_that_somebody_flushed_come_back() {
    let host = Host::default();
    let mut keeper = start(&host);
    keeper.handle_timeout(at(10));
    assert!(host.notes().is_empty(), "nothing is missing");
    keeper.receive(at(0), FIRST, ENDS, &key()).unwrap();
    host.notes();
    host.with(|inner| inner.rules = Rules::default());
    keeper.handle_timeout(at(19));
    assert!(host.notes().is_empty());
    assert_eq!(keeper.poll_timeout(), at(20));
    keeper.handle_timeout(at(20));
    assert_eq!(host.notes(), ["rules: 1 1"]);
}

#[test]
fn what_keys_carried_is_counted_beyond_their_end() {
    let host = Host::default();
    let mut keeper = start(&host);
    let inbound = keeper.receive(at(0), FIRST, ENDS, &key()).unwrap();
    keeper.send(FIRST, ENDS, spi(9), key()).unwrap();
    let used = |inner: &mut Inner| {
        for state in &mut inner.states {
            let packets = if state.path == IN { 3 } else { 5 };
            state.usage = Usage { bytes: 100 * packets, packets, replayed: 1, forged: 2 };
        }
    };
    host.with(used);
    let counters = |keeper: &Keeper<Host>| {
        let states = host.with(|inner| inner.states.clone());
        keeper.ledger.entries().counters(&states)
    };
    let first = counters(&keeper);
    let expected = [
        ("tx_packets", 5),
        ("tx_bytes", 500),
        ("rx_packets", 3),
        ("rx_bytes", 300),
        ("rx_dropped_replayed", 2),
        ("rx_dropped_forged", 4),
        ("keys_renewed", 0),
        ("failures", 0),
        ("rules_mended", 0),
    ];
    assert_eq!(first, expected);
    keeper.close(at(1), FIRST);
    assert!(host.with(|inner| inner.states.is_empty()));
    assert_eq!(counters(&keeper), expected);
    assert_ne!(keeper.receive(at(2), FIRST, ENDS, &key()).unwrap(), inbound);
    keeper.receive(at(3), FIRST, ENDS, &key()).unwrap();
    assert!(counters(&keeper).contains(&("keys_renewed", 1)));
}
