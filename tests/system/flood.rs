//! A member that asks for too much, and reads too little.
//!
//! ```text
//!  h1 (router) ─┐
//!  h2 (router) ─┼─ switch
//!  h3 (member) ─┘   no router, but a client that speaks as one
//! ```

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use weave_core::mesh::{
    Features, Gossip, Handshake, HandshakeParams, Message, PeerConnection, PeerName, Peers,
    Progress, Session, ShortId, Uid,
};
use weave_testbed::RouterOptions;

use crate::{SOON, lab};

/// Peers that the member invents.
const INVENTED: u64 = 3900;
const ROUTER: &str = "192.168.50.1:6783";

/// One connection of the member.
struct Member {
    name: PeerName,
    stream: TcpStream,
    session: Session,
}

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).expect("48 bits")
}

impl Member {
    fn join(number: u64) -> Result<Self> {
        let name = name(number);
        let mut stream = TcpStream::connect(ROUTER)?;
        stream.set_nodelay(true)?;
        let further = [("Gossip", "contents"), ("Notice", "1")];
        let mut handshake = Handshake::new(HandshakeParams {
            outbound: true,
            password: None,
            secret: [7; 32].into(),
            features: Features {
                name,
                nickname: "member".to_owned(),
                uid: Uid(number),
                connection_id: number,
                short_id: None,
                trusted: false,
                overlays: Some(vec!["sleeve".to_owned()]),
                further: further.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            },
        });
        let mut buffer = [0; 4096];
        loop {
            while let Some(bytes) = handshake.poll_transmit() {
                stream.write_all(&bytes)?;
            }
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                bail!("the router closed the connection of member {number}");
            }
            let progress = handshake.handle_bytes(&buffer[..length])?;
            // The last thing the router says may come before the last that it is told.
            while let Some(bytes) = handshake.poll_transmit() {
                stream.write_all(&bytes)?;
            }
            if let Progress::Done(done) = progress {
                return Ok(Self { name, stream, session: done.session });
            }
        }
    }

    fn say(&mut self, message: &Message<'_>) -> Result<()> {
        let frame = self.session.seal(message)?;
        Ok(self.stream.write_all(&frame)?)
    }

    /// Tells about itself, with connections to these.
    fn tell(&mut self, of: PeerName, neighbours: impl Iterator<Item = PeerName>) -> Result<()> {
        let short_id = ShortId::new(1).context("a short id")?;
        let mut peers = Peers::new(of, String::new(), Uid(7), short_id);
        for neighbour in neighbours {
            let address = SocketAddr::from(([192, 0, 2, 1], 6783));
            peers.add_connection(PeerConnection::new(neighbour, address, false));
        }
        for data in peers.encode_all() {
            let source = self.name;
            let payload = Gossip { channel: "topology", source, data: &data }.encode();
            self.say(&Message::Gossip(&payload))?;
        }
        Ok(())
    }

    /// Says the same thing all the time, as fast as the router takes it, until the time is over.
    fn flood(mut self, message: &Message<'_>, time: Duration) -> Result<()> {
        let frame = self.session.seal(message)?;
        let frames = frame.repeat((256 << 10) / frame.len());
        self.stream.set_write_timeout(Some(Duration::from_millis(100)))?;
        let end = Instant::now() + time;
        let mut at = 0;
        while Instant::now() < end {
            match self.stream.write(&frames[at..]) {
                Ok(length) => at = (at + length) % frames.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A member that tells about a large mesh, and others that each say one of many things for a while.
fn flood_with_everything(router: PeerName) -> Result<()> {
    const TELLER: u64 = 0x0a00_0000_0001;
    let mut teller = Member::join(TELLER)?;
    let invented = || (0..INVENTED).map(|number| name(0x0b00_0000_0000 + number));
    teller.tell(name(TELLER), std::iter::once(router).chain(invented()))?;
    for peer in invented() {
        teller.tell(peer, std::iter::once(name(TELLER)))?;
    }
    let wanted: Vec<u8> = invented().take(50).flat_map(PeerName::to_bytes).collect();
    let kinds = [
        ("heartbeat", 0, Vec::new()),
        ("digest", 64, [&[0][..], &[7; 32]].concat()),
        ("ask", 64, vec![1]),
        ("answer", 64, vec![2]),
        ("want", 64, [&[4][..], &wanted].concat()),
        ("probe", 65, vec![0]),
    ];
    for (number, (kind, tag, payload)) in (TELLER + 1..).zip(kinds) {
        let member = Member::join(number)?;
        // It reads all it gets, so that there is always more.
        let mut answers = member.stream.try_clone()?;
        let reader = std::thread::spawn(move || {
            let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
            while let Ok(length @ 1..) = answers.read(&mut buffer) {
                bytes += length;
            }
            bytes
        });
        let stream = member.stream.try_clone()?;
        let message = Message::Unknown { tag, payload: &payload };
        member.flood(&message, Duration::from_secs(4)).with_context(|| kind.to_owned())?;
        stream.shutdown(std::net::Shutdown::Both)?;
        let answered = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        // What the router says to a new neighbour is a few kilobytes.
        let asks = matches!(kind, "digest" | "ask" | "answer");
        anyhow::ensure!(!asks || answered > 100_000, "{kind}: {answered} bytes were answered");
    }
    Ok(())
}

#[test]
fn floods_of_small_messages_keep_nobody_waiting() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2, &h3], 1500)?;
    let r1 = h1.router(RouterOptions::new().no_discovery())?;
    let r2 = h2.router(RouterOptions::new().no_discovery().peer("192.168.50.1"))?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let _c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let router: PeerName = r1.name()?.parse()?;
    let flood = h3.namespace.spawn(move || flood_with_everything(router))?;
    let mut slowest = Duration::ZERO;
    let mut asked = 0;
    while !flood.is_finished() {
        let start = Instant::now();
        r1.status("connections")?;
        slowest = slowest.max(start.elapsed());
        asked += 1;
    }
    flood.join().map_err(|_| anyhow::anyhow!("the member panicked"))??;
    assert!(asked > 20, "{asked} answers in half a minute");
    assert!(slowest < Duration::from_secs(2), "the status took {slowest:?}");
    assert!(!r2.log().contains("connection shutting down"), "{}", r2.log());
    let delayed = r1.get("/metrics")?.body;
    assert!(delayed.contains("weave_mesh_messages_delayed_total"), "{delayed}");
    c1.wait_ping("10.32.0.2", SOON)?;
    lab.finish()
}

