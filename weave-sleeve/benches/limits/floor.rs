//! The throughput of the minimal forwarder between two containers, and of the router in its place.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;
use weave_testbed::{Container, Host, Lab, Namespace, RouterOptions, eventually, try_until};

use super::forwarder::{Waiting, forward};

const ROUNDS: usize = 3;
const ADDRESS: &str = "10.32.0.2";
/// The largest frame of the containers: what the router finds on a path of 1500 bytes.
const MTU: u32 = 1404;
/// Time for a mesh to form and to measure its path.
const SOON: Duration = Duration::from_secs(45);

/// The results for one way between the containers.
#[derive(Clone, Copy)]
struct Figures {
    /// Milliseconds, from 300 idle round trips 5 ms apart.
    ping: f64,
    p99: f64,
    /// Throughput of one TCP stream of 2 s.
    gigabits: f64,
    /// CPU seconds that the forwarders of both hosts spent per GB of it.
    cost: f64,
}

/// Prints a row for each way to wait, for VXLAN, and for the router, if there is one. The rounds
/// are interleaved.
pub fn print(router: Option<&Path>) {
    let looking = Duration::from_micros(100);
    let ways = [
        ("a thread for each direction, in calls that block", Waiting::InTheCalls),
        ("one thread, in poll", Waiting::InPoll),
        ("the same, each segment sealed by AES-128-GCM", Waiting::InPollSealed),
        ("in poll, with the ping on one core", Waiting::OnOneCore),
        ("one thread, looks for 100 us before poll", Waiting::Looking(looking)),
    ];
    let mut rows: Vec<_> = ways.iter().map(|(name, _)| (*name, Vec::new())).collect();
    rows.push(("none: VXLAN of the kernel", Vec::new()));
    if router.is_some() {
        rows.extend([("the router", Vec::new()), ("the router, sealed", Vec::new())]);
    }
    for _ in 0..ROUNDS {
        let forwarded = ways.iter().map(|(_, waiting)| least(*waiting));
        let clear = RouterOptions::new().argument("--no-fastdp");
        let sealed = clear.clone().password("correct horse battery staple");
        let routers = router.into_iter().flat_map(|binary| {
            [clear.clone(), sealed.clone()].map(|options| routed(binary, options))
        });
        let others = std::iter::once_with(vxlan).chain(routers);
        for ((_, all), figures) in rows.iter_mut().zip(forwarded.chain(others)) {
            all.push(figures);
        }
    }
    println!("\n| forwarder | ping ms | p99 | Gbit/s | s/GB |\n|---|---:|---:|---:|---:|");
    for (name, all) in &rows {
        let ping = median(all, |one| one.ping);
        let p99 = median(all, |one| one.p99);
        let (gigabits, cost) = (median(all, |one| one.gigabits), median(all, |one| one.cost));
        println!("| {name} | {ping:.3} | {p99:.3} | {gigabits:.2} | {cost:.2} |");
    }
}

