//! The measurements of one contender.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weave_testbed::{Host, Lab, Namespace};

use super::contender::Contender;
use super::cost::{Processes, machine_seconds};
use super::ends::Joined;
use super::figure::Figure;
use super::health::Counted;
use super::iperf::{self, Server, Tcp, Udp};
use super::miss;
use super::ping;
use super::proof;
use super::record::Row;
use super::underlay::Underlay;

/// Pings while nothing else runs.
const PINGS: u32 = 500;

/// Room for the headers of IPv4 and UDP in a packet.
const HEADERS: u32 = 28;

/// Measures between two ends that reach each other. What goes wrong with one measurement is noted,
/// and the others are made all the same; without proof there is no measurement at all.
pub fn row(
    contender: &Contender,
    lab: &Lab,
    hosts: &[Host; 2],
    underlay: &Underlay,
    joined: &Joined<'_>,
    seconds: u32,
) -> Result<Row> {
    // Nothing but routers runs on the hosts so far.
    let routers = hosts.iter().flat_map(|host| host.namespace.pids()).collect();
    let ends = joined.ends();
    let _server = Server::start(ends[1])?;
    proof::prove(contender, lab, &hosts[1].namespace, underlay, joined)?;

    let lane = Lane { hosts, underlay, joined, ends, seconds, routers: Processes::new(routers) };
    let mut row = Row::new(contender.name);
    row.attempt("ping", |row| lane.idle(row));
    row.attempt("one TCP stream", |row| lane.tcp_and_its_cost(row));
    for (figure, arguments) in
        [(Figure::Tcp1Back, "-R"), (Figure::Tcp4, "-P 4"), (Figure::Tcp4Back, "-P 4 -R")]
    {
        row.attempt(figure.key(), |row| {
            row.set(figure, lane.tcp(arguments)?.gigabits);
            Ok(())
        });
    }
    row.attempt("ping under load", |row| lane.loaded(row));
    let mtu = mtu_towards(ends[0], joined.address())?;
    for (figure, loss, payload) in [
        (Figure::Udp64, Figure::Udp64Loss, 64),
        (Figure::Udp1400, Figure::Udp1400Loss, mtu.min(1400) - HEADERS),
    ] {
        row.attempt(figure.key(), |row| {
            let Udp { kilopackets, loss: lost } = lane.udp(payload)?;
            row.set(figure, kilopackets);
            row.set(loss, lost);
            Ok(())
        });
    }
    if let Some(containers) = joined.containers().filter(|_| contender.has_flows()) {
        row.attempt("misses", |row| {
            let misses = miss::measure(&hosts[0].namespace, containers)?;
            row.set(Figure::MissFirst, misses.first);
            row.set(Figure::MissSecond, misses.second);
            row.set(Figure::MissFlow, misses.flow);
            Ok(())
        });
    }
    row.attempt("memory", |row| {
        row.set(Figure::Memory, lane.routers.memory()? as f64 / 1e6);
        Ok(())
    });
    if let Some(dropped) = underlay.dropped()? {
        ensure!(dropped > 0, "not proved: the lossy underlay has dropped nothing");
        row.set(Figure::Dropped, dropped as f64);
    }
    Ok(row)
}

/// Two ends, and all that is looked at while they talk.
struct Lane<'a, 'h> {
    hosts: &'a [Host; 2],
    underlay: &'a Underlay,
    joined: &'a Joined<'h>,
    ends: [&'a Namespace; 2],
    seconds: u32,
    routers: Processes,
}

impl Lane<'_, '_> {
    fn idle(&self, row: &mut Row) -> Result<()> {
        let trips = ping::run(self.ends[0], self.joined.address(), PINGS)?;
        row.set(Figure::Ping, trips.median);
        row.set(Figure::PingP99, trips.p99);
        Ok(())
    }

    fn loaded(&self, row: &mut Row) -> Result<()> {
        let (from, address, seconds) = (self.ends[0], self.joined.address(), self.seconds);
        let trips = std::thread::scope(|scope| {
            let load = scope.spawn(|| iperf::run(from, address, seconds + 1, "-C cubic"));
            // 200 a second, for as long as a load takes.
            let trips = ping::run(from, address, seconds * 200);
            load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
            trips
        })?;
        row.set(Figure::PingLoaded, trips.median);
        row.set(Figure::PingLoadedP99, trips.p99);
        Ok(())
    }

    /// One stream from the first end to the second, with what it costs and what our routers
    /// counted.
    fn tcp_and_its_cost(&self, row: &mut Row) -> Result<()> {
        let (counted, routers, machine) =
            (self.counted()?, self.routers.seconds()?, machine_seconds()?);
        let Tcp { gigabits, gigabytes } = self.tcp("")?;
        row.set(Figure::Tcp1, gigabits);
        row.set(Figure::RouterCpu, (self.routers.seconds()? - routers) / gigabytes);
        row.set(Figure::MachineCpu, (machine_seconds()? - machine) / gigabytes);
        if let [before_1, before_2] = counted.as_slice()
            && let [after_1, after_2] = self.counted()?.as_slice()
        {
            row.set_if(Figure::CapturedFrame, after_1.captured_frame(before_1));
            row.set_if(Figure::DatagramsPerSend, after_1.datagrams_per_send(before_1));
            row.set_if(Figure::DatagramsPerReceive, after_2.datagrams_per_receive(before_2));
        }
        Ok(())
    }

    fn counted(&self) -> Result<Vec<Counted>> {
        self.joined.routers().iter().map(|router| Ok(Counted::read(&router.report()?))).collect()
    }

    /// TCP by cubic, whatever the machine's default is. All of it has to cross the underlay.
    fn tcp(&self, arguments: &str) -> Result<Tcp> {
        let crossed = |index: usize| self.underlay.received(&self.hosts[index], index);
        let sink = usize::from(!arguments.contains("-R"));
        let before = crossed(sink)?;
        let report = self.load(&format!("-C cubic {arguments}"))?;
        let tcp = iperf::tcp(&report)?;
        let crossed = crossed(sink)?.saturating_sub(before) as f64 / 1e9;
        ensure!(
            crossed >= tcp.gigabytes * 0.95,
            "not proved: {:.3} GB arrived, but only {crossed:.3} GB crossed the underlay",
            tcp.gigabytes
        );
        Ok(tcp)
    }

    fn udp(&self, payload: u32) -> Result<Udp> {
        iperf::udp(&self.load(&format!("-u -b 0 -l {payload}"))?)
    }

    fn load(&self, arguments: &str) -> Result<Value> {
        iperf::run(self.ends[0], self.joined.address(), self.seconds, arguments)
    }
}

/// MTU of the device that leads to an address.
fn mtu_towards(from: &Namespace, address: &str) -> Result<u32> {
    let route = from.ip(&format!("route get {address}"))?;
    let device = route.split(" dev ").nth(1).and_then(|rest| rest.split(' ').next());
    let device = device.with_context(|| format!("no device in `{}`", route.trim()))?;
    let mtu = from.exec(&format!("cat /sys/class/net/{device}/mtu"))?;
    mtu.trim().parse().with_context(|| format!("MTU of {device}: `{}`", mtu.trim()))
}
