//! The vectors of several allocators that exchange messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use weave_core::gob_struct;
use weave_core::mesh::{PeerName, Uid};
use weave_core::time::Instant;
use weave_core::wire::gob::Decoder;

use super::vectors::{
    address, bytes, entries, list, load, nicknames, number, peer, peers, range, raw_ring, text,
};
use super::vote::{shown, sorted};
use crate::allocator::{
    Answer, Conflict, Found, GONE_AFTER, Origin, Output, RequestError, RequestId, Stored, Update,
};
use crate::message::{Holding, State, Unicast, decode_ring};
use crate::ring::RawRing;
use crate::{Allocator, Cidr, Config};

gob_struct! {
    #[derive(Default)]
    struct OwnedData as "ownedData" {
        is_container: bool = "IsContainer",
        cidrs: Vec<OwnedCidr> = "Cidrs",
    }
}

gob_struct! {
    #[derive(Default)]
    struct OwnedCidr as "CIDR" {
        address: u32 = "Addr",
        prefix: i64 = "PrefixLen",
    }
}

/// What the original stores.
fn stored(store: &Value) -> Stored {
    if store.is_null() {
        return Stored::default();
    }
    let ring = decode_ring(&bytes(&store["ring"])).unwrap();
    let raw = bytes(&store["ownedAddresses"]);
    let raw: BTreeMap<String, OwnedData> = Decoder::new(&raw).value().unwrap();
    let holding = |(holder, data): (String, OwnedData)| {
        let cidr = |raw: &OwnedCidr| {
            Cidr::new(raw.address.into(), raw.prefix.try_into().unwrap()).unwrap()
        };
        let cidrs = data.cidrs.iter().map(cidr).collect();
        (holder, Holding { is_container: data.is_container, cidrs, label: None })
    };
    // One without a division is as good as none.
    let ring = Some(ring).filter(|ring| !ring.entries.0.is_empty());
    Stored { ring, holdings: raw.into_iter().map(holding).collect() }
}

/// Keeps what an allocator wants kept, as a file would.
#[derive(Default)]
pub(super) struct Disk {
    ring: Option<Vec<u8>>,
    holdings: BTreeMap<String, Vec<u8>>,
}

impl Disk {
    pub(super) fn apply(&mut self, update: Update) {
        if update.clear {
            *self = Self::default();
        }
        self.ring = update.ring.or(self.ring.take());
        for (holder, bytes) in update.holdings {
            match bytes {
                Some(bytes) => drop(self.holdings.insert(holder, bytes)),
                None => drop(self.holdings.remove(&holder)),
            }
        }
    }

    pub(super) fn read(&self) -> Stored {
        let holding = |(holder, bytes): (&String, &Vec<u8>)| {
            (holder.clone(), Holding::decode(bytes).unwrap())
        };
        Stored {
            ring: self.ring.as_deref().map(|bytes| decode_ring(bytes).unwrap()),
            holdings: self.holdings.iter().map(holding).collect(),
        }
    }
}

struct Node {
    name: PeerName,
    allocator: Allocator,
    disk: Disk,
    sent: Vec<(Option<PeerName>, Sent)>,
    answers: BTreeMap<RequestId, Result<Answer, RequestError>>,
    expected: Value,
    /// It gave everything away. The original keeps its holders in memory.
    left: bool,
}

#[derive(Debug)]
enum Sent {
    State(State),
    Unicast(Unicast),
}

