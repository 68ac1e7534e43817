//! Hosts in a row, of which the last one has no fast datapath.
//!
//! ```text
//!  c1 --- h1 === h2 === h3 --- c3
//!                       h3 ~~~ h4 --- c4
//! ```

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use weave_odp::{Action, DumpedFlow};
use weave_testbed::stream::Stream;
use weave_testbed::{Host, Router, RouterOptions, try_until};

use crate::flows::{
    all_arrive, counter, flows, frame, options, port_number, short_id, tunnelled, wait_transport,
    without,
};
use crate::{SOON, lab};

#[test]
fn relays_stay_in_the_kernel_and_others_go_by_the_sleeve() -> Result<()> {
    let (lab, started) = (lab()?, Instant::now());
    let step = |what: &str| println!("{:6.1} s: {what}", started.elapsed().as_secs_f64());
    let [h1, h2, h3, h4] = lab.hosts()?;
    let w12 = lab.wire(&h1, &h2, 1500)?;
    let w23 = lab.wire(&h2, &h3, 1500)?;
    let w34 = lab.wire(&h3, &h4, 1500)?;
    let alone = || options().no_discovery();
    let r1 = h1.router(alone())?;
    let r2 = h2.router(alone().peer(w12.a()))?;
    let r3 = h3.router(alone().peer(w23.a()))?;
    let r4 = h4.router(RouterOptions::sleeve().no_discovery().peer(w34.a()))?;
    for (router, transport) in [(&r1, "fastdp"), (&r2, "fastdp"), (&r4, "sleeve")] {
        wait_transport(router, transport)?;
    }
    for (router, count) in [(&r1, 1), (&r2, 2), (&r3, 2), (&r4, 1)] {
        router.wait_established(count, SOON)?;
        router.wait_peers(4, SOON)?;
    }
    step("connected");
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c3 = h3.container("c3", "10.32.0.3/12")?;
    let c4 = h4.container("c4", "10.32.0.4/12")?;
    c1.wait_ping("10.32.0.3", SOON)?;
    step("plugged");
    let before = tunnelled(&h2)?;
    without(&[&r1, &r2, &r3], || all_arrive(&c1, "10.32.0.3", 50))?;
    let relayed = tunnelled(&h2)? - before;
    ensure!(relayed >= 100, "{relayed} packets: {:#?}", flows(&h2)?);
    Stream::start(&c1, &c3, "10.32.0.3", 2_000_000)?.join()?;

    step("relayed");

    // The last hop is another transport: h3 gives it what came through the tunnel, and the other
    // way round.
    c1.wait_ping("10.32.0.4", SOON)?;
    all_arrive(&c1, "10.32.0.4", 20)?;
    Stream::start(&c1, &c4, "10.32.0.4", 1_000_000)?.join()?;
    Stream::start(&c4, &c1, "10.32.0.1", 1_000_000)?.join()?;
    ensure!(counter(&r3, "fastdp_by_hand")? > 0);
    step("by two transports");
    // What its own stations send there needs no look at each frame.
    c3.wait_ping("10.32.0.4", SOON)?;
    let (own, misses) = (port_number(&h3, "vethwe-tap")?, counter(&r3, "fastdp_flow_misses")?);
    Stream::start(&c3, &c4, "10.32.0.4", 2_000_000)?.join()?;
    let missed = counter(&r3, "fastdp_flow_misses")? - misses;
    ensure!(missed < 200, "{missed} of 1500 frames missed");
    let up = |flow: &&DumpedFlow| flow.flow.actions == [Action::Output(own)];
    let packets: u64 = flows(&h3)?.iter().filter(up).map(|flow| flow.stats.packets).sum();
    ensure!(packets > 20, "{packets} packets: {:#?}", flows(&h3)?);
    let captured = &r3.report()?["Router"]["CaptureStats"];
    let uncut = captured["captured_bytes"].as_u64().zip(captured["captured"].as_u64());
    ensure!(uncut.is_some_and(|(bytes, frames)| bytes / frames.max(1) > 1400), "{captured}");

    step("by the sleeve");
    nothing_turns_back([&h1, &h2, &h3], &r2)?;

    step("nothing turned back");
    // What is flooded arrives once everywhere.
    for (from, others) in [(&c1, [&c3, &c4]), (&c4, [&c1, &c3])] {
        let ports = others.map(|container| container.udp(5353));
        let socket = from.udp(0)?;
        for number in 0..3_u8 {
            socket.send_to(&[number], ("10.47.255.255", 5353))?;
        }
        for port in ports {
            let port = port?;
            port.set_read_timeout(Some(SOON))?;
            let mut buffer = [0; 8];
            for number in 0..3_u8 {
                let (length, _) = port.recv_from(&mut buffer)?;
                ensure!(buffer[..length] == [number], "{number}: {:?}", &buffer[..length]);
            }
        }
    }
    lab.finish()
}

/// How often each frame is sent that nobody may send back.
const SENT: u64 = 5;

/// What the first host sends to the second one and should come back to the first: the router
/// refuses it, and the kernel does from then on.
fn nothing_turns_back([h1, h2, h3]: [&Host; 3], r2: &Router<'_>) -> Result<()> {
    let [id1, id3] = [short_id(r2, h1)?, short_id(r2, h3)?];
    let (back, onward) = (id3 | id1 << 12, id1 | id3 << 12);
    // Packets of VXLAN that leave the second host, by their numbers.
    h2.namespace.exec("nft add table ip seen")?;
    h2.namespace.exec("nft add chain ip seen out { type filter hook output priority 0 ; }")?;
    for vni in [back, onward] {
        // Of VXLAN, and of the frame in it the destination.
        let inside = format!("@th,96,24 {vni:#x} @th,128,48 0x020202020202");
        let rule = format!("udp dport 6784 {inside} counter");
        h2.namespace.exec(&format!("nft add rule ip seen out {rule}"))?;
    }
    let open = || UdpSocket::bind(("0.0.0.0", 0));
    let neighbour = h1.namespace.enter(open)??;
    let send = |vni: u32| -> Result<()> {
        let packet =
            [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), &frame([2; 6], [4; 6])].concat();
        (0..SENT).try_for_each(|_| neighbour.send_to(&packet, ("192.168.1.2", 6784)).map(drop))?;
        Ok(())
    };
    let refused = |least: u64| {
        try_until("a flow that drops what would turn back", SOON, || {
            let flows = flows(h2)?;
            let from = |flow: &&DumpedFlow| {
                flow.flow.matches.tunnel.map(|tunnel| tunnel.key()).is_some_and(|tunnel| {
                    tunnel.id == u64::from(back) && tunnel.source == Ipv4Addr::new(192, 168, 1, 1)
                })
            };
            let flow = flows.iter().find(from).context("there is none")?;
            ensure!(flow.flow.actions.is_empty() && flow.stats.packets >= least, "{flow:?}");
            Ok(())
        })
    };
    send(back)?;
    refused(0)?;
    without(&[r2], || {
        send(back)?;
        refused(SENT)
    })?;
    send(onward)?;
    try_until("what goes onward, and nothing else", SOON, || {
        let seen = h2.namespace.exec("nft list chain ip seen out")?;
        let counts: Vec<_> = seen
            .split("counter packets ")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
            .collect();
        ensure!(matches!(counts[..], [0, sent] if sent >= SENT), "{seen}");
        Ok(())
    })
}
