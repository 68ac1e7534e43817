//! Installers with a kernel and a firewall that record requests in one list.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use weave_xfrm::{Template, Usage};

use super::*;
use crate::ipsec::FirewallError;

const OURS: Reqid = Reqid(0x7765_1a80);
/// Routers whose ports for sleeve are 7000 and 8000.
const RUNNING: Reqid = Reqid(0x7765_1b59);
const ENDED: Reqid = Reqid(0x7765_1f41);
pub(in crate::ipsec) const ENDS: TunnelEnds = TunnelEnds {
    local: std::net::Ipv4Addr::new(192, 168, 48, 11),
    remote: std::net::Ipv4Addr::new(192, 168, 48, 12),
    port: 6784,
};
const OUT: Path = ENDS.outbound();
const IN: Path = OUT.reversed();

#[derive(Clone, Default)]
pub(in crate::ipsec) struct Host(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    notes: Vec<String>,
    states: Vec<StateEntry>,
    policies: Vec<PolicyEntry>,
    last_spi: u32,
    rules: FirewallRules,
    refuse: VecDeque<(&'static str, Errno)>,
}

impl Host {
    fn with<A>(&self, f: impl FnOnce(&mut Inner) -> A) -> A {
        f(&mut self.0.lock().unwrap())
    }

    pub(in crate::ipsec) fn notes(&self) -> Vec<String> {
        self.with(|inner| std::mem::take(&mut inner.notes))
    }

    /// Returns the number of states, policies and guarded tunnels.
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
        self.note(format!("encrypt {}", state.spi.get()));
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
    fn prepare(&mut self) -> Result<(), FirewallError> {
        self.note("prepare".to_owned());
        Ok(())
    }

    fn apply(&mut self, rules: &FirewallRules) -> Result<bool, FirewallError> {
        self.check("apply")?;
        let changed =
            self.with(|inner| std::mem::replace(&mut inner.rules, rules.clone()) != *rules);
        if changed {
            self.note(format!("rules: {} {}", rules.tunnels.len(), rules.states.len()));
        }
        Ok(changed)
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        self.note("no rules".to_owned());
        Ok(())
    }
}

fn at(seconds: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(seconds)
}

/// The earlier router on the same port and another one have ended.
fn registry() -> ReqidRegistry {
    ReqidRegistry::of(6784, [7000])
}

pub(in crate::ipsec) fn start(host: &Host) -> Installer<Host> {
    let installer =
        Installer::start(host.clone(), Box::new(host.clone()), OURS, &registry(), at(0)).unwrap();
    host.notes();
    installer
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
    let mut installer = start(&host);
    assert_eq!(installer.receive(at(0), FIRST, ENDS, &key()).unwrap(), spi(257));
    installer.send(FIRST, ENDS, spi(9), key()).unwrap();
    assert_eq!(
        host.notes(),
        ["allocate 257", "rules: 1 1", "receive 257", "encrypt 9", "policy 9"]
    );
    installer.close(at(5), FIRST);
    assert_eq!(host.notes(), ["no policy", "delete 9", "delete 257"]);
    installer.handle_timeout(at(64));
    assert_eq!(host.notes(), ["rules: 1 0"]);
    assert_eq!(installer.poll_timeout(), at(65));
    installer.handle_timeout(at(65));
    assert_eq!(host.notes(), ["rules: 0 0"]);
    installer.stop(at(66));
    assert_eq!(host.notes(), ["no rules"]);
}

#[test]
fn the_neighbour_s_key_may_come_before_ours() {
    let host = Host::default();
    let mut installer = start(&host);
    installer.send(FIRST, ENDS, spi(9), key()).unwrap();
    assert_eq!(host.notes(), ["rules: 1 0", "encrypt 9", "policy 9"]);
    installer.receive(at(0), FIRST, ENDS, &key()).unwrap();
    assert_eq!(host.notes(), ["allocate 257", "rules: 1 1", "receive 257"]);
}

#[test]
fn an_spi_that_the_kernel_took_back_is_allocated_again() {
    let host = Host::default();
    let mut installer = start(&host);
    let gone = |count: usize| {
        host.with(|inner| inner.refuse.extend((0..count).map(|_| ("update", Errno::ESRCH))));
    };
    gone(2);
    assert_eq!(installer.receive(at(0), FIRST, ENDS, &key()).unwrap(), spi(259));
    let reserved = ["allocate 257", "rules: 1 1", "allocate 258", "rules: 1 1", "allocate 259"];
    assert_eq!(host.notes(), [&reserved[..], &["rules: 1 1", "receive 259"]].concat());
    gone(3);
    let error = installer.receive(at(0), SECOND, ENDS, &key()).unwrap_err().to_string();
    assert!(error.contains("ESRCH"), "{error}");
}

#[test]
fn a_renewed_key_overlaps_with_the_one_before() {
    let host = Host::default();
    let mut installer = start(&host);
    installer.receive(at(0), FIRST, ENDS, &key()).unwrap();
    host.notes();
    assert_eq!(installer.receive(at(100), FIRST, ENDS, &key()).unwrap(), spi(258));
    assert_eq!(host.notes(), ["allocate 258", "rules: 1 2", "receive 258"]);
    installer.handle_timeout(at(159));
    assert!(host.notes().is_empty());
    assert_eq!(installer.poll_timeout(), at(160));
    installer.handle_timeout(at(160));
    assert_eq!(host.notes(), ["delete 257", "rules: 1 1"]);
    // A renewal that fails leaves the key before.
    host.with(|inner| inner.refuse.push_back(("update", Errno::ENOMEM)));
    assert!(installer.receive(at(170), FIRST, ENDS, &key()).is_err());
    assert_eq!(host.notes(), ["allocate 259", "rules: 1 2", "delete 259"]);
    installer.receive(at(180), FIRST, ENDS, &key()).unwrap();
    host.notes();
    installer.receive(at(190), FIRST, ENDS, &key()).unwrap();
    assert_eq!(host.notes(), ["allocate 261", "rules: 1 3", "receive 261", "delete 258"]);
    installer.close(at(200), FIRST);
    assert_eq!(host.notes(), ["delete 261", "delete 260"]);
}

#[test]
fn without_rules_there_is_no_state() {
    let host = Host::default();
    let mut installer = start(&host);
    for _ in 0..2 {
        host.with(|inner| inner.refuse.push_back(("apply", Errno::EPERM)));
    }
    assert!(installer.receive(at(0), FIRST, ENDS, &key()).is_err());
    assert!(installer.send(FIRST, ENDS, spi(9), key()).is_err());
    assert_eq!(host.notes(), ["allocate 257", "delete 257"]);
    installer.close(at(0), FIRST);
    assert_eq!(host.notes(), [] as [&str; 0]);
    assert!(host.with(|inner| inner.states.is_empty()));
}

#[test]
fn a_newer_connection_keeps_its_policy() {
    let host = Host::default();
    let mut installer = start(&host);
    for (id, number) in [(FIRST, 9), (SECOND, 10)] {
        installer.receive(at(0), id, ENDS, &key()).unwrap();
        installer.send(id, ENDS, spi(number), key()).unwrap();
    }
    host.notes();
    installer.close(at(0), FIRST);
    assert_eq!(host.notes(), ["delete 9", "delete 257"]);
    installer.close(at(0), SECOND);
    assert_eq!(host.notes(), ["no policy", "delete 10", "delete 258"]);
}

#[test]
fn a_second_key_replaces_the_first() {
    let host = Host::default();
    let mut installer = start(&host);
    installer.send(FIRST, ENDS, spi(9), key()).unwrap();
    host.notes();
    installer.send(FIRST, ENDS, spi(10), key()).unwrap();
    assert_eq!(host.notes(), ["encrypt 10", "policy 10", "delete 9"]);
    // A key that the kernel refuses leaves the one before.
    host.with(|inner| inner.refuse.push_back(("add", Errno::EEXIST)));
    assert!(installer.send(FIRST, ENDS, spi(11), key()).is_err());
    assert_eq!(host.notes(), [] as [&str; 0]);
}

#[test]
fn policies_of_others_are_left_alone() {
    let host = Host::default();
    let mut installer = start(&host);
    let foreign = policy(OUT, Template { spi: Some(spi(3)), reqid: Reqid(16389) });
    host.with(|inner| inner.policies.push(foreign));
    let error = installer.send(FIRST, ENDS, spi(9), key()).unwrap_err().to_string();
    assert_eq!(error, "another program has an IPsec policy from 192.168.48.11 to 192.168.48.12");
    installer.close(at(0), FIRST);
    assert_eq!(host.with(|inner| inner.policies.clone()), [foreign]);
}

#[test]
fn leftovers_are_removed_and_nothing_else() {
    let other = Path { source: std::net::Ipv4Addr::new(10, 0, 0, 1), ..OUT };
    let host = Host::default();
    let unspecified = Reqid(0);
    let theirs = policy(other, Template { spi: Some(spi(3)), reqid: Reqid(16389) });
    let unmarked = PolicyEntry { mark: None, ..policy(IN, theirs.template.unwrap()) };
    let kept = [
        entry(other, spi(5), unspecified),
        entry(other, spi(10), RUNNING),
        entry(OUT, spi(6), Reqid(16389)),
        StateEntry { mode: Mode::Tunnel, ..entry(OUT, spi(7), unspecified) },
        StateEntry { extended_sequence: false, ..entry(IN, spi(8), unspecified) },
        StateEntry { aes_gcm: false, ..entry(OUT, spi(9), unspecified) },
    ];
    host.with(|inner| {
        let weave_net = policy(OUT, Template { spi: Some(spi(1)), reqid: unspecified });
        let ended = policy(other.reversed(), Template { spi: Some(spi(4)), reqid: ENDED });
        inner.policies = vec![theirs, weave_net, unmarked, ended];
        inner.states = kept.to_vec();
        inner.states.extend([
            entry(OUT, spi(1), unspecified),
            entry(IN, spi(2), unspecified),
            entry(other, spi(3), OURS),
            entry(other, spi(4), ENDED),
        ]);
    });
    start(&host);
    assert_eq!(host.with(|inner| inner.policies.clone()), [theirs, unmarked]);
    assert_eq!(host.with(|inner| inner.states.clone()), kept);
}

#[test]
fn marked_packets_are_dropped_before_the_leftovers_are_removed() {
    let host = Host::default();
    host.with(|inner| {
        inner.policies.push(policy(OUT, Template { spi: Some(spi(1)), reqid: OURS }));
        inner.last_spi = 1;
    });
    Installer::start(host.clone(), Box::new(host.clone()), OURS, &registry(), at(0)).unwrap();
    assert_eq!(host.notes(), ["allocate 257", "receive 257", "delete 257", "prepare", "no policy"]);
}

#[test]
fn a_kernel_without_esp_says_so() {
    let host = Host::default();
    host.with(|inner| inner.refuse.push_back(("update", Errno::EPROTONOSUPPORT)));
    let started = Installer::start(host.clone(), Box::new(host.clone()), OURS, &registry(), at(0));
    let error = started.err().unwrap().to_string();
    assert!(error.starts_with("this kernel has no ESP with AES-GCM (esp4, gcm): "), "{error}");
    assert_eq!(host.notes(), ["allocate 256", "delete 256"]);
}

#[test]
fn flushed_rules_are_restored() {
    let host = Host::default();
    let mut installer = start(&host);
    installer.handle_timeout(at(10));
    assert!(host.notes().is_empty(), "nothing is missing");
    installer.receive(at(0), FIRST, ENDS, &key()).unwrap();
    host.notes();
    host.with(|inner| inner.rules = FirewallRules::default());
    installer.handle_timeout(at(19));
    assert!(host.notes().is_empty());
    assert_eq!(installer.poll_timeout(), at(20));
    installer.handle_timeout(at(20));
    assert_eq!(host.notes(), ["rules: 1 1"]);
}

#[test]
fn counters_of_keys_outlive_the_keys() {
    let host = Host::default();
    let mut installer = start(&host);
    let inbound = installer.receive(at(0), FIRST, ENDS, &key()).unwrap();
    installer.send(FIRST, ENDS, spi(9), key()).unwrap();
    let used = |inner: &mut Inner| {
        for state in &mut inner.states {
            let packets = if state.path == IN { 3 } else { 5 };
            state.usage = Usage { bytes: 100 * packets, packets, replayed: 1, forged: 2 };
        }
    };
    host.with(used);
    let counters = |installer: &Installer<Host>| {
        let states = host.with(|inner| inner.states.clone());
        let counters = installer.key_stats.lock().counters(&states);
        counters.iter().map(|counter| (counter.name, counter.value)).collect::<Vec<_>>()
    };
    let first = counters(&installer);
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
    installer.close(at(1), FIRST);
    assert!(host.with(|inner| inner.states.is_empty()));
    assert_eq!(counters(&installer), expected);
    assert_ne!(installer.receive(at(2), FIRST, ENDS, &key()).unwrap(), inbound);
    installer.receive(at(3), FIRST, ENDS, &key()).unwrap();
    assert!(counters(&installer).contains(&("keys_renewed", 1)));
}
