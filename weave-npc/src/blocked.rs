//! Connections that were refused, as the kernel logs them.
//!
//! Rules of nftables copy the first packet of a refused connection to a group of NFLOG
//! (`linux/netfilter/nfnetlink_log.h`). A message about one packet:
//!
//! ```text
//!   nfgenmsg     | u8 family | u8 version | be16 group |
//!   attributes   NFULA_PREFIX: what the rule says · NFULA_PAYLOAD: the packet from its IP header on
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use weave_api::metric::Metric;
use weave_netlink::{
    Answer, Attributes, Body, DecodeError, Error, Exchange, HEADER_LEN, Messages,
    Protocol as Netlink, Socket, write_header,
};

use crate::nft::LOG_GROUP;
use crate::object::Protocol;

/// `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET`, and `… | NFULNL_MSG_CONFIG`.
const PACKET: u16 = 0x0400;
const CONFIG: u16 = 0x0401;
/// `NLM_F_ACK`.
const ACKNOWLEDGE: u16 = 4;
/// What follows the header of each message of netfilter, `nfgenmsg`.
const FAMILY_LEN: usize = 4;
/// `NFULA_CFG_CMD` with `NFULNL_CFG_CMD_BIND`, `NFULA_CFG_MODE` with `NFULNL_COPY_PACKET`.
const CONFIG_COMMAND: u16 = 1;
const BIND: u8 = 1;
const CONFIG_MODE: u16 = 2;
const COPY_PACKET: u8 = 2;
/// `NFULA_PAYLOAD`.
const PAYLOAD: u16 = 9;
/// Bytes of a packet that are copied: headers of IP with options, and ports.
const COPIED: u32 = 128;
/// `IPPROTO_TCP`, `IPPROTO_UDP`.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// SYN and ACK among the flags of TCP.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// For errors.
const REQUEST: &str = "log refused packets";

/// A connection that was refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Blocked {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
}

/// Writes it in the words of Weave Net, which operators look for.
impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, source, destination } = self;
        write!(f, "{protocol} connection from {source} to {destination} blocked by Weave NPC.")
    }
}

impl Blocked {
    /// Reads what follows the header of a message about a packet; none if it begins no connection
    /// of TCP or UDP.
    ///
    /// # Errors
    /// An attribute is malformed.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        let (what, left) = ("a header of netfilter", payload.len());
        let attributes = payload.get(FAMILY_LEN..);
        let attributes =
            attributes.ok_or(DecodeError::Short { what, offset: 0, needed: FAMILY_LEN, left })?;
        for field in Attributes::new(attributes, FAMILY_LEN) {
            let field = field?;
            if field.kind == PAYLOAD {
                return Ok(Self::of_packet(field.value));
            }
        }
        Ok(None)
    }

    /// Reads a packet from its IP header on. Packets come from pods, which may send anything.
    fn of_packet(packet: &[u8]) -> Option<Self> {
        let (source, destination, protocol, rest) = match packet.first()? >> 4 {
            4 => {
                let header: &[u8; 20] = packet.first_chunk()?;
                let length = usize::from(header[0] & 0xf) * 4;
                let address = |at: usize| {
                    let bytes: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
                    Some(IpAddr::from(Ipv4Addr::from(bytes)))
                };
                (address(12)?, address(16)?, header[9], packet.get(length.max(20)..)?)
            }
            6 => {
                let header: &[u8; 40] = packet.first_chunk()?;
                let address = |at: usize| {
                    let bytes: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
                    Some(IpAddr::from(Ipv6Addr::from(bytes)))
                };
                (address(8)?, address(24)?, header[6], packet.get(40..)?)
            }
            _ => return None,
        };
        let ports: &[u8; 4] = rest.first_chunk()?;
        let port = |high: usize| u16::from_be_bytes([ports[high], ports[high + 1]]);
        let protocol = match protocol {
            TCP if rest.get(13)? & (SYN | ACK) == SYN => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return None,
        };
        Some(Self {
            protocol,
            source: SocketAddr::new(source, port(0)),
            destination: SocketAddr::new(destination, port(2)),
        })
    }
}

/// Refused connections by protocol and port, as far as the kernel logs them.
#[derive(Clone, Debug, Default)]
pub struct BlockedCounts(Arc<Mutex<BTreeMap<(Protocol, u16), u64>>>);

