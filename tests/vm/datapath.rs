//! Routers whose frames the kernel's Open vSwitch carries, which is what they choose where it is
//! there.
//!
//! ```text
//!  c1 --- weave ─ vethwe-bridge ═ vethwe-datapath ─ datapath ─ vxlan-6784 === h2, h3 ... --- c2
//!                                    vethwe-tap ─────┘  (what the sleeve carries)
//! ```

use std::process::{Child, Stdio};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weave_odp::{Action, DumpedFlow, Ethernet};
use weave_testbed::raw::RawPort;
use weave_testbed::stream::Stream;
use weave_testbed::{Container, Host, Router, try_until};

use crate::flows::{
    all_arrive, flows, frame, is_tunnelled, options, short_id, tunnelled, wait_transport, without,
};
use crate::{SOON, lab};

/// The tunnel identifiers by which the kernels of two hosts carry unicast by themselves, there and
/// back: one sends with it, and the other has taken some.
fn carried(hosts: [&Host; 2]) -> Result<[u64; 2]> {
    let [one, other] = [flows(hosts[0])?, flows(hosts[1])?];
    let used = |flow: &&DumpedFlow| flow.stats.packets > 0;
    let way = |from: &[DumpedFlow], to: &[DumpedFlow]| {
        let sent = from.iter().filter(used).find_map(|flow| match flow.flow.actions.as_slice() {
            [Action::SetTunnel(tunnel), Action::Output(_)] => Some(tunnel.id),
            _ => None,
        });
        let id = sent.with_context(|| format!("nothing sends unicast: {from:#?}"))?;
        let taken = |flow: &DumpedFlow| {
            flow.flow.matches.tunnel.is_some_and(|tunnel| tunnel.key().id == id)
        };
        ensure!(to.iter().filter(used).any(taken), "nothing takes {id:x}: {to:#?}");
        Ok(id)
    };
    Ok([way(&one, &other)?, way(&other, &one)?])
}

/// Packets that flows of this host sent with a tunnel identifier, by themselves.
fn sent_with(host: &Host, id: u64) -> Result<u64> {
    let flows = flows(host)?;
    let with_id = |flow: &&DumpedFlow| {
        let actions = flow.flow.actions.as_slice();
        matches!(actions, [.., Action::SetTunnel(tunnel), Action::Output(_)] if tunnel.id == id)
    };
    Ok(flows.iter().filter(with_id).map(|flow| flow.stats.packets).sum())
}

/// Pings that go on all the time, none of which may be lost.
struct Murmur(Child);

impl Murmur {
    fn start(from: &Container, to: &str) -> Result<Self> {
        let mut ping = from.namespace.command("ping");
        ping.args(["-q", "-i", "0.05", to]).stdout(Stdio::piped());
        Ok(Self(ping.spawn()?))
    }

    fn end(self) -> Result<()> {
        let Self(ping) = self;
        kill(Pid::from_raw(ping.id().try_into()?), Signal::SIGINT)?;
        let told = String::from_utf8(ping.wait_with_output()?.stdout)?;
        ensure!(told.contains(" 0% packet loss") && !told.contains("duplicates"), "{told}");
        Ok(())
    }
}

