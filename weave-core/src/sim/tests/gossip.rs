//! What is said, how often, and to whom.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::mesh::PeerName;
use crate::mesh::gossip::{Channel, Data, GossipError, Outbox};
use crate::time::Instant;

/// Everything one participant heard, and the words it knows.
#[derive(Default)]
struct Heard {
    unicasts: Vec<Vec<u8>>,
    broadcasts: Vec<Vec<u8>>,
    words: BTreeSet<u8>,
}

/// A channel whose state is a set of bytes.
struct Words(Arc<Mutex<Heard>>);

struct Set(BTreeSet<u8>);

impl Data for Set {
    fn merge(&self, newer: &dyn Data) -> Arc<dyn Data> {
        let newer: &dyn std::any::Any = newer;
        let newer = newer.downcast_ref::<Self>().unwrap();
        Arc::new(Self(self.0.union(&newer.0).copied().collect()))
    }

    fn encode(&self) -> Vec<Bytes> {
        vec![self.0.iter().copied().collect::<Vec<u8>>().into()]
    }
}

impl Channel for Words {
    fn handle_unicast(
        &mut self,
        _: Instant,
        _: PeerName,
        payload: &[u8],
        _: &mut Outbox,
    ) -> Result<(), GossipError> {
        if payload.contains(&0) {
            return Err(GossipError::Content("0 is not a word".to_owned()));
        }
        self.0.lock().unwrap().unicasts.push(payload.to_vec());
        Ok(())
    }

    fn handle_broadcast(
        &mut self,
        _: Instant,
        _: PeerName,
        payload: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        self.0.lock().unwrap().broadcasts.push(payload.to_vec());
        Ok(Some(Arc::new(Set(payload.iter().copied().collect()))))
    }

    fn handle_gossip(
        &mut self,
        _: Instant,
        payload: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        if payload.contains(&0) {
            return Err(GossipError::Content("0 is not a word".to_owned()));
        }
        let words = &mut self.0.lock().unwrap().words;
        let news: BTreeSet<u8> = payload.iter().copied().filter(|w| words.insert(*w)).collect();
        Ok(if news.is_empty() { None } else { Some(Arc::new(Set(news))) })
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        Some(Arc::new(Set(self.0.lock().unwrap().words.clone())))
    }
}

/// Lets a host take part in the channel.
fn join(net: &mut Net, host: HostId) -> Arc<Mutex<Heard>> {
    let heard = Arc::<Mutex<Heard>>::default();
    let words = Box::new(Words(Arc::clone(&heard)));
    net.ask(host, |router, now| router.update(now, |mesh| mesh.add_channel("words", words)));
    heard
}

fn gossip(net: &mut Net, host: HostId, words: &[u8]) {
    let data = Arc::new(Set(words.iter().copied().collect()));
    net.ask(host, |router, now| router.update(now, |mesh| mesh.gossip(now, "words", data)));
}

#[test]
fn gossip_passes_routers_that_do_not_take_part() {
    let (mut net, hosts) = line(50, 5);
    let [first, last] = [join(&mut net, hosts[0]), join(&mut net, hosts[4])];
    gossip(&mut net, hosts[0], b"abc");
    net.run_for(2 * SECOND);
    assert_eq!(last.lock().unwrap().words, BTreeSet::from(*b"abc"));
    assert!(first.lock().unwrap().words.is_empty(), "what one says oneself does not come back");
}

#[test]
fn state_reaches_those_who_come_later() {
    let (mut net, hosts) = full_mesh(51, 4);
    let all: Vec<_> = hosts.iter().map(|host| join(&mut net, *host)).collect();
    all[0].lock().unwrap().words.extend(*b"xyz");
    net.run_for(MINUTE + 5 * SECOND);
    for heard in &all {
        assert_eq!(heard.lock().unwrap().words, BTreeSet::from(*b"xyz"));
    }
}

