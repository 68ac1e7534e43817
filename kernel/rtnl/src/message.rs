//! The bytes of requests and answers, which the crates of the rust-netlink project encode.

use netlink_packet_core::{NetlinkDeserializable as _, NetlinkHeader, NetlinkSerializable as _};
use netlink_packet_route::RouteNetlinkMessage;
use weave_netlink::{HEADER_LEN, TooLong, write_header};

pub(crate) fn encode(
    message: &RouteNetlinkMessage,
    flags: u16,
) -> impl Fn(u32, &mut Vec<u8>) -> Result<(), TooLong> {
    move |sequence, to| {
        to.resize(HEADER_LEN + message.buffer_len(), 0);
        message.serialize(&mut to[HEADER_LEN..]);
        write_header(to, message.message_type(), flags, sequence)
    }
}

/// Decodes a message; `None` if it is malformed or not supported.
pub(crate) fn decode(kind: u16, payload: &[u8]) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    RouteNetlinkMessage::deserialize(&header, payload).ok()
}

/// Copies an Ethernet address; `None` if it is an address of another kind.
pub(crate) fn mac(bytes: &[u8]) -> Option<[u8; 6]> {
    bytes.try_into().ok()
}