#[test]
fn frames_between_two_hosts_stay_in_the_kernel() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let r1 = h1.router(options())?;
    let r2 = h2.router(options().peer("192.168.50.1"))?;
    for router in [&r1, &r2] {
        wait_transport(router, "fastdp")?;
    }
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    all_arrive(&c1, "10.32.0.2", 50)?;
    for host in [&h1, &h2] {
        let carried = tunnelled(host)?;
        ensure!(carried >= 45, "{carried} packets: {:#?}", flows(host)?);
    }
    let report = r1.report()?;
    let datapath = &report["Router"]["OverlayDiagnostics"]["fastdp"];
    let ports = datapath["Vports"].to_string();
    ensure!(ports.contains(r#""Name":"vxlan-6784","TypeName":"vxlan""#), "{ports}");
    let listed = datapath["Flows"].as_array().context("no flows")?;
    let used = |flow: &&serde_json::Value| {
        flow["Packets"].as_u64() > Some(30)
            && flow["Actions"].to_string().contains("SetTunnelAction")
            && flow["FlowKeys"].to_string().contains("EthernetFlowKey")
    };
    ensure!(listed.iter().any(|flow| used(&flow)), "{listed:?}");
    ensure!(report["Router"]["CaptureStats"]["FlowMisses"].as_u64() > Some(0));
    ensure!(report["Router"]["Interface"] == "datapath (via ODP)");
    ensure!(r1.status("")?.contains("Fastdp: openvswitch"), "{}", r1.status("")?);
    let metrics = r1.get("/metrics")?.body;
    for name in ["weave_flows ", "weave_fastdp_flow_misses_total ", "weave_fastdp_flows_put_total "]
    {
        ensure!(metrics.contains(&format!("\n{name}")), "no {name}in {metrics}");
    }
    Stream::start(&c1, &c2, "10.32.0.2", 3_000_000)?.join()?;
    Stream::start(&c2, &c1, "10.32.0.1", 3_000_000)?.join()?;
    without(&[&r1, &r2], || {
        all_arrive(&c1, "10.32.0.2", 50)?;
        Stream::start(&c1, &c2, "10.32.0.2", 1_000_000)?.join().map(drop)
    })?;
    tagged_frames(&h1, &c1, &c2)?;
    nothing_turns_back(&h1, &r1, &c1)?;
    for router in [r1, r2] {
        router.stop()?;
    }
    lab.finish()
}

/// Two containers in a VLAN of their own.
fn tagged_frames(h1: &Host, c1: &Container, c2: &Container) -> Result<()> {
    for (container, number) in [(c1, 1), (c2, 2)] {
        container.namespace.ip("link add link ethwe name ethwe.7 type vlan id 7")?;
        container.namespace.ip(&format!("addr add 10.7.0.{number}/24 dev ethwe.7"))?;
        container.namespace.ip("link set ethwe.7 up")?;
    }
    c1.wait_ping("10.7.0.2", SOON)?;
    all_arrive(c1, "10.7.0.2", 20)?;
    Stream::start(c1, c2, "10.7.0.2", 1_000_000)?.join()?;
    let tagged = |flow: &&DumpedFlow| flow.flow.matches.tag == Some(0x8100) && is_tunnelled(flow);
    let packets: u64 = flows(h1)?.iter().filter(tagged).map(|flow| flow.stats.packets).sum();
    ensure!(packets > 20, "{packets} packets: {:#?}", flows(h1)?);
    Ok(())
}

/// Nobody has these.
const STRANGERS: [[u8; 6]; 2] = [[2, 0xaa, 0, 0, 0, 1], [2, 0xaa, 0, 0, 0, 2]];

/// What the bridge of the host floods, though its destination is where it came from, does not come
/// back to it.
fn nothing_turns_back(h1: &Host, r1: &Router<'_>, c1: &Container) -> Result<()> {
    let (port, [known, other]) = (RawPort::open(c1)?, STRANGERS);
    port.send(&frame([0xff; 6], known))?;
    // The bridge has forgotten where that is; the datapath has not.
    let send = || -> Result<()> {
        h1.namespace.ip("link set dev weave type bridge fdb_flush")?;
        port.send(&frame(known, other))
    };
    let refused = |least: u64| {
        try_until("a flow that drops what would turn back", SOON, || {
            send()?;
            let flows = flows(h1)?;
            let between = |flow: &&DumpedFlow| {
                let Ethernet { source, destination } = flow.flow.matches.ethernet.key();
                (source, destination) == (other, known)
            };
            let flow = flows.iter().find(between).context("there is none")?;
            ensure!(flow.flow.actions.is_empty() && flow.stats.packets >= least, "{flow:?}");
            Ok(())
        })
    };
    refused(0)?;
    without(&[r1], || refused(3))
}

/// Drops what comes to this UDP port.
fn block(host: &Host, port: u16) -> Result<()> {
    host.namespace.exec("nft add table inet block")?;
    host.namespace.exec("nft add chain inet block in { type filter hook input priority 0 ; }")?;
    host.namespace.exec(&format!("nft add rule inet block in udp dport {port} drop"))?;
    Ok(())
}

fn unblock(host: &Host) -> Result<()> {
    host.namespace.exec("nft delete table inet block").map(drop)
}

#[test]
fn a_path_that_is_blocked_narrow_or_bad() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let switch = lab.switch(&[&h1, &h2], 1500)?;
    let r1 = h1.router(options().argument("--mtu=1376"))?;
    let r2 = h2.router(options().argument("--mtu=1376").peer("192.168.50.1"))?;
    let all = [&r1, &r2];
    let transport = |name: &str| all.iter().try_for_each(|router| wait_transport(router, name));
    transport("fastdp")?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;

    // Where there is no way, the sleeve goes on, and comes to an end when there is one again.
    for host in [&h1, &h2] {
        block(host, 6784)?;
    }
    transport("sleeve")?;
    let page = r1.status("connections")?;
    ensure!(page.contains("\n   fastdp: nothing arrives there"), "{page}");
    c1.wait_ping("10.32.0.2", SOON)?;
    all_arrive(&c1, "10.32.0.2", 20)?;
    Stream::start(&c1, &c2, "10.32.0.2", 1_000_000)?.join()?;
    for host in [&h1, &h2] {
        unblock(host)?;
    }
    transport("fastdp")?;
    let page = r1.status("connections")?;
    ensure!(!page.contains("fastdp:"), "{page}");
    let before = tunnelled(&h1)?;
    c1.wait_ping("10.32.0.2", SOON)?;
    all_arrive(&c1, "10.32.0.2", 50)?;
    let carried = tunnelled(&h1)?.saturating_sub(before);
    ensure!(carried >= 40, "{carried} packets: {:#?}", flows(&h1)?);

    // A path that loses is no reason to leave it.
    for port in ["p1", "p2"] {
        switch
            .exec(&format!("tc qdisc add dev {port} root netem loss 5% delay 2ms limit 10000"))?;
    }
    Stream::start(&c1, &c2, "10.32.0.2", 500_000)?.join()?;
    Stream::start(&c2, &c1, "10.32.0.1", 500_000)?.join()?;
    let ping = c1.ping("10.32.0.2", 100, "")?;
    ensure!(ping.received >= 75 && ping.duplicates == 0, "{ping:?}");
    transport("fastdp")?;
    for port in ["p1", "p2"] {
        switch.exec(&format!("tc qdisc del dev {port} root"))?;
    }

    // A path too narrow for the packets of containers: small ones would get through.
    for host in [&h1, &h2] {
        host.namespace.ip("link set eth0 mtu 1400")?;
    }
    transport("sleeve")?;
    try_until("the reason", SOON, || {
        let page = r1.status("connections")?;
        let told = "fastdp: packets of 1376 bytes do not get through, small ones do";
        ensure!(page.contains(told), "{page}");
        Ok(())
    })?;
    c1.wait_ping("10.32.0.2", SOON)?;
    lab.finish()
}