impl Node {
    fn start(setup: &Value, store: &Value) -> Self {
        let seeds = peers(&setup["seed"]);
        let quorum = setup["quorum"].as_u64().unwrap();
        let origin = match text(&setup["start_mode"]) {
            _ if setup["observer"] == true => Origin::Observer,
            _ if !seeds.is_empty() => Origin::Seed(seeds),
            // So that half of them and one more are the quorum.
            _ => Origin::Consensus { peers: Some((2 * quorum - 1).try_into().unwrap()) },
        };
        let found = |found: &Value| Found {
            holder: text(&found["ident"]).to_owned(),
            cidr: text(&found["cidr"]).parse().unwrap(),
            is_container: found["is_container"].as_bool().unwrap(),
        };
        let config = Config {
            name: peer(&setup["name"]),
            uid: Uid(setup["uid"].as_u64().unwrap()),
            nickname: text(&setup["nickname"]).to_owned(),
            universe: text(&setup["universe"]).parse().unwrap(),
            origin,
        };
        let name = config.name;
        let found = list(&setup["preclaims"]).iter().map(found).collect();
        let allocator = Allocator::new(config, stored(store), found, [7; 32], Instant::ORIGIN);
        let mut node = Self {
            name,
            allocator,
            disk: Disk::default(),
            sent: Vec::new(),
            answers: BTreeMap::new(),
            expected: Value::Null,
            left: false,
        };
        node.disk.apply(Update {
            ring: stored(store)
                .ring
                .map(|ring| crate::message::encode_ring(&crate::Ring::try_from(ring).unwrap())),
            holdings: stored(store)
                .holdings
                .into_iter()
                .map(|(holder, holding)| (holder, Some(holding.encode())))
                .collect(),
            clear: false,
        });
        node
    }

    fn drain(&mut self) {
        while let Some(output) = self.allocator.poll_output() {
            match output {
                Output::Store(update) => self.disk.apply(update),
                Output::Unicast { to, payload } => {
                    let message = Unicast::decode(&payload).unwrap();
                    assert_eq!(message.encode(), payload);
                    self.sent.push((Some(to), Sent::Unicast(message)));
                }
                Output::Broadcast => {
                    self.sent.push((None, Sent::State(self.allocator.state(1_700_000_000))));
                }
                Output::Answer { request, answer } => drop(self.answers.insert(request, answer)),
                Output::Probe(address) => panic!("{address} is asked for"),
                Output::Event(event) => assert_eq!(event.to_string().lines().count(), 1),
            }
        }
    }

    /// What is stored would bring back what is there.
    fn check_disk(&self) {
        let stored = self.disk.read();
        let ring = stored.ring.map(|ring| crate::Ring::try_from(ring).unwrap());
        if !self.allocator.ring().is_empty() {
            assert_eq!(ring.as_ref(), Some(self.allocator.ring()));
        }
        let held: BTreeMap<&str, &[Cidr]> = self.allocator.holders().collect();
        let kept = &stored.holdings;
        let kept = kept.iter().map(|(holder, h)| (holder.as_str(), h.cidrs.as_slice())).collect();
        assert_eq!(held, kept);
    }

    fn check(&self, at: &str) {
        let expected = &self.expected;
        if expected.is_null() || expected.get("crashed").is_some() {
            return;
        }
        let report = self.allocator.report();
        let allocator = &self.allocator;
        assert_eq!(allocator.ring().entries(), entries(&expected["entries"]), "{at}");
        assert_eq!(allocator.ring().seeds(), peers(&expected["seeds"]), "{at}");
        assert_eq!(report.awaiting.is_some(), expected["awaiting_consensus"] == true, "{at}");
        assert_eq!(allocator.space().free().len(), number(&expected["free_addresses"]), "{at}");
        assert_eq!(report.active, number(&expected["used_addresses"]), "{at}");
        let waiting = report.pending_allocations.len();
        assert_eq!(waiting, number(&expected["pending_allocates"]) as usize, "{at}");
        assert_eq!(
            report.pending_claims.len(),
            number(&expected["pending_claims"]) as usize,
            "{at}"
        );
        let held: BTreeMap<String, Vec<String>> = allocator
            .holders()
            .map(|(holder, cidrs)| {
                (holder.to_owned(), cidrs.iter().map(ToString::to_string).collect())
            })
            .collect();
        let owned = expected["owned_addresses"].as_object().unwrap();
        let owned: BTreeMap<String, Vec<String>> = owned
            .iter()
            .map(|(holder, owned)| {
                let cidrs = list(&owned["cidrs"]).iter().map(|cidr| text(cidr).to_owned());
                (holder.clone(), cidrs.collect())
            })
            .filter(|_| !self.left)
            .collect();
        assert_eq!(held, owned, "{at}");
    }
}