#[test]
fn members_that_read_nothing_take_little_memory() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2, &h3], 1500)?;
    let r1 = h1.router(RouterOptions::new().no_discovery())?;
    let r2 = h2.router(RouterOptions::new().no_discovery().peer("192.168.50.1"))?;
    r2.wait_established(1, SOON)?;
    let (_, before) = r1.cost()?;
    let flood = h3.namespace.spawn(|| -> Result<()> {
        let floods: Vec<_> = (1..=20)
            .map(|number| {
                let member = Member::join(0x0a00_0000_0100 + number)?;
                Ok(std::thread::spawn(move || {
                    let probe = Message::Unknown { tag: 65, payload: &[0] };
                    member.flood(&probe, Duration::from_secs(15))
                }))
            })
            .collect::<Result<_>>()?;
        for flood in floods {
            flood.join().map_err(|_| anyhow::anyhow!("a member panicked"))??;
        }
        Ok(())
    })?;
    flood.join().map_err(|_| anyhow::anyhow!("the members panicked"))??;
    let (_, peak) = r1.cost()?;
    let more = peak.saturating_sub(before) >> 20;
    assert!(more < 64, "{more} MiB more");
    assert!(!r2.log().contains("connection shutting down"), "{}", r2.log());
    lab.finish()
}
