//! The kernel's Open vSwitch datapath itself, with the test in the place of the router.
//!
//! ```text
//!   inside the switch's namespace: datapath "dp"
//!   a ─── port a │ dp │ port b ─── b
//! ```

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use weave_odp::{
    Action, Client, Datapath, Errno, Ethernet, Flow, FlowMatch, Masked, PortNumber, Tunnel,
    Upcalls, Vport, VportEvent, VportEvents, VportKind,
};
use weave_testbed::{Lab, Namespace};

use crate::{SOON, lab};

/// A namespace with the interfaces `a` and `b`, which lead to namespaces with addresses.
fn switch(lab: &Lab) -> Result<(Namespace, [Namespace; 2])> {
    let switch = lab.namespace("switch")?;
    let make = |name: &str, number: u8| -> Result<Namespace> {
        let end = lab.namespace(name)?;
        switch
            .ip(&format!("link add name {name} type veth peer name eth0 netns {}", end.name()))?;
        switch.ip(&format!("link set dev {name} up"))?;
        end.ip(&format!("link set eth0 address 02:00:00:00:00:0{number}"))?;
        end.ip(&format!("addr add 10.9.0.{number}/24 dev eth0"))?;
        end.ip("link set eth0 up")?;
        Ok(end)
    };
    let ends = [make("a", 1)?, make("b", 2)?];
    Ok((switch, ends))
}

fn datapath_with_ports(client: &mut Client) -> Result<(Datapath, [Vport; 2])> {
    let datapath = client.create_datapath("dp")?;
    let a = client.create_vport(datapath.id, "a", VportKind::Netdev)?;
    let b = client.create_vport(datapath.id, "b", VportKind::Netdev)?;
    Ok((datapath, [a, b]))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, weave_odp::Error>, errno: Errno) {
    let error = result.expect_err("refused");
    assert_eq!(error.errno(), Some(errno), "{error}");
}

#[test]
fn datapaths_and_ports_come_and_go() -> Result<()> {
    let lab = lab()?;
    let (switch, _ends) = switch(&lab)?;
    switch.enter(|| -> Result<()> {
        let mut client = Client::open()?;
        refused(client.datapath("dp"), Errno::ENODEV);
        let mut events = VportEvents::open(client.families())?;
        let (datapath, [a, b]) = datapath_with_ports(&mut client)?;
        refused(client.create_datapath("dp"), Errno::EEXIST);
        ensure!(client.datapath("dp")?.id == datapath.id);
        let again = client.create_vport(datapath.id, "a", VportKind::Netdev);
        ensure!(again.is_err_and(|error| error.errno().is_some()));
        refused(client.create_vport(datapath.id, "nobody", VportKind::Netdev), Errno::ENODEV);

        let kind = VportKind::Vxlan { udp_port: Some(6784) };
        let vxlan = client.create_vport(datapath.id, "vxlan-6784", kind)?;
        ensure!(vxlan.kind == kind, "{vxlan:?}");
        refused(client.create_vport(datapath.id, "vxlan-6784", kind), Errno::EEXIST);
        let names: BTreeSet<_> =
            client.vports(datapath.id)?.into_iter().map(|vport| vport.name).collect();
        let expected: BTreeSet<_> = ["dp", "a", "b", "vxlan-6784"].map(str::to_owned).into();
        ensure!(names == expected, "{names:?}");
        ensure!(client.vport(datapath.id, b.number)?.name == "b");

        client.delete_vport(datapath.id, a.number)?;
        refused(client.vport(datapath.id, a.number), Errno::ENODEV);
        refused(client.delete_vport(datapath.id, a.number), Errno::ENODEV);
        let mut told = Vec::new();
        while let Some(event) = events.poll_event()? {
            told.push(match event {
                VportEvent::Present(vport) => format!("+{}", vport.name),
                VportEvent::Deleted(vport) => format!("-{}", vport.name),
                other => format!("{other:?}"),
            });
        }
        // The kernel says nothing of the port that a datapath is born with.
        ensure!(told == ["+a", "+b", "+vxlan-6784", "-a"], "{told:?}");

        client.delete_datapath(datapath.id)?;
        refused(client.delete_datapath(datapath.id), Errno::ENODEV);
        refused(client.vports(datapath.id), Errno::ENODEV);
        Ok(())
    })??;
    lab.finish()
}

/// Answers misses between `a` and `b`, by a flow each, until both have one for each direction.
fn connect(client: &mut Client, datapath: &Datapath, ports: &[Vport; 2]) -> Result<BTreeSet<u32>> {
    let mut sockets = [Upcalls::open(client.families())?, Upcalls::open(client.families())?];
    let ids = sockets.each_ref().map(Upcalls::port_id);
    let mut used = BTreeSet::new();
    for port in ports {
        client.set_upcalls(datapath.id, port.number, &ids)?;
    }
    let deadline = Instant::now() + SOON;
    while client.flows(datapath.id)?.flows.len() < 4 {
        ensure!(Instant::now() < deadline, "there are not enough misses");
        for (socket, id) in sockets.iter_mut().zip(ids) {
            readable(socket);
            let mut upcalls = Vec::new();
            socket.drain(16, |upcall| {
                if let Ok(upcall) = upcall {
                    upcalls.push((upcall.key, upcall.packet.to_vec()));
                }
            })?;
            for (key, packet) in upcalls {
                used.insert(id);
                ensure!(key.ethernet.destination.as_slice() == &packet[..6] && key.tag.is_none());
                let [a, b] = ports;
                let out = if key.in_port == a.number { b.number } else { a.number };
                let actions = vec![Action::Output(out)];
                client.execute(datapath.id, &packet, &actions)?;
                // IPv6 has something to say as well.
                if key.ethernet.destination[0] != 0x33 {
                    let matches = FlowMatch::new(key.in_port, Masked::exact(key.ethernet));
                    client.put_flow(datapath.id, &Flow { matches, actions })?;
                }
            }
        }
    }
    Ok(used)
}