fn expected_error(step: &Value) -> Option<&str> {
    step.get("error_kind").and_then(Value::as_str)
}

fn answer_kind(error: &RequestError) -> &'static str {
    match error {
        RequestError::Cancelled => "cancelled",
        RequestError::OutOfBounds { .. } => "out-of-bounds",
        RequestError::AlreadyInUse { .. } => "already-in-use",
        RequestError::AlreadyOwned { .. } => "already-owned",
        RequestError::OwnedByOther { .. } => "owned-by-other-peer",
        RequestError::NothingHeld(_) => "no-addresses-for-ident",
        RequestError::NotHeld { .. } => "address-not-found-for-ident",
        other @ RequestError::NotFree { .. } => panic!("{other}"),
    }
}

/// The first division and the owners are what matters: how much of it is free is told later by the
/// original than by us, which tells the state when it has settled.
fn same_ring(ours: Option<&RawRing>, theirs: &Value, at: &str) {
    let Some(ours) = ours else {
        assert!(theirs.is_null(), "{at}");
        return;
    };
    let theirs = raw_ring(theirs);
    let owners = |ring: &RawRing| -> Vec<(u32, PeerName)> {
        ring.entries.0.iter().map(|entry| (entry.token, entry.peer)).collect()
    };
    assert_eq!(owners(ours), owners(&theirs), "{at}");
    for (ours, theirs) in ours.entries.0.iter().zip(&theirs.entries.0) {
        assert!((theirs.version..=theirs.version + 1).contains(&ours.version), "{at}");
    }
    assert_eq!((ours.start, ours.end, ours.peer), (theirs.start, theirs.end, theirs.peer), "{at}");
    assert_eq!(ours.seeds, theirs.seeds, "{at}");
}

fn same_state(ours: &State, theirs: &Value, at: &str) {
    let names = ours.nicknames.as_ref().unwrap();
    assert_eq!(names.0, nicknames(&theirs["nicknames"]), "{at}");
    match &ours.claims {
        None => assert!(theirs["paxos"].is_null(), "{at}"),
        Some(claims) => assert_eq!(shown(&claims.0), sorted(&theirs["paxos"]), "{at}"),
    }
    same_ring(ours.ring.as_ref(), &theirs["ring"], at);
}

/// One scenario from its start to its end.
struct Play {
    nodes: BTreeMap<String, Node>,
    names: BTreeMap<PeerName, String>,
    messages: BTreeMap<u64, (PeerName, Vec<u8>)>,
    out_of_reach: BTreeSet<PeerName>,
    operations: BTreeMap<RequestId, String>,
    now: Instant,
}

impl Play {
    fn run(scenario: &Value) {
        let mut play = Self {
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            messages: BTreeMap::new(),
            out_of_reach: BTreeSet::new(),
            operations: BTreeMap::new(),
            now: Instant::ORIGIN,
        };
        for setup in list(&scenario["setup"]) {
            let node = Node::start(setup, &scenario["initial_store"]);
            play.names.insert(node.name, text(&setup["label"]).to_owned());
            play.nodes.insert(text(&setup["label"]).to_owned(), node);
        }
        play.update_reach();
        for (number, step) in list(&scenario["steps"]).iter().enumerate() {
            let at = format!("{} step {number}: {}", scenario["name"], step["op"]);
            // The original lets both keep the range, and give it out twice: see `conflicts`.
            let decided = ["deliver", "2", "3"];
            if scenario["name"] == "rmpeer-on-two-hosts"
                && step["op"] == decided[0]
                && decided.contains(&step["message"].to_string().as_str())
            {
                break;
            }
            if step["error_kind"] == "newer-version-of-mine" {
                play.conflict(step, &at);
                break;
            }
            play.step(step, &at);
        }
        if let Some(store) = scenario.get("store_after") {
            let disk = play.nodes["A"].disk.read();
            assert_eq!(disk, stored(store), "{}", scenario["name"]);
        }
    }

