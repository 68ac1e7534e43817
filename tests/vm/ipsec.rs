//! VXLAN between two hosts, sealed by the kernel with keys that they exchange.
//!
//! ```text
//!  h1 10.9.0.1 -- vx (VXLAN, UDP 6784) == ESP == 192.168.1.0/24 == ESP == vx -- 10.9.0.2 h2
//!                                                      |
//!                                                   capture
//! ```
//!
//! The tunnel devices are made by hand and send all the time, also while keys are missing.

use std::sync::mpsc::{Receiver, channel};
use std::time::Instant as Started;

use anyhow::{Context, Result, bail, ensure};
use weave_core::mesh::{ConnectionId, PeerName, SessionKey};
use weave_core::switch::Waker;
use weave_core::time::Instant;
use weave_fastdp::ipsec::{
    Firewall, FirewallError, FirewallRules, Ipsec, IpsecError, KeyEvent, KeyExchange, LinkKeys,
    TunnelEnds,
};
use weave_host::{Backend, Outcome, SealFirewall, SealPolicy, SealedState, SealedTunnel};
use weave_testbed::{Capture, Host, Lab, Wire, eventually};

use crate::{SOON, lab};

const PORT: u16 = 6784;
/// What pings carry.
const PATTERN: [u8; 16] = [0xfa; 16];

/// The rules of the firewall, as the binary has them.
struct Adapter(SealFirewall);

impl Firewall for Adapter {
    fn prepare(&mut self) -> Result<(), FirewallError> {
        Ok(self.0.prepare()?)
    }

    fn apply(&mut self, rules: &FirewallRules) -> Result<bool, FirewallError> {
        let tunnels = rules.tunnels.iter().map(|ends| SealedTunnel {
            local: ends.local,
            remote: ends.remote,
            port: ends.port,
        });
        let states = rules.states.iter().map(|(path, spi)| SealedState {
            remote: path.source,
            local: path.destination,
            spi: spi.get(),
        });
        let policy = SealPolicy {
            tunnels: tunnels.collect(),
            states: states.collect(),
            ..SealPolicy::default()
        };
        let applied = self.0.apply(&policy)?;
        Ok(applied == Outcome::Changed)
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        self.0.remove()?;
        Ok(())
    }
}

/// What a router has of the kernel's IPsec.
struct Side<'a> {
    host: &'a Host,
    ends: TunnelEnds,
    name: PeerName,
    ipsec: Ipsec,
    link: Option<LinkKeys>,
    news: Receiver<()>,
}

impl<'a> Side<'a> {
    fn start(host: &'a Host, wire: [&str; 2], name: u8) -> Result<Self> {
        let ends = TunnelEnds { local: wire[0].parse()?, remote: wire[1].parse()?, port: PORT };
        let started = Started::now();
        let open = move || {
            let firewall = SealFirewall::open(Some(Backend::Nftables), "weave")
                .map_err(|error| IpsecError::Firewall(error.into()))?;
            let clock = move || Instant::since_origin(started.elapsed());
            Ipsec::open(Box::new(Adapter(firewall)), PORT, clock)
        };
        let ipsec = host.namespace.enter(open)??;
        let name = PeerName::from_bytes([2, 0, 0, 0, 0, name]);
        Ok(Self { host, ends, name, ipsec, link: None, news: channel().1 })
    }

    /// A new connection with this neighbour.
    fn connect(&mut self, number: u64, remote: PeerName, session: [u8; 32]) {
        let (wake, news) = channel();
        let waker = Waker::new(move || {
            let _ = wake.send(());
        });
        let exchange = KeyExchange::new(self.name, remote, SessionKey(session));
        let mut link = self.ipsec.link(ConnectionId(number), self.ends, exchange, waker);
        link.confirm();
        (self.link, self.news) = (Some(link), news);
    }

    fn event(&mut self) -> Result<KeyEvent> {
        let link = self.link.as_mut().context("no link")?;
        loop {
            if let Some(event) = link.poll() {
                return Ok(event);
            }
            self.news.recv_timeout(SOON).context("nothing from the thread for IPsec")?;
        }
    }

    /// The device through which everything goes to the neighbour.
    fn make_device(&self, address: &str) -> Result<()> {
        let TunnelEnds { local, remote, port } = self.ends;
        let host = &self.host.namespace;
        host.ip(&format!(
            "link add vx type vxlan id 42 local {local} remote {remote} dstport {port} nolearning"
        ))?;
        host.ip(&format!("addr add {address}/24 dev vx"))?;
        host.ip("link set vx mtu 1376 up")?;
        Ok(())
    }
}

fn hand_over(from: &mut Side<'_>, to: &mut Side<'_>) -> Result<()> {
    match from.event()? {
        KeyEvent::Announce(message) => {
            to.link.as_mut().context("no link")?.handle_announcement(&message);
            Ok(())
        }
        other => bail!("{other:?} instead of a key"),
    }
}