fn readable(socket: &Upcalls) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(Duration::from_millis(5)).expect("short");
    // What is there is looked at anyway.
    let _ = poll(&mut fds, limit);
}

#[test]
fn packets_miss_and_then_flow() -> Result<()> {
    let lab = lab()?;
    let (switch, [a, b]) = switch(&lab)?;
    let asker = std::thread::spawn({
        let mut ping = a.command("ping");
        ping.args(["-q", "-i", "0.1", "-c", "20", "10.9.0.2"]);
        // Nobody has this address: a broadcast the other way round.
        let mut question = b.command("ping");
        question.args(["-q", "-c", "1", "-W", "1", "10.9.0.99"]);
        move || (question.output(), ping.output())
    });
    switch.enter(|| -> Result<()> {
        let mut client = Client::open()?;
        let (datapath, ports) = datapath_with_ports(&mut client)?;
        connect(&mut client, &datapath, &ports)?;
        Ok(())
    })??;
    let (question, ping) = asker.join().expect("no panic");
    ensure!(!question?.status.success() && ping?.status.success(), "pings are answered");
    // Nobody answers misses now.
    a.exec("ping -q -i 0.05 -c 20 10.9.0.2")?;
    switch.enter(|| -> Result<()> {
        let mut client = Client::open()?;
        let datapath = client.datapath("dp")?.id;
        let dump = client.flows(datapath)?;
        ensure!(dump.skipped.is_empty(), "{:?}", dump.skipped);
        let busy = dump.flows.iter().filter(|dumped| dumped.stats.packets >= 20).count();
        ensure!(busy >= 2, "{:?}", dump.flows);
        for dumped in &dump.flows {
            ensure!(dumped.flow.matches.other.is_empty(), "{:?}", dumped.flow);
        }
        let used = dump.flows.iter().find(|dumped| dumped.stats.used.is_some());
        let used = &used.context("no flow was used")?.flow;
        client.clear_flow(datapath, used)?;
        let cleared = client.flows(datapath)?.flows;
        let cleared = cleared.iter().find(|dumped| dumped.flow == *used).context("it is gone")?;
        ensure!(cleared.stats == weave_odp::FlowStats::default(), "{cleared:?}");
        client.delete_flow(datapath, &used.matches)?;
        refused(client.delete_flow(datapath, &used.matches), Errno::ENOENT);
        client.delete_flows(datapath)?;
        ensure!(client.flows(datapath)?.flows.is_empty());
        client.delete_datapath(datapath)?;
        Ok(())
    })??;
    lab.finish()
}

#[test]
fn the_kernel_lists_flows_as_they_were_put() -> Result<()> {
    let lab = lab()?;
    let (switch, _ends) = switch(&lab)?;
    switch.enter(|| -> Result<()> {
        let mut client = Client::open()?;
        let (datapath, [a, b]) = datapath_with_ports(&mut client)?;
        let kind = VportKind::Vxlan { udp_port: Some(6784) };
        let vxlan = client.create_vport(datapath.id, "vxlan-6784", kind)?;
        let addresses = Ethernet { source: [2, 0, 0, 0, 0, 1], destination: [2, 0, 0, 0, 0, 2] };
        let came = Tunnel {
            id: 0x0004_d841,
            source: [192, 0, 2, 12].into(),
            destination: [192, 0, 2, 11].into(),
            ..Tunnel::ZERO
        };
        let goes = Tunnel {
            id: 0x0008_4123,
            source: [192, 0, 2, 11].into(),
            destination: [192, 0, 2, 13].into(),
            ttl: 64,
            dont_fragment: true,
            ..Tunnel::ZERO
        };
        let from = |port: PortNumber, ethernet, tunnel: Option<Tunnel>| {
            let mut matches = FlowMatch::new(port, ethernet);
            matches.tunnel = tunnel.map(Masked::<Tunnel>::ends);
            matches
        };
        let out = vec![Action::SetTunnel(goes), Action::Output(vxlan.number)];
        let exact = Masked::exact(addresses);
        let mut flows = vec![
            Flow { matches: from(a.number, exact, None), actions: out.clone() },
            Flow {
                matches: from(vxlan.number, exact, Some(came)),
                actions: vec![Action::Output(a.number), Action::Output(b.number)],
            },
            // A relay: whatever the addresses are.
            Flow {
                matches: from(vxlan.number, Masked::<Ethernet>::ANY, Some(goes)),
                actions: out.clone(),
            },
            // A drop.
            Flow { matches: from(b.number, exact, None), actions: Vec::new() },
        ];
        for flow in &flows {
            client.put_flow(datapath.id, flow)?;
        }
        let listed = |client: &mut Client| -> Result<Vec<Flow>> {
            let dump = client.flows(datapath.id)?;
            let mut flows: Vec<_> = dump.flows.into_iter().map(|dumped| dumped.flow).collect();
            flows.sort_by(|a, b| a.matches.cmp(&b.matches));
            Ok(flows)
        };
        flows.sort_by(|a, b| a.matches.cmp(&b.matches));
        let found = listed(&mut client)?;
        ensure!(found == flows, "{found:#?}");
        // Put again, it does something else from now on.
        flows[0].actions = vec![Action::Output(b.number)];
        client.put_flow(datapath.id, &flows[0])?;
        ensure!(listed(&mut client)? == flows);
        client.delete_datapath(datapath.id)?;
        Ok(())
    })??;
    lab.finish()
}