fn median(all: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut all: Vec<_> = all.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Measures between two hosts with the minimal forwarder.
fn least(waiting: Waiting) -> Figures {
    let lab = Lab::new(std::env::current_exe().expect("this program")).expect("root");
    let hosts: [Host; 2] = lab.hosts().expect("two hosts");
    let wire = lab.wire(&hosts[0], &hosts[1], 1500).expect("a wire");
    let ends = [wire.a(), wire.b()].map(|address| format!("{address}:2000"));
    let stop = Arc::new(AtomicBool::new(false));
    let threads = [0, 1].map(|index: usize| {
        let (own, other) = (ends[index].clone(), ends[1 - index].clone());
        let (inside, stop) = (&hosts[index].namespace, stop.clone());
        let work = move || forward(waiting, "tap7", &own, &other, &stop);
        let thread = inside.spawn(work).expect("a thread inside");
        bridge(inside, "tap7");
        thread
    });
    let [from, to] = containers(&hosts);
    let figures = measure(&from, &to, waiting == Waiting::OnOneCore, own_seconds);
    stop.store(true, Ordering::Relaxed);
    for (thread, host) in threads.into_iter().zip(&hosts) {
        // A forwarder blocked in a read is woken by the end of the device; any other may have ended
        // already, and the device with it.
        let _ = host.namespace.ip("link del tap7");
        thread.join().expect("a forwarder that has ended");
    }
    lab.finish().expect("no router ran");
    figures
}

/// Measures between two hosts with VXLAN in the kernel.
fn vxlan() -> Figures {
    let lab = Lab::new(std::env::current_exe().expect("this program")).expect("root");
    let hosts: [Host; 2] = lab.hosts().expect("two hosts");
    let wire = lab.wire(&hosts[0], &hosts[1], 1500).expect("a wire");
    for (host, own, other) in [(&hosts[0], wire.a(), wire.b()), (&hosts[1], wire.b(), wire.a())] {
        let device = format!("link add vx type vxlan id 7 local {own} remote {other} dstport 4789");
        host.namespace.ip(&device).expect("VXLAN");
        bridge(&host.namespace, "vx");
    }
    let [from, to] = containers(&hosts);
    let figures = measure(&from, &to, false, || 0.0);
    lab.finish().expect("no router ran");
    figures
}

/// Creates a bridge with this port, which appears soon.
fn bridge(inside: &Namespace, port: &str) {
    inside.ip("link add name bridge type bridge").expect("a bridge");
    inside.ip("link set dev bridge up").expect("a bridge");
    let line = format!("link set {port} mtu {MTU} master bridge up");
    try_until("the device is there", SOON, || inside.ip(&line)).expect("a port");
}

fn containers([h1, h2]: &[Host; 2]) -> [Container; 2] {
    [
        h1.plain_container("c1", "10.32.0.1/12", "bridge", MTU).expect("a container"),
        h2.plain_container("c2", "10.32.0.2/12", "bridge", MTU).expect("a container"),
    ]
}

/// Measures between two hosts that run the router.
fn routed(binary: &Path, options: RouterOptions) -> Figures {
    let lab = Lab::new(binary).expect("root");
    let [h1, h2]: [Host; 2] = lab.hosts().expect("two hosts");
    let wire = lab.wire(&h1, &h2, 1500).expect("a wire");
    let routers = [
        h1.router(options.clone()).expect("a router"),
        h2.router(options.peer(wire.a())).expect("a router"),
    ];
    for router in &routers {
        router.wait_established(1, SOON).expect("a connection");
        router.wait_mtu(SOON, |mtu| mtu < 1500).expect("the size of the path");
    }
    let from = h1.container("c1", "10.32.0.1/12").expect("a container");
    let to = h2.container("c2", "10.32.0.2/12").expect("a container");
    let spent = || routers.iter().map(|router| router.cost().expect("it runs").0).sum();
    let figures = measure(&from, &to, false, spent);
    drop(routers);
    lab.finish().expect("no router panicked");
    figures
}

/// Measures throughput and latency; `spent` returns the CPU seconds spent on forwarding so far.
fn measure(
    from: &Container,
    to: &Container,
    on_one_core: bool,
    spent: impl Fn() -> f64,
) -> Figures {
    from.wait_ping(ADDRESS, SOON).expect("the other container");
    let program = if on_one_core { "taskset -c 0 ping" } else { "ping" };
    let ping = format!("{program} -n -c 300 -i 0.005 -W 2 {ADDRESS}");
    let printed = from.namespace.exec(&ping).expect("answers");
    let times = printed.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next());
    let mut times: Vec<f64> = times.filter_map(|time| time.parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times[times.len() * percent / 100];
    let (ping, p99) = (at(50), at(99));

    let mut server = to.namespace.command("iperf3");
    let mut server = server.args(["-s", "-1"]).stdout(Stdio::null()).spawn().expect("iperf3");
    eventually("iperf3 listens", SOON, || listens(&to.namespace)).expect("a server");
    let before = spent();
    let load = from.namespace.exec(&format!("iperf3 -J -t 2 -C cubic -c {ADDRESS}"));
    let spent = spent() - before;
    let report: Value = serde_json::from_str(&load.expect("a load")).expect("JSON");
    server.wait().expect("its own end");
    let number = |key| report["end"]["sum_received"][key].as_f64().expect("a number") / 1e9;
    Figures { ping, p99, gigabits: number("bits_per_second"), cost: spent / number("bytes") }
}

fn listens(inside: &Namespace) -> bool {
    inside.exec("ss -Hltn sport = 5201").is_ok_and(|printed| printed.contains(":5201"))
}

/// Returns the CPU seconds of this process, in which only forwarders work.
fn own_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the own process");
    let seconds = [usage.user_time(), usage.system_time()];
    seconds.map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).iter().sum()
}
