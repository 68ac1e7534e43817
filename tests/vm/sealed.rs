//! Routers with a password whose frames the kernel carries and seals.
//!
//! ```text
//!  c1 --- h1 ═══════ ESP ═══════ h2 --- c2        h3: a stranger on the same switch
//!                     |
//!                  capture
//! ```
//!
//! Something is sent all the time, whatever happens to the routers; the capture sees none of it.

use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use weave_testbed::stream::Stream;
use weave_testbed::{Capture, Container, Host, Lab, Router, RouterOptions, eventually, try_until};

use crate::{SOON, lab};

const PASSWORD: &str = "correct horse battery";
/// What pings carry, as `ping -p` takes it and as it is on the wire.
const PATTERN: (&str, [u8; 16]) = ("fa", [0xfa; 16]);

/// Waits until connections of all these routers are sealed and by this transport.
fn wait_sealed(routers: &[&Router<'_>], transport: &str) -> Result<()> {
    for router in routers {
        try_until(&format!("a sealed connection by {transport}"), SOON, || {
            let page = router.status("connections")?;
            let wanted = format!(" encrypted   {transport} ");
            let is = |line: &str| line.contains(" established ") && line.contains(&wanted);
            ensure!(page.lines().any(is), "not in:\n{page}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What there is of IPsec on a host: states, policies, and rules in whatever firewall.
fn traces(host: &Host) -> Result<String> {
    let mut traces = String::new();
    for list in ["ip xfrm state", "ip xfrm policy", "nft list ruleset"] {
        let text = host.namespace.exec(list)?;
        let of_ipsec = |line: &&str| {
            let line = line.to_lowercase();
            ["proto esp", "ipsec", "0x20000"].iter().any(|word| line.contains(word))
        };
        text.lines().filter(of_ipsec).for_each(|line| {
            traces.push_str(line);
            traces.push('\n');
        });
    }
    Ok(traces)
}

fn states(host: &Host) -> Result<usize> {
    Ok(host.namespace.exec("ip xfrm state")?.matches("proto esp").count())
}

/// Pings that never cease, until they are killed.
fn murmur(from: &Container, to: &str) -> Result<Child> {
    let mut ping = from.namespace.command("ping");
    ping.args(["-i", "0.05", "-p", PATTERN.0, "-s", "1300", to]);
    Ok(ping.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

fn silence(mut murmur: Child) -> Result<()> {
    murmur.kill()?;
    murmur.wait()?;
    Ok(())
}

fn crosses(from: &Container, to: &str) -> Result<()> {
    let ping = from.ping(to, 20, "-s 1300")?;
    ensure!(ping.received == 20 && ping.duplicates == 0, "{ping:?}");
    Ok(())
}

/// What the metrics tell of a sealed tunnel.
fn counts(router: &Router<'_>) -> Result<()> {
    let metrics = router.get("/metrics")?.body;
    ensure!(!metrics.contains("Not described"), "{metrics}");
    let value = |name: &str| -> Result<f64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name} in {metrics}"))?.parse()?)
    };
    for (name, least) in [
        ("weave_ipsec_states", 2.0),
        ("weave_ipsec_policies", 1.0),
        ("weave_ipsec_tx_packets_total", 40.0),
        ("weave_ipsec_rx_bytes_total", 40_000.0),
    ] {
        let value = value(name)?;
        ensure!(value >= least, "{name}: {value}");
    }
    ensure!(value("weave_ipsec_failures_total")? == 0.0, "{metrics}");
    Ok(())
}

/// Drops ESP that comes to a host.
fn block(host: &Host) -> Result<()> {
    host.namespace.exec("nft add table ip fdp")?;
    host.namespace.exec("nft add chain ip fdp in {type filter hook prerouting priority -300;}")?;
    host.namespace.exec("nft add rule ip fdp in ip protocol esp drop")?;
    Ok(())
}

/// What somebody sends who knows all numbers, but not the password.
fn nothing_enters_in_clear(h2: &Host, stranger: &Host, c2: &Container) -> Result<()> {
    let device = h2.namespace.exec("ip -d link show type vxlan")?;
    let number = device.split("vxlan id ").nth(1).and_then(|rest| rest.split(' ').next());
    let number = number.with_context(|| format!("no number in {device}"))?;
    let stranger = &stranger.namespace;
    stranger.ip(&format!(
        "link add vx type vxlan id {number} remote 192.168.50.2 dstport 6784 nolearning"
    ))?;
    stranger.ip("addr add 10.32.0.99/12 dev vx")?;
    stranger.ip("link set vx up")?;
    let asks = || stranger.exec("ping -c 2 -i 0.2 -W 1 10.32.0.2").map(drop);
    let known = || c2.namespace.ip("neigh show 10.32.0.99");
    ensure!(asks().is_err() && known()?.is_empty(), "it is heard: {}", known()?);
    // It would be, but for the rules, which come back by themselves: those that want ESP, and those
    // that want neighbours.
    let flush = |chain: &str| h2.namespace.exec(&format!("nft flush chain ip {chain}")).is_ok();
    eventually("it is heard", SOON, || {
        flush("weave-ipsec in")
            && flush("weave input")
            && asks().is_err()
            && known().is_ok_and(|known| !known.is_empty())
    })?;
    Ok(())
}

/// What happens to a pair of routers, one after the other.
struct Story<'a> {
    lab: &'a Lab,
    hosts: &'a [Host; 3],
    options: RouterOptions,
    started: Instant,
    capture: Option<Capture>,
    murmurs: Vec<Child>,
}

impl<'a> Story<'a> {
    fn begin(lab: &'a Lab, hosts: &'a [Host; 3], options: RouterOptions) -> Result<Self> {
        let filter = "(udp port 6784 or esp) and host 192.168.50.1 and host 192.168.50.2";
        let capture = Some(Capture::start(lab, &hosts[0].namespace, "eth0", filter)?);
        let (started, murmurs) = (Instant::now(), Vec::new());
        Ok(Self { lab, hosts, options, started, capture, murmurs })
    }

    /// For whoever wonders what took so long.
    fn step(&self, what: &str) {
        println!("{:6.1} s: {what}", self.started.elapsed().as_secs_f64());
    }

    /// With the port of the first, which would be taken to be its own.
    fn second(&self) -> RouterOptions {
        self.options.clone().peer("192.168.50.1:6783")
    }

    /// Both routers and both containers, which talk from now on.
    fn start(&mut self, engine: &str) -> Result<([Router<'a>; 2], [Container; 2])> {
        let [h1, h2, _] = self.hosts;
        let r1 = h1.start(self.options.clone().password(PASSWORD))?;
        let r2 = h2.start(self.second().password(PASSWORD))?;
        r1.wait_ready()?;
        r2.wait_ready()?;
        let c1 = h1.container("c1", "10.32.0.1/12")?;
        let c2 = h2.container("c2", "10.32.0.2/12")?;
        self.murmurs = vec![murmur(&c1, "10.32.0.2")?, murmur(&c2, "10.32.0.1")?];
        wait_sealed(&[&r1, &r2], "fastdp")?;
        self.step("sealed");
        let page = r1.status("connections")?;
        let shown = format!("engine={engine}");
        ensure!(page.contains("cipher=esp-aes-256-gcm") && page.contains(&shown), "{page}");
        let page = r1.status("")?;
        let shown = format!("Fastdp: {engine}; encrypted by IPsec\n");
        ensure!(page.contains(&shown), "{page}");
        Ok(([r1, r2], [c1, c2]))
    }

    /// By the kernel, not by the routers.
    fn crosses_alone(&self, routers: [&Router<'_>; 2], from: &Container) -> Result<()> {
        crosses(from, "10.32.0.2")?;
        for router in routers {
            router.signal(Signal::SIGSTOP)?;
        }
        let crossed = crosses(from, "10.32.0.2");
        for router in routers {
            router.signal(Signal::SIGCONT)?;
        }
        self.step("crossed by the kernel");
        crossed
    }

    /// ESP is blocked one way: the sleeve carries on there, and hands over again.
    fn leaves_and_comes_back(&self, routers: [&Router<'_>; 2], from: &Container) -> Result<()> {
        let [_, r2] = routers;
        let h1 = &self.hosts[0];
        block(h1)?;
        wait_sealed(&[r2], "sleeve")?;
        crosses(from, "10.32.0.2")?;
        h1.namespace.exec("nft delete table ip fdp")?;
        wait_sealed(&routers, "fastdp")?;
        self.step("left and taken again");
        Ok(())
    }

    /// The second router is killed: what it had in the kernel goes on, sealed, and the next one
    /// removes it, also on another port.
    fn kill_second(
        &self,
        r1: &Router<'_>,
        r2: Router<'a>,
        c1: &Container,
        port: &str,
    ) -> Result<Router<'a>> {
        let [h1, h2, _] = self.hosts;
        r2.kill()?;
        ensure!(states(h2)? == 2, "{}", traces(h2)?);
        let r2 = h2.router(self.second().password(PASSWORD).argument(port))?;
        wait_sealed(&[r1, &r2], "fastdp")?;
        crosses(c1, "10.32.0.2")?;
        for host in [h1, h2] {
            eventually("two keys", SOON, || states(host).is_ok_and(|n| n == 2))?;
        }
        self.step("killed and followed");
        Ok(r2)
    }

    /// Nothing is left of encryption, and nothing was in clear.
    fn end(mut self, routers: [Router<'_>; 2]) -> Result<()> {
        for router in routers {
            router.stop()?;
        }
        for host in self.hosts {
            ensure!(traces(host)?.is_empty(), "left behind:\n{}", traces(host)?);
        }
        self.murmurs.drain(..).try_for_each(silence)?;
        let capture = self.capture.take().context("no capture")?.finish()?;
        let clear = capture.fields("udp.dstport == 6784", &["frame.number", "ip.src"])?;
        ensure!(clear.is_empty(), "VXLAN in clear: {clear:?}");
        ensure!(!capture.contains(&PATTERN.1), "the pings can be read");
        let sealed = capture.count("esp")?;
        ensure!(sealed > 200, "{sealed} packets of ESP");
        self.step("all is gone");
        self.lab.finish()
    }
}

#[test]
fn nothing_leaks_from_vxlan_devices() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let [h1, h2, stranger] = &hosts;
    let _switch = lab.switch(&[h1, h2, stranger], 1500)?;
    let options = RouterOptions::new().argument("--capture=tap").argument("--firewall=nftables");
    let mut story = Story::begin(&lab, &hosts, options)?;
    let ([r1, mut r2], [c1, c2]) = story.start("vxlan")?;
    story.crosses_alone([&r1, &r2], &c1)?;
    Stream::start(&c1, &c2, "10.32.0.2", 300_000)?.join()?;
    story.step("a stream crossed");
    nothing_enters_in_clear(h2, stranger, &c2)?;
    story.step("nothing entered");

    // One side ends in good order, and comes back.
    r2.stop()?;
    ensure!(traces(h2)?.is_empty(), "left behind:\n{}", traces(h2)?);
    eventually("h1 has no key for who is gone", SOON, || states(h1).is_ok_and(|n| n == 0))?;
    r2 = h2.router(story.second().password(PASSWORD))?;
    wait_sealed(&[&r1, &r2], "fastdp")?;
    crosses(&c1, "10.32.0.2")?;
    story.step("stopped and followed");
    r2 = story.kill_second(&r1, r2, &c1, "--port=6783")?;

    story.leaves_and_comes_back([&r1, &r2], &c1)?;

    // Killed, and followed by one that has no password: nothing is left.
    r2.kill()?;
    r2 = h2.router(story.second())?;
    ensure!(traces(h2)?.is_empty(), "left behind:\n{}", traces(h2)?);
    story.end([r1, r2])
}

#[test]
fn nothing_leaks_from_a_datapath() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let [h1, h2, _] = &hosts;
    let _switch = lab.switch(&[h1, h2], 1500)?;
    let options = RouterOptions::new().argument("--capture=datapath");
    let mut story = Story::begin(&lab, &hosts, options.argument("--firewall=iptables-nft"))?;
    let ([r1, mut r2], [c1, c2]) = story.start("openvswitch")?;
    story.crosses_alone([&r1, &r2], &c1)?;
    Stream::start(&c1, &c2, "10.32.0.2", 300_000)?.join()?;
    story.step("a stream crossed");
    counts(&r1)?;
    story.leaves_and_comes_back([&r1, &r2], &c1)?;
    r2 = story.kill_second(&r1, r2, &c1, "--port=7000")?;
    story.end([r1, r2])
}