impl BlockedCounts {
    fn count(&self, blocked: &Blocked) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((blocked.protocol, blocked.destination.port())).or_default() += 1;
    }

    /// Appends them in the text format of Prometheus.
    pub fn print(&self, text: &mut String) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let help = "Connection attempts blocked by policy controller, as far as they are logged.";
        let mut metric = Metric::new("weavenpc_blocked_connections_total", "counter", help);
        for ((protocol, port), count) in counts.iter() {
            let protocol = protocol.to_string().to_lowercase();
            let labels = [("protocol", protocol.as_str()), ("dport", &port.to_string())];
            #[expect(clippy::cast_precision_loss, reason = "the format has floats")]
            let count = *count as f64;
            metric = metric.value(&labels, count);
        }
        metric.print(text);
    }
}

/// Refused packets, as they come from the kernel.
#[derive(Debug)]
pub struct BlockedLog(Exchange<Socket>);

impl BlockedLog {
    /// Asks for refused packets, in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel has no NFLOG, or another program has the group: the controller of Weave Net.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(Netlink::Netfilter);
        let socket = socket.map_err(|source| Error::Socket { request: REQUEST, source })?;
        let mut exchange = Exchange::new(socket);
        let [high, low] = LOG_GROUP.to_be_bytes();
        let range = COPIED.to_be_bytes();
        let attributes = [
            attribute(CONFIG_COMMAND, &[BIND]),
            attribute(CONFIG_MODE, &[&range[..], &[COPY_PACKET, 0]].concat()),
        ];
        for attribute in attributes {
            exchange.send(REQUEST, |sequence, message| {
                message.resize(HEADER_LEN, 0);
                message.extend([0, 0, high, low]);
                message.extend(attribute);
                write_header(message, CONFIG, ACKNOWLEDGE, sequence)
            })?;
            exchange.wait_for(REQUEST, |answer| match answer {
                Answer::Acknowledged => Ok(Some(())),
                Answer::Entry { .. } => Ok(None),
            })?;
        }
        Ok(Self(exchange))
    }

    /// Logs and counts refused connections until the socket fails.
    ///
    /// # Errors
    /// Returns why it failed. Packets that were lost are no failure.
    pub fn run(&self, counts: &BlockedCounts) -> std::io::Result<()> {
        let socket = self.0.transport();
        socket.ignore_overruns()?;
        let mut datagram = Vec::new();
        loop {
            socket.receive(&mut datagram)?;
            for message in Messages::new(&datagram) {
                let Ok(message) = message else { break };
                let Body::Entry { kind: PACKET, payload } = message.body else { continue };
                if let Ok(Some(blocked)) = Blocked::decode(payload) {
                    counts.count(&blocked);
                    tracing::warn!("{blocked}");
                }
            }
        }
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(packet: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 86][..], &attribute(10, b"weave-npc ingress \0"), &attribute(PAYLOAD, packet)]
            .concat()
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = TCP;
        packet[12..20].copy_from_slice(&[10, 32, 0, 1, 10, 32, 0, 2]);
        packet[20..24].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        packet[33] = flags;
        packet
    }

    #[test]
    fn first_packets_are_told_in_the_words_of_the_original() {
        let blocked = Blocked::decode(&message(&tcp(SYN))).unwrap().unwrap();
        assert_eq!(
            blocked.to_string(),
            "TCP connection from 10.32.0.1:40000 to 10.32.0.2:80 blocked by Weave NPC."
        );
        assert_eq!(Blocked::decode(&message(&tcp(SYN | ACK))), Ok(None));
        let mut udp = vec![0; 48];
        udp[0] = 0x60;
        udp[6] = UDP;
        (udp[23], udp[39], udp[41], udp[43]) = (1, 2, 99, 53);
        assert_eq!(
            Blocked::decode(&message(&udp)).unwrap().unwrap().to_string(),
            "UDP connection from [::1]:99 to [::2]:53 blocked by Weave NPC."
        );
        let counts = BlockedCounts::default();
        counts.count(&blocked);
        let mut text = String::new();
        counts.print(&mut text);
        let line = "weavenpc_blocked_connections_total{protocol=\"tcp\",dport=\"80\"} 1";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn packets_that_are_cut_short_are_no_connections() {
        let whole = tcp(SYN);
        for length in 0..34 {
            assert_eq!(Blocked::decode(&message(&whole[..length])), Ok(None), "{length}");
        }
        let options = [&[0x4f][..], &whole[1..]].concat();
        assert_eq!(Blocked::decode(&message(&options)), Ok(None), "no room for its options");
        assert!(Blocked::decode(&[2, 0]).is_err());
        assert!(Blocked::decode(&[2, 0, 0, 86, 1, 0, 9, 0]).is_err(), "an attribute of one byte");
    }
}
