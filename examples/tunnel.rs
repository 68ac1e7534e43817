//! Joins a device on this host to one on another by a single sleeve link, without mesh or gossip: a
//! plain TCP stream carries the few control messages.
//!
//! ```text
//! host 1:  tunnel tap0 192.168.50.1:6783 listen [PASSPHRASE]
//! host 2:  tunnel tap0 192.168.50.2:6783 192.168.50.1:6783 [PASSPHRASE]
//! ```
//!
//! The device is a TAP device, which is created if it does not exist, or, written `packet:NAME`,
//! any Ethernet device, for example one end of a veth pair. It has to be up, and in a bridge or
//! with an address of its own.
//!
//! Do not copy the way a key is made of the passphrase: a router takes the session key from its
//! handshake.
#![allow(clippy::print_stderr, reason = "a program speaks to its user")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use weave_core::mesh::{ConnectionId, ConnectionUid, LinkRequest, PeerName, SessionKey};
use weave_core::switch::{
    ForwardingTable, LinkEvent, NeighbourLinks, Overlay, Switch, Topology, Waker, Worker,
};
use weave_sleeve::native::Capabilities;
use weave_sleeve::port::{PacketPort, Port, TapPort};
use weave_sleeve::{Clock, DataThread, Sleeve};

/// The addresses of both ends, and the stream between them.
struct Ends {
    own: PeerName,
    other: PeerName,
}

impl Topology for Ends {
    fn next_hops(&self) -> Vec<(PeerName, PeerName)> {
        vec![(self.other, self.other)]
    }

    fn broadcast(&self, source: PeerName) -> Vec<PeerName> {
        if source == self.own { vec![self.other] } else { Vec::new() }
    }

    fn knows(&self, peer: PeerName) -> bool {
        peer == self.own || peer == self.other
    }
}

/// The events that the main thread waits for.
enum News {
    /// The link has to be polled.
    Link,
    /// A control message of the other end.
    Message(u8, Vec<u8>),
    /// The tunnel ends for this reason.
    End(String),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, local, remote, rest @ ..] = &arguments[..] else {
        return Err("usage: tunnel DEVICE LOCAL:PORT REMOTE:PORT|listen [PASSPHRASE]".into());
    };
    let local: SocketAddr = local.parse()?;
    let outbound = remote != "listen";
    let mut stream =
        if outbound { TcpStream::connect(remote)? } else { TcpListener::bind(local)?.accept()?.0 };
    stream.set_nodelay(true)?;
    let session_key = rest.first().map(|passphrase| {
        let mut key = [0; 32];
        key.iter_mut().zip(passphrase.bytes()).for_each(|(place, byte)| *place = byte);
        SessionKey(key)
    });

    let origin = Instant::now();
    let clock = Clock::new(move || weave_core::time::Instant::since_origin(origin.elapsed()));
    let mut names =
        [PeerName::from_bytes([2, 0, 0, 0, 0, 1]), PeerName::from_bytes([2, 0, 0, 0, 0, 2])];
    if outbound {
        names.reverse();
    }
    let [own, other] = names;

    let (sender, news) = channel();
    let mut sleeve = Sleeve::bind(local, 1, Capabilities::default(), clock.clone())?;
    let wake = sender.clone();
    let mut link = sleeve.prepare(
        clock.now(),
        &LinkRequest {
            id: ConnectionId(1),
            own,
            remote: other,
            connection_uid: ConnectionUid(1),
            outbound,
            local_address: stream.local_addr()?,
            remote_address: stream.peer_addr()?,
            session_key,
            overlays: None,
            remote_features: sleeve.features(),
        },
        Waker::new(move || wake.send(News::Link).unwrap_or(())),
    )?;

    let switch = Arc::new(Switch::new(own, u64::from(std::process::id())));
    let links = vec![NeighbourLinks { name: other, forwarders: vec![link.forwarder()] }];
    switch.publish(ForwardingTable::new(own, Arc::new(Ends { own, other }), links));
    let mut port: Box<dyn Port> = match device.strip_prefix("packet:") {
        Some(name) => Box::new(PacketPort::open(name, 8 << 20)?),
        None => Box::new(TapPort::open(device, 1)?),
    };
    let tell = sender.clone();
    let _thread = DataThread::spawn(
        Worker::new(switch)?,
        Some(port.capture()?),
        sleeve.receivers().remove(0),
        port.injector()?,
        clock.clone(),
        move |lost| tell.send(News::End(lost.to_string())).unwrap_or(()),
    )?;

    let mut reader = stream.try_clone()?;
    thread::spawn(move || {
        loop {
            let message = read_message(&mut reader);
            let end = message.is_err();
            let news = message.unwrap_or_else(|error| News::End(error.to_string()));
            if sender.send(news).is_err() || end {
                return;
            }
        }
    });

    link.confirm(clock.now());
    loop {
        while let Some(event) = link.poll_event() {
            match event {
                LinkEvent::Control { message, data } => {
                    let length = u8::try_from(data.len())?;
                    stream.write_all(&[&[length, message], &data[..]].concat())?;
                }
                LinkEvent::Established => eprintln!("established"),
                LinkEvent::Failed(reason) => return Err(reason.into()),
                LinkEvent::Healthy(_) => {}
            }
        }
        let wait = link.poll_timeout().map(|at| at.saturating_since(clock.now()));
        match news.recv_timeout(wait.unwrap_or(Duration::MAX)) {
            Ok(News::Link) | Err(RecvTimeoutError::Disconnected) => {}
            Ok(News::Message(message, data)) => {
                link.handle_control(clock.now(), message, &data);
            }
            Ok(News::End(reason)) => {
                eprintln!("{:?}\n{:?}", link.status(), port.counters().list());
                return Err(reason.into());
            }
            Err(RecvTimeoutError::Timeout) => link.handle_timeout(clock.now()),
        }
    }
}

/// Reads a message: length of the data, number of the message, data.
fn read_message(reader: &mut TcpStream) -> io::Result<News> {
    let mut header = [0; 2];
    reader.read_exact(&mut header)?;
    let [length, message] = header;
    let mut data = vec![0; length.into()];
    reader.read_exact(&mut data)?;
    Ok(News::Message(message, data))
}