/// Lets both sides exchange their keys.
fn exchange<'a>(a: &mut Side<'a>, b: &mut Side<'a>) -> Result<()> {
    hand_over(a, b)?;
    hand_over(b, a)?;
    for side in [a, b] {
        let event = side.event()?;
        ensure!(matches!(event, KeyEvent::Ready), "{event:?}");
    }
    Ok(())
}

/// Whether any of so many pings is answered.
fn crosses(host: &Host, count: u32) -> bool {
    let line = format!("ping -c {count} -i 0.2 -W 1 -p fa -s 1300 10.9.0.2");
    host.namespace.exec(&line).is_ok()
}

fn wait_crosses(host: &Host) -> Result<()> {
    let start = Started::now();
    while !crosses(host, 1) {
        ensure!(start.elapsed() < SOON, "no ping crosses");
    }
    Ok(())
}

fn capture(lab: &Lab, host: &Host, wire: &Wire) -> Result<Capture> {
    Capture::start(lab, &host.namespace, wire.device_a(), "udp or esp")
}

#[test]
fn keys_come_and_go_while_something_is_sent() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let sealed = capture(&lab, &h1, &wire)?;
    let mut a = Side::start(&h1, [wire.a(), wire.b()], 1)?;
    let mut b = Side::start(&h2, [wire.b(), wire.a()], 2)?;
    a.connect(1, b.name, [7; 32]);
    b.connect(1, a.name, [7; 32]);
    exchange(&mut a, &mut b)?;
    a.make_device("10.9.0.1")?;
    b.make_device("10.9.0.2")?;
    // Something is sent all the time from here on.
    let mut flood = h1.namespace.command("ping");
    flood.args(["-i", "0.05", "-p", "fa", "-s", "1300", "10.9.0.2"]);
    let mut flood = flood.stdout(std::process::Stdio::null()).spawn()?;
    wait_crosses(&h1)?;
    // The kernel has what `ip xfrm` shows of an original router.
    let states = h1.namespace.exec("ip xfrm state")?;
    for part in ["rfc4106(gcm(aes))", "flag esn", "replay_window 256", "mode transport"] {
        ensure!(states.matches(part).count() == 2, "{part}:\n{states}");
    }
    let policy = h1.namespace.exec("ip xfrm policy")?;
    for part in ["proto udp", "dir out", "mark 0x20000/0x20000"] {
        ensure!(policy.matches(part).count() == 1, "{part}:\n{policy}");
    }

    // A key is renewed, and nothing is lost by it.
    let mut pings = h1.namespace.command("ping");
    pings.args(["-q", "-i", "0.05", "-c", "100", "10.9.0.2"]);
    let pings = pings.stdout(std::process::Stdio::piped()).spawn()?;
    for _ in 0..2 {
        a.link.as_mut().context("no link")?.renew();
        hand_over(&mut a, &mut b)?;
    }
    let told = String::from_utf8(pings.wait_with_output()?.stdout)?;
    ensure!(told.contains(" 100 received"), "{told}");
    let states = h1.namespace.exec("ip xfrm state")?;
    ensure!(states.matches("proto esp").count() == 3, "not that of before and two:\n{states}");

    // The connection breaks and comes back.
    (a.link, b.link) = (None, None);
    eventually("the keys are gone", SOON, || {
        h1.namespace.exec("ip xfrm state").is_ok_and(|states| states.is_empty())
    })?;
    ensure!(!crosses(&h1, 3), "pings cross without keys");
    a.connect(2, b.name, [8; 32]);
    b.connect(2, a.name, [8; 32]);
    exchange(&mut a, &mut b)?;
    wait_crosses(&h1)?;

    // Keys of different passwords: both sides are ready and nothing crosses.
    a.connect(3, b.name, [1; 32]);
    b.connect(3, a.name, [2; 32]);
    exchange(&mut a, &mut b)?;
    ensure!(!crosses(&h1, 3), "pings cross with different passwords");

    flood.kill()?;
    flood.wait()?;
    for host in [&h1, &h2] {
        host.namespace.ip("link del vx")?;
    }
    let sealed = sealed.finish()?;
    let clear = sealed.fields(&format!("udp.dstport == {PORT}"), &["frame.number", "ip.src"])?;
    ensure!(clear.is_empty(), "VXLAN in clear: {clear:?}");
    ensure!(!sealed.contains(&PATTERN), "the pings can be read");
    ensure!(sealed.count("esp")? > 50, "{} packets of ESP", sealed.count("esp")?);

    // All of it goes; and the capture would have seen what leaves in clear.
    for side in [&mut a, &mut b] {
        side.link = None;
        side.ipsec.stop();
        for list in ["ip xfrm state", "ip xfrm policy", "nft list ruleset"] {
            let left = side.host.namespace.exec(list)?.to_lowercase();
            ensure!(!left.contains("esp") && !left.contains("weave"), "{list}:\n{left}");
        }
    }
    let open = capture(&lab, &h1, &wire)?;
    a.make_device("10.9.0.1")?;
    b.make_device("10.9.0.2")?;
    wait_crosses(&h1)?;
    open.wait_for(&format!("udp.dstport == {PORT}"), SOON)?;
    let open = open.finish()?;
    ensure!(open.contains(&PATTERN));
    lab.finish()
}
