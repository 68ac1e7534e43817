//! Members that invent peers by the thousand.

use std::collections::BTreeSet;
use std::ops::Range;

use super::circles::{record, tell};
use super::*;
use crate::mesh::{PeerName, Peers, Random, Uid};

/// What a member says that has so many invented peers behind it.
fn crowd(net: &Net, member: HostId, router: HostId, invented: Range<u64>) -> Vec<bytes::Bytes> {
    let own = net.router(member).unwrap().mesh().peers().own();
    let name = |number| PeerName::from_u64(number).unwrap();
    let neighbours: Vec<PeerName> =
        std::iter::once(net.name(router)).chain(invented.clone().map(name)).collect();
    let version = own.version.max(2 * neighbours.len() as u64) + 100;
    let mut random = Random::new([1; 32]);
    let mut table =
        Peers::new(name(1), String::new(), Uid(1), crate::mesh::ShortId::new(1).unwrap());
    let mut add = |payload: &[u8]| {
        let _ = table.apply_update(payload, &mut random).unwrap();
    };
    add(&record(own.name, own.uid, version, &neighbours));
    for number in invented.clone() {
        add(&record(name(number), Uid(7), 2, &[own.name]));
    }
    let told: BTreeSet<PeerName> = invented.map(name).chain([own.name]).collect();
    table.encode(&told)
}

fn ended(net: &Net, host: HostId) -> usize {
    let ended = |event: &&Event| matches!(event, Event::Mesh(mesh::Event::ConnectionEnded { .. }));
    net.events(host).iter().filter(ended).count()
}

#[test]
fn two_crowds_that_do_not_fit_together_part_nobody_and_keep_nobody_out() {
    let mut net = Net::new(80);
    let mut host = || net.add_host_with(|config| config.discovery = false);
    let [a, b, first, second, newcomer] = [host(), host(), host(), host(), host()];
    net.connect(a, b);
    net.connect(first, a);
    net.connect(second, b);
    net.run_for(10 * SECOND);
    let before = [a, b].map(|host| ended(&net, host));
    for round in 0..10 {
        for (member, router, start) in [(first, a, 0x0b00_0000), (second, b, 0x0c00_0000)] {
            let lie = crowd(&net, member, router, start..start + 2200);
            tell(&mut net, member, lie);
        }
        net.run_for(SECOND);
        if round == 4 {
            assert!(net.router(a).unwrap().mesh().peers().count() > 4000, "the table is full");
            net.connect(newcomer, b);
        }
    }
    assert_eq!([a, b].map(|host| ended(&net, host)), before, "honest links stay");
    let routes = net.router(a).unwrap().mesh().routes();
    assert_eq!(routes.unicast(net.name(newcomer)), Some(net.name(b)), "who comes is known");
    let routes = net.router(newcomer).unwrap().mesh().routes();
    assert_eq!(routes.unicast(net.name(a)), Some(net.name(b)));
}
