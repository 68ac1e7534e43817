//! Members with connections that are up say anything in any order, and time passes: a control plane
//! with address allocation keeps its books in order, and its connection to an honest member.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{Gossip, PeerName, Unicast};
use weave_core::wire::gob::AtMost;
use weave_ipam::Range;
use weave_ipam::message::{CHANNEL, State, Unicast as Allocation};
use weave_ipam::ring::{Entry, RawRing};
use weave_soak::encounter::{Encounter, MEMBERS, name};
use weave_soak::records::{self, LinkRecord, Record};

#[derive(Arbitrary, Debug)]
struct Script {
    legacy: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Topology { member: u8, broadcast: bool, source: u8, records: Vec<Said> },
    Ring { member: u8, way: Way, source: u8, ring: Ring },
    Ask { member: u8, source: u8, destination: u8, denied: bool, start: u8, end: u8 },
    Gossip { member: u8, broadcast: bool, channel: u8, source: u8, data: Vec<u8> },
    Unicast { member: u8, channel: u8, source: u8, destination: u8, data: Vec<u8> },
    Sync { member: u8, kind: u8, entries: Vec<(u8, u8, u8, bool)> },
    Want { member: u8, names: Vec<u8> },
    Other { member: u8, tag: u8, payload: Vec<u8> },
    Echo { member: u8, which: u8, at: u16, value: u8 },
    Raw { member: u8, bytes: Vec<u8> },
    Connect { member: u8, as_member: u8, connection_id: u8 },
    Wait { tenths: u8 },
    Allocate,
}

#[derive(Arbitrary, Debug)]
enum Way {
    Gossip,
    Broadcast,
    Unicast,
}

#[derive(Arbitrary, Debug)]
struct Said {
    name: u8,
    uid: u8,
    version: u8,
    short_id: u16,
    links: Vec<(u8, u8, bool, bool)>,
}

#[derive(Arbitrary, Debug)]
struct Ring {
    peer: u8,
    entries: Vec<(u8, u8, u8, u8)>,
    seeds: Vec<u8>,
}

/// Members, the peer under test, and some that are not there.
fn peer(number: u8) -> PeerName {
    name(number % (3 * MEMBERS))
}

fn bytes(number: u8) -> Vec<u8> {
    peer(number).to_bytes().to_vec()
}

fn channel(number: u8) -> String {
    match number % 4 {
        0 => "topology".to_owned(),
        1 => CHANNEL.to_owned(),
        _ => format!("channel{number}"),
    }
}

/// Small numbers, and the largest.
fn version(number: u8) -> u64 {
    if number > 250 { u64::MAX - u64::from(u8::MAX - number) } else { u64::from(number) }
}

impl Said {
    fn record(&self) -> Record {
        let links = self.links.iter().map(|(name, address, outbound, established)| LinkRecord {
            name: bytes(*name),
            address: format!("10.0.0.{address}:6783"),
            outbound: *outbound,
            established: *established,
        });
        Record {
            name: bytes(self.name),
            nickname: "said".to_owned(),
            // The right incarnation, or another one.
            uid: if self.uid < 200 { 100 + u64::from(self.name) } else { u64::from(self.uid) },
            version: version(self.version),
            short_id: self.short_id,
            has_short_id: self.short_id % 7 > 0,
            links: links.collect(),
        }
    }
}

impl Ring {
    fn state(&self) -> State {
        let start = 0x0a20_0000;
        let mut entries: Vec<Entry> = self
            .entries
            .iter()
            .map(|(token, peer, version, free)| Entry {
                token: start + u32::from(token % 64),
                peer: self::peer(*peer),
                version: u32::from(*version),
                free: u32::from(*free),
            })
            .collect();
        entries.sort_by_key(|entry| entry.token);
        let seeds = if self.seeds.is_empty() {
            (0..=MEMBERS).map(name).collect()
        } else {
            self.seeds.iter().map(|seed| peer(*seed)).collect()
        };
        let ring = RawRing {
            start,
            end: start + 64,
            peer: peer(self.peer),
            entries: AtMost(entries),
            seeds: AtMost(seeds),
        };
        State { ring: Some(ring), ..State::default() }
    }
}

