//! A topology under updates from hostile peers, with connections that come and go.
//!
//! Input: operations, each a byte with its kind and its subject, an update with a length before
//! it.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{
    Features, Graph, PeerConnection, PeerName, Peers, Random, Routes, ShortId, Uid,
};

fn table(own: u64) -> Peers {
    let name = PeerName::from_u64(own).unwrap();
    Peers::new(name, "fuzz".into(), Uid(1001), ShortId::new(257).unwrap())
}

fn features(name: PeerName) -> Features {
    Features {
        name,
        nickname: "neighbour".into(),
        uid: Uid(2002),
        connection_id: 0,
        short_id: ShortId::new(514),
        trusted: false,
        overlays: None,
        further: BTreeMap::new(),
    }
}

/// What is kept to be fast says the same as what is computed anew.
fn check(peers: &mut Peers) {
    let anew = Graph::new(peers.iter().map(|peer| {
        let links = peer.connections.iter().map(|link| (link.remote, link.established));
        (peer.name, links.collect::<Vec<_>>())
    }));
    let graph = peers.graph();
    assert_eq!(*graph, anew);
    let routes = Routes::new(Arc::clone(&graph), peers.own().name);
    for peer in graph.names() {
        let hops = [routes.unicast(*peer), routes.unicast_all(*peer)];
        let neighbours =
            routes.broadcast_all(*peer).iter().copied().chain(hops.into_iter().flatten());
        for neighbour in neighbours {
            assert!(peers.own().connection(neighbour).is_some());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut random = Random::new([0; 32]);
    let mut peers = table(1);
    let mut held: BTreeMap<PeerName, usize> = BTreeMap::new();
    let mut rest = input;
    while let Some((operation, tail)) = rest.split_first() {
        rest = tail;
        let remote = PeerName::from_u64(2 + u64::from(operation >> 3)).unwrap();
        match operation % 5 {
            0 => {
                let Some((len, tail)) = rest.split_first_chunk() else { break };
                let len = usize::from(u16::from_be_bytes(*len)).min(tail.len());
                let (payload, tail) = tail.split_at(len);
                rest = tail;
                let before: Vec<_> = peers.iter().cloned().collect();
                match peers.apply_update(payload, &mut random) {
                    Ok(applied) => {
                        assert!(applied.delta.is_subset(&applied.names));
                        let again = peers.apply_update(payload, &mut random).unwrap();
                        assert!(again.delta.is_empty(), "what was seen is no news");
                    }
                    Err(_) => assert!(peers.iter().eq(&before), "applied in part"),
                }
            }
            1 => {
                if peers.register(&features(remote), true, &mut random).is_ok() {
                    *held.entry(remote).or_default() += 1;
                    let address = "192.0.2.1:6783".parse().unwrap();
                    peers.add_connection(PeerConnection::new(remote, address, true));
                }
            }
            2 => drop(peers.establish_connection(remote)),
            3 => {
                if let Some(count) = held.get_mut(&remote).filter(|count| **count > 0) {
                    *count -= 1;
                    peers.release(remote);
                    peers.remove_connection(remote);
                }
            }
            _ => {
                let collected = peers.collect_garbage(&mut random);
                assert!(collected.removed.iter().all(|peer| peers.get(peer.name).is_none()));
                let again = peers.collect_garbage(&mut random);
                assert!(again.removed.is_empty());
            }
        }
        check(&mut peers);
    }

    // Everybody else learns the same.
    let mut other = table(1 << 47);
    for payload in peers.encode_all() {
        // The other one has one more peer, which may be one too many.
        if other.apply_update(&payload, &mut random).is_err() {
            return;
        }
    }
    for peer in peers.iter().filter(|peer| peer.name != other.own().name) {
        assert_eq!(other.get(peer.name), Some(peer));
    }
});