#[test]
fn a_router_that_comes_back_adopts_the_datapath() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let r1 = h1.router(options())?;
    let r2 = h2.router(options().peer("192.168.50.1"))?;
    wait_transport(&r1, "fastdp")?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let _c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let mtu = h2.namespace.exec("cat /sys/class/net/weave/mtu")?;

    // What the kernels carry goes on while a router is away, and all of it arrives.
    all_arrive(&c1, "10.32.0.2", 20)?;
    let murmur = Murmur::start(&c1, "10.32.0.2")?;
    try_until("flows", SOON, || carried([&h1, &h2]))?;
    r2.kill()?;
    let mut r2 = h2.router(options().peer("192.168.50.1"))?;
    let mut id = 0;
    for in_good_order in [false, true] {
        for router in [&r1, &r2] {
            wait_transport(router, "fastdp")?;
        }
        c1.wait_ping("10.32.0.2", SOON)?;
        // A host that is back has another short id; flows of its former life go on until those of
        // the new link have taken their place, and take with them what they counted. What its
        // kernel has not carried yet nobody carries while the router is away.
        [_, id] = try_until("flows of the new link", SOON, || {
            let [one, other] = [short_id(&r2, &h1)?, short_id(&r2, &h2)?].map(u64::from);
            let (wanted, now) = ([one | other << 12, other | one << 12], carried([&h1, &h2])?);
            ensure!(now == wanted, "still {now:x?}, not {wanted:x?}");
            Ok(now)
        })?;
        if !in_good_order {
            r2.stop()?;
            let left = flows(&h2)?;
            ensure!(left.iter().any(is_tunnelled), "{left:#?}");
            let group =
                |flow: &DumpedFlow| flow.flow.matches.ethernet.key().destination[0] & 1 == 1;
            ensure!(!left.iter().any(|flow| is_tunnelled(flow) && group(flow)), "{left:#?}");
            r2 = h2.router(options().peer("192.168.50.1"))?;
        }
    }
    murmur.end()?;
    let before = sent_with(&h2, id)?;
    all_arrive(&c1, "10.32.0.2", 50)?;
    let sent = sent_with(&h2, id)?.saturating_sub(before);
    ensure!(sent >= 40, "{sent} packets: {:#?}", flows(&h2)?);
    ensure!(h2.namespace.exec("cat /sys/class/net/weave/mtu")? == mtu);
    r2.stop()?;
    // The engine without Open vSwitch takes over, and gives back.
    let r2 = h2.router(options().argument("--capture=tap").peer("192.168.50.1"))?;
    wait_transport(&r2, "fastdp")?;
    ensure!(!h2.namespace.ip("link")?.contains("datapath"));
    c1.wait_ping("10.32.0.2", SOON)?;
    r2.kill()?;
    let r2 = h2.router(options().peer("192.168.50.1"))?;
    wait_transport(&r2, "fastdp")?;
    let left = h2.namespace.ip("link")?;
    ensure!(left.contains("datapath") && !left.contains("vxwe-"), "{left}");
    c1.wait_ping("10.32.0.2", SOON)?;
    r2.stop()?;
    let removed = h2.weave("reset")?;
    ensure!(removed.contains("datapath"), "{removed}");
    ensure!(!h2.namespace.ip("link")?.contains("datapath"));
    lab.finish()
}