fn unicast(channel: &str, source: u8, destination: u8, data: &[u8]) -> Vec<u8> {
    Unicast { channel, source: peer(source), destination: peer(destination), data }.encode()
}

fn gossip(channel: &str, source: u8, data: &[u8]) -> Vec<u8> {
    Gossip { channel, source: peer(source), data }.encode()
}

fn play(encounter: &mut Encounter, step: Step, legacy: u8) {
    match step {
        Step::Topology { member, broadcast, source, records } => {
            let records: Vec<Record> = records.iter().map(Said::record).collect();
            let payload = gossip("topology", source, &records::encode(&records));
            encounter.say(member, if broadcast { 6 } else { 4 }, &payload);
        }
        Step::Ring { member, way, source, ring } => {
            let state = ring.state();
            match way {
                Way::Gossip => encounter.say(member, 4, &gossip(CHANNEL, source, &state.encode())),
                Way::Broadcast => {
                    encounter.say(member, 6, &gossip(CHANNEL, source, &state.encode()));
                }
                Way::Unicast => {
                    let data = Allocation::RingUpdate(state).encode();
                    encounter.say(member, 5, &unicast(CHANNEL, source, MEMBERS, &data));
                }
            }
        }
        Step::Ask { member, source, destination, denied, start, end } => {
            let (start, end) = (start.min(end) % 64, start.max(end) % 65);
            let base = 0x0a20_0000;
            let end = start.max(end);
            let range = Range::new(base + u32::from(start), base + u32::from(end));
            let data = if denied {
                Allocation::Denied(range).encode()
            } else {
                Allocation::SpaceRequest(range).encode()
            };
            encounter.say(member, 5, &unicast(CHANNEL, source, destination, &data));
        }
        Step::Gossip { member, broadcast, channel, source, data } => {
            let payload = gossip(&self::channel(channel), source, &data);
            encounter.say(member, if broadcast { 6 } else { 4 }, &payload);
        }
        Step::Unicast { member, channel, source, destination, data } => {
            let payload = unicast(&self::channel(channel), source, destination, &data);
            encounter.say(member, 5, &payload);
        }
        Step::Sync { member, kind, mut entries } => {
            entries.sort_by_key(|(name, ..)| peer(*name));
            entries.dedup_by_key(|(name, ..)| peer(*name));
            let mut payload = vec![kind % 4];
            for (name, uid, version, has_short_id) in entries {
                payload.extend(bytes(name));
                payload.extend((100 + u64::from(uid)).to_be_bytes());
                payload.extend(self::version(version).to_be_bytes());
                payload.push(u8::from(has_short_id));
            }
            encounter.say(member, 64, &payload);
        }
        Step::Want { member, names } => {
            let mut names: Vec<Vec<u8>> = names.into_iter().map(bytes).collect();
            names.sort();
            names.dedup();
            encounter.say(member, 64, &[&[4], &names.concat()[..]].concat());
        }
        Step::Other { member, tag, payload } => encounter.say(member, tag, &payload),
        Step::Echo { member, which, at, value } => encounter.echo(member, which, at, value),
        Step::Raw { member, bytes } => encounter.say_raw(member, &bytes),
        // The honest member connects once, and nobody takes its name before it is there.
        Step::Connect { member, as_member, connection_id } => {
            let member = 1 + member % (MEMBERS - 1);
            encounter.connect(member, as_member % MEMBERS, legacy, connection_id);
        }
        Step::Wait { tenths } => encounter.wait(Duration::from_millis(u64::from(tenths) * 100)),
        Step::Allocate => encounter.allocate(),
    }
}

fuzz_target!(|script: Script| {
    // The honest member is one that answers no probes: it says nothing.
    let legacy = script.legacy;
    let mut encounter = Encounter::new(legacy);
    for step in script.steps.into_iter().take(200) {
        play(&mut encounter, step, legacy);
    }
    encounter.end();
});