#[test]
fn a_broadcast_is_heard_once_by_everyone() {
    let (mut net, hosts) = full_mesh(52, 8);
    let all: Vec<_> = hosts.iter().map(|host| join(&mut net, *host)).collect();
    let data = Arc::new(Set(BTreeSet::from(*b"hey")));
    net.ask(hosts[3], |router, now| router.update(now, |m| m.broadcast(now, "words", data)));
    net.run_for(2 * SECOND);
    for (host, heard) in hosts.iter().zip(&all) {
        let expected = usize::from(*host != hosts[3]);
        assert_eq!(heard.lock().unwrap().broadcasts.len(), expected, "{host:?}");
    }
}

#[test]
fn a_unicast_goes_over_many_hops_to_one_peer() {
    let (mut net, hosts) = line(53, 5);
    let all: Vec<_> = hosts.iter().map(|host| join(&mut net, *host)).collect();
    let to = net.name(hosts[4]);
    let payload = Bytes::from_static(b"psst");
    net.ask(hosts[0], |router, now| {
        router.update(now, |mesh| mesh.unicast(now, "words", to, payload));
    });
    net.run_for(2 * SECOND);
    let counts: Vec<usize> = all.iter().map(|heard| heard.lock().unwrap().unicasts.len()).collect();
    assert_eq!(counts, [0, 0, 0, 0, 1]);
}

#[test]
fn what_a_channel_refuses_parts_nobody() {
    let (mut net, hosts) = line(54, 4);
    // The second one relays what it does not understand.
    let _heard = [join(&mut net, hosts[0]), join(&mut net, hosts[2])];
    let to = net.name(hosts[2]);
    for round in 0..100_u8 {
        gossip(&mut net, hosts[0], &[0, round]);
        for channel in ["topology", "words"] {
            let payload = Bytes::from(vec![0, round]);
            net.ask(hosts[0], |router, now| {
                router.update(now, |mesh| mesh.unicast(now, channel, to, payload));
            });
        }
        net.run_for(SECOND / 2);
    }
    let counters = |host: HostId| net.router(host).unwrap().mesh().report().counters;
    assert!(counters(hosts[2]).gossip_refused >= 100, "{:?}", counters(hosts[2]));
    for host in &hosts {
        let ended =
            |event: &Event| matches!(event, Event::Mesh(mesh::Event::ConnectionEnded { .. }));
        assert_eq!(net.events(*host).iter().filter(|event| ended(event)).count(), 0, "{host:?}");
    }
    let told = net.events(hosts[2]).iter().filter(|event| {
        matches!(event, Event::Mesh(mesh::Event::GossipDropped { channel, reason, .. })
            if channel == "words" && reason == "0 is not a word")
    });
    assert_eq!(told.count(), 1, "once a minute, whatever comes");
    net.converged().unwrap();
}

#[test]
fn a_mesh_at_rest_says_little() {
    let (mut net, hosts) = full_mesh(55, 16);
    net.run_for(MINUTE);
    let before = net.traffic();
    net.run_for(10 * MINUTE);
    let after = net.traffic();
    let (links, routers) = (16 * 15, hosts.len() as u64);
    // Two heartbeats a minute at each end, and two digests a minute to eight neighbours.
    assert!(after.messages - before.messages <= 10 * (2 * links + 2 * 8 * routers) + links);
    assert!(after.bytes - before.bytes < 10 * 16 * 15 * 60, "digests, not records");
}

#[test]
fn one_change_is_told_to_everyone_without_a_storm() {
    let (mut net, hosts) = full_mesh(56, 16);
    net.run_for(MINUTE);
    let before = net.traffic();
    net.kill(hosts[5]);
    net.run_for(5 * SECOND);
    net.fully_meshed().unwrap();
    let after = net.traffic();
    // 15 routers lost a connection; what each has to say takes 14 records, and 8 offers and as
    // many wants at each router that hears of it.
    let changes = 15;
    let gossip = after.gossip - before.gossip;
    assert!(gossip < changes * 15 * 4, "{gossip} messages");
}