    /// The original breaks with the sender; ours keeps what it has, and tells so.
    fn conflict(&mut self, step: &Value, at: &str) {
        let (source, message) = &self.messages[&step["message"].as_u64().unwrap()];
        let allocator = &mut self.nodes.get_mut(text(&step["to"])).unwrap().allocator;
        let used = allocator.space().used().clone();
        assert_eq!(allocator.handle_gossip(self.now, Some(*source), message), Ok(()), "{at}");
        assert_eq!(*allocator.space().used(), used, "{at}");
        let report = allocator.report();
        assert!(report.conflicts.iter().any(|conflict| conflict.peer == *source), "{at}");
        let told = std::iter::from_fn(|| allocator.poll_output());
        assert!(told.into_iter().any(|output| output == Output::Broadcast), "{at}");
    }

    fn update_reach(&mut self) {
        let all: BTreeSet<PeerName> = self.names.keys().copied().collect();
        for node in self.nodes.values_mut() {
            node.allocator.set_reachable(all.difference(&self.out_of_reach).copied().collect());
        }
    }

    fn step(&mut self, step: &Value, at: &str) {
        let request = RequestId(u64::try_from(self.operations.len()).unwrap());
        let now = self.now;
        // Whom the original asked.
        for emit in list(&step["emits"]) {
            if emit["message"] == "space-request" {
                let donor = self.nodes[text(&emit["to"])].name;
                self.nodes.get_mut(text(&emit["from"])).unwrap().allocator.favourite = Some(donor);
            }
        }
        let label = step["peer"].as_str().or(step["to"].as_str()).unwrap_or_default();
        let ident = step["ident"].as_str().unwrap_or_default();
        let is_container = step["is_container"] == true;
        let mut error = None;
        if let Some(node) = self.nodes.get_mut(label) {
            let allocator = &mut node.allocator;
            match text(&step["op"]) {
                "allocate" => {
                    let subnet = text(&step["subnet"]);
                    self.operations.insert(request, format!("allocate {ident} {subnet}"));
                    allocator.allocate(now, request, ident, subnet.parse().unwrap(), is_container);
                }
                "claim" => {
                    let cidr = text(&step["cidr"]);
                    self.operations.insert(request, format!("claim {ident} {cidr}"));
                    let lenient = step["no_error_on_unknown"] == true;
                    allocator.claim(
                        now,
                        request,
                        ident,
                        cidr.parse().unwrap(),
                        is_container,
                        lenient,
                    );
                }
                "free" => {
                    let address = address(&step["address"]).into();
                    error = allocator.release(now, ident, address).err().map(|e| answer_kind(&e));
                }
                "delete" => {
                    error = allocator.release_all(now, ident).err().map(|e| answer_kind(&e));
                }
                "container-died" => allocator.container_died(now, ident),
                "container-destroyed" => allocator.container_destroyed(now, ident),
                "prune-owned" => {
                    let keep: Vec<&str> = list(&step["keep"]).iter().map(text).collect();
                    allocator.prune(now, &keep);
                }
                "advance-clock" => {
                    self.now += Duration::from_secs(step["seconds"].as_u64().unwrap());
                }
                "tick" => allocator.tick_at(now),
                "deliver" => {
                    let (source, message) = &self.messages[&step["message"].as_u64().unwrap()];
                    let result = match text(&step["as"]) {
                        "unicast" => allocator.handle_unicast(now, *source, message),
                        "broadcast" => allocator.handle_gossip(now, Some(*source), message),
                        "periodic" => allocator.handle_gossip(now, None, message),
                        other => panic!("{other}"),
                    };
                    assert_eq!(result, Ok(()), "{at}");
                    let other = |conflict: &Conflict| conflict.peer == *source;
                    let conflicts = allocator.report().conflicts;
                    // Where the original breaks with the sender, the ring is left out.
                    error = conflicts.iter().any(other).then_some("").and(expected_error(step));
                }
                "gossip-now" => node.sent.push((None, Sent::State(allocator.state(0)))),
                "set-unreachable" => {
                    let name = node.name;
                    if step["value"] == true {
                        self.out_of_reach.insert(name);
                        // The original takes nobody's time to believe that a peer is gone.
                        self.now += GONE_AFTER;
                    } else {
                        self.out_of_reach.remove(&name);
                    }
                    self.update_reach();
                }
                "admin-takeover" => {
                    let gained = allocator.take_over(now, text(&step["target"]));
                    assert_eq!(gained, number(&step["result_count"]), "{at}");
                }
                "shutdown" => {
                    allocator.shut_down(now);
                    node.left = true;
                }
                other => panic!("{other}"),
            }
        } else {
            assert_eq!(step["op"], "start");
        }
        assert_eq!(error, expected_error(step), "{at}");
        self.check_outputs(step, at);
    }

