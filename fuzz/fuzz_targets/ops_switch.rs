//! Frames from everywhere, in any order, while time passes and peers leave.
#![no_main]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::PeerName;
use weave_core::switch::{
    Arrival, Envelope, Forwarded, Forwarder, ForwardingTable, Frame, Inject, MAX_RELAYS,
    NeighbourLinks, Switch, Topology, Worker, WorkerId,
};
use weave_core::time::Instant;
use weave_core::wire::MacAddress;

/// 1 is here, 2 and 3 are neighbours, 4 is behind 3; 5 is known and out of reach.
struct Routes;

impl Topology for Routes {
    fn next_hops(&self) -> Vec<(PeerName, PeerName)> {
        [(2, 2), (3, 3), (4, 3)].map(|(to, via)| (peer(to), peer(via))).into()
    }

    fn broadcast(&self, source: PeerName) -> Vec<PeerName> {
        [2, 3].map(peer).into_iter().filter(|&hop| hop != source).collect()
    }

    fn knows(&self, name: PeerName) -> bool {
        (1..=5).any(|n| peer(n) == name)
    }
}

struct Link(PeerName, Arc<Mutex<Vec<PeerName>>>);

impl Forwarder for Link {
    fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        if envelope.frame.bytes.len() > 100 {
            return Forwarded::TooBig { mtu: 86 };
        }
        assert!(!envelope.broadcast || envelope.destination == self.0);
        assert!(envelope.relays <= MAX_RELAYS);
        self.1.lock().unwrap().push(self.0);
        Forwarded::Accepted
    }

    fn flush(&self, _: WorkerId) {}
}

#[derive(Default)]
struct Bridge(usize);

impl Inject for Bridge {
    fn inject(&mut self, _: Frame<'_>) {
        self.0 += 1;
    }
}

fn station(n: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, n])
}

fn peer(n: u8) -> PeerName {
    PeerName::from_bytes([2, 0, 0, 0, 0, n])
}

fuzz_target!(|operations: &[u8]| {
    let switch = Arc::new(Switch::new(peer(1), 1));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let links = [2, 3].map(|n| NeighbourLinks {
        name: peer(n),
        forwarders: vec![Arc::new(Link(peer(n), sent.clone()))],
    });
    switch.publish(ForwardingTable::new(peer(1), Arc::new(Routes), links.into()));
    let mut worker = Worker::new(switch.clone()).unwrap();
    let mut now = Instant::ORIGIN;
    let mut attached = BTreeSet::new();
    let mut rest = operations;
    while let [kind, a, b, c, more @ ..] = rest {
        let length = usize::from(*kind >> 3) * 8;
        let (tail, more) = more.split_at(length.min(more.len()));
        rest = more;
        let mut frame = vec![2 - (a & 1), 0, 0, 0, 0, a & 7, 2, 0, 0, 0, 0, b & 7];
        frame.extend(tail);
        let mut bridge = Bridge::default();
        match kind & 7 {
            0..=2 => {
                worker.pass(now, &mut bridge).captured(Frame::plain(&frame));
                // Only the answer to a frame that is too big.
                assert!(bridge.0 == 0 || frame.len() > 100);
            }
            3..=5 => {
                let neighbour = peer(2 + (c & 1));
                let (source, destination) = (peer(c >> 1 & 7), peer(c >> 4 & 7));
                let arrival = Arrival { neighbour, source, destination, relays: a >> 3 };
                let sender = station(b & 7);
                let pinned =
                    attached.contains(&sender) && switch.macs().lookup(sender) == Some(peer(1));
                worker.pass(now, &mut bridge).received(arrival, Frame::plain(&frame));
                assert!(!pinned || switch.macs().lookup(sender) == Some(peer(1)));
                let answered = frame.len() > 100;
                assert!(answered || !sent.lock().unwrap().contains(&neighbour));
                assert!(answered || bridge.0 <= usize::from(arrival.destination == peer(1)));
            }
            6 => now += Duration::from_millis(u64::from(*a) * 100),
            _ => {
                attached = (0..8).filter(|bit| c >> bit & 1 == 1).map(station).collect();
                switch.macs().attach(attached.clone());
                switch.macs().remove_peers(&[peer(a & 7)]);
                switch.macs().sweep(now);
            }
        }
        sent.lock().unwrap().clear();
    }
    drop(worker);
    for station in switch.macs().entries() {
        assert!(Routes.knows(station.peer) && !station.mac.is_multicast());
    }
    assert_eq!(switch.macs().len(), switch.macs().entries().len());
    let report = switch.report();
    assert!(report.injected <= report.received + report.too_big_answers);
});