/// ```text
///  c1, c1b --- weave (a datapath) ─ vxlan-6784 === h2 (a bridge and a datapath) --- c2
/// ```
#[test]
fn containers_on_the_datapath_itself() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let pure = || options().argument("--no-bridged-fastdp");
    let r1 = h1.router(pure())?;
    let r2 = h2.router(options().peer("192.168.50.1"))?;
    wait_transport(&r2, "fastdp")?;
    ensure!(r1.report()?["Router"]["Interface"] == "weave (via ODP)");
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c1b = h1.container("c1b", "10.32.0.11/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    for to in ["10.32.0.11", "10.32.0.2"] {
        c1.wait_ping(to, SOON)?;
        all_arrive(&c1, to, 20)?;
    }
    h1.weave("expose 10.32.0.101/12")?;
    c2.wait_ping("10.32.0.101", SOON)?;
    Stream::start(&c1, &c2, "10.32.0.2", 1_000_000)?.join()?;
    without(&[&r1, &r2], || all_arrive(&c1, "10.32.0.2", 20))?;
    // By the sleeve as well.
    for host in [&h1, &h2] {
        block(host, 6784)?;
    }
    wait_transport(&r1, "sleeve")?;
    wait_transport(&r2, "sleeve")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    Stream::start(&c1, &c2, "10.32.0.2", 1_000_000)?.join()?;
    Stream::start(&c2, &c1, "10.32.0.1", 1_000_000)?.join()?;
    // What stays on the host does so without a router, however that ended, and when one comes back.
    r1.stop()?;
    all_arrive(&c1, "10.32.0.11", 20)?;
    let r1 = thread::scope(|scope| -> Result<Router<'_>> {
        let ping = scope.spawn(|| c1.ping("10.32.0.11", 300, ""));
        // The layout that is there is kept, also without the flag.
        let router = h1.router(options())?;
        let ping = ping.join().map_err(|_| anyhow::anyhow!("ping panicked"))??;
        ensure!(ping.received == ping.sent && ping.duplicates == 0, "{ping:?}");
        Ok(router)
    })?;
    ensure!(r1.report()?["Router"]["Interface"] == "weave (via ODP)");
    for host in [&h1, &h2] {
        unblock(host)?;
    }
    wait_transport(&r2, "fastdp")?;
    c1b.wait_ping("10.32.0.2", SOON)?;
    r1.stop()?;
    let removed = h1.weave("reset")?;
    ensure!(removed.contains("weave"), "{removed}");
    ensure!(!h1.namespace.ip("link")?.contains("weave"));
    drop((c1, c1b));
    lab.finish()
}