    fn check_outputs(&mut self, step: &Value, at: &str) {
        self.nodes.values_mut().for_each(Node::drain);
        // The original sends the state twice where it changes twice in one step.
        let emits = list(&step["emits"]);
        let repeated = |(number, emit): (usize, &Value)| {
            let mut later = emits.iter().skip(number + 1);
            emit["to"] == "*"
                && later.any(|later| later["to"] == "*" && later["from"] == emit["from"])
        };
        for (number, emit) in emits.iter().enumerate() {
            if repeated((number, emit)) {
                let sender = self.nodes[text(&emit["from"])].name;
                self.messages.insert(emit["id"].as_u64().unwrap(), (sender, bytes(&emit["hex"])));
            }
        }
        let mut emits = emits.iter().enumerate().filter(|emit| !repeated(*emit)).map(|emit| emit.1);
        for node in self.nodes.values_mut() {
            for (to, sent) in node.sent.drain(..) {
                let emit = emits.next().unwrap_or_else(|| panic!("{at}: sent {sent:?}"));
                let receiver = to.map_or("*", |to| self.names[&to].as_str());
                assert_eq!(emit["to"], receiver, "{at}");
                match sent {
                    Sent::State(state) => same_state(&state, &emit["payload"], at),
                    Sent::Unicast(Unicast::RingUpdate(state)) => {
                        assert_eq!(emit["message"], "ring-update", "{at}");
                        same_state(&state, &emit["payload"], at);
                    }
                    Sent::Unicast(Unicast::SpaceRequest(wanted)) => {
                        assert_eq!(emit["message"], "space-request", "{at}");
                        assert_eq!(wanted, range(&emit["range"]), "{at}");
                    }
                    Sent::Unicast(Unicast::Denied(denied)) => {
                        assert_eq!(emit["message"], "space-request-denied", "{at}");
                        assert_eq!(denied, range(&emit["range"]), "{at}");
                    }
                }
                // The others hear what the original said.
                let id = emit["id"].as_u64().unwrap();
                self.messages.insert(id, (node.name, bytes(&emit["hex"])));
            }
        }
        assert!(emits.next().is_none(), "{at}: did not send {:?}", step["emits"]);

        let mut answers = list(&step["completes"]).iter();
        for node in self.nodes.values_mut() {
            for (request, answer) in std::mem::take(&mut node.answers) {
                let operation = self.operations[&request].as_str();
                let expected = answers.next().unwrap_or_else(|| panic!("{at}: {operation}"));
                assert_eq!(expected["operation"], operation, "{at}");
                match answer {
                    Ok(Answer::Allocated(cidr)) => {
                        assert_eq!(cidr.address().to_bits(), address(&expected["address"]), "{at}");
                    }
                    Ok(_) => assert!(expected["error_kind"].is_null(), "{at}"),
                    Err(error) => assert_eq!(expected["error_kind"], answer_kind(&error), "{at}"),
                }
            }
        }
        assert!(answers.next().is_none(), "{at}: {:?} was not answered", step["completes"]);

        for (label, after) in step["after"].as_object().unwrap() {
            self.nodes.get_mut(label).unwrap().expected = after.clone();
        }
        for (label, node) in &self.nodes {
            node.check(&format!("{at}, {label}"));
            node.check_disk();
        }
    }
}

#[test]
fn scenarios() {
    for scenario in list(&load("ipam-ring.json")["scenarios"]) {
        Play::run(scenario);
    }
}
