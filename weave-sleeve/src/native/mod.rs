//! The format between routers of this kind (docs/protocol.md, "Native datagrams").
//!
//! ```text
//!   plain     | 01 | 00    | 6 sender | records ...
//!   sealed    | 03 | epoch | 6 sender | 4 counter | records ..., encrypted | 16 tag |
//! ```
//!
//! Both sides announce the format in the handshake. Weave Net ignores features that it does not
//! know, and is sent the [legacy format](crate::datagram). No peer name has the multicast bit in
//! its first octet, so that the first octet distinguishes the formats. The encryption is in
//! [`crate::cipher::native`].
//!
//! Its purpose is to carry a super-frame as one thing. Each datagram carries the headers of the
//! whole and one segment of its payload, untouched. So neither side computes a checksum or a header
//! per segment, and a lost datagram costs one segment instead of 64 KiB. The receiver
//! [reassembles](weave_port::offload::Reassembler) consecutive segments.
//!
//! From version 2 on each record says how often it was relayed, which bounds what goes round in a
//! circle while routers know different topologies.
//!
//! The datagram vouches for the inner checksum: by its tag, or in clear by the checksum of UDP.

mod capabilities;
mod protection;
mod record;
mod segments;

pub use capabilities::Capabilities;
pub(crate) use capabilities::{Negotiated, Version};
pub(crate) use protection::Protection;
pub use record::{Form, Record, RecordError, Records};
pub(crate) use record::{HEADER_LEN as RECORD_HEADER, put_header};
pub(crate) use segments::segments;

use weave_core::mesh::PeerName;

use crate::cipher::native::SEALED;

/// First octet of a datagram in clear. Its lowest bit is the multicast bit of a MAC address.
pub(crate) const PLAIN: u8 = 0x01;

/// Length of the header of a datagram in clear.
pub(crate) const PLAIN_HEADER: usize = 8;

/// Position of the name of the sender.
const NAME: std::ops::Range<usize> = 2..8;

/// Returns the sender of a datagram in this format, and `None` for others.
pub(crate) fn sender(datagram: &[u8]) -> Option<PeerName> {
    let known = matches!(datagram.first()?, &PLAIN | &SEALED);
    let name = datagram.get(NAME).filter(|_| known)?;
    name.first_chunk().map(|name| PeerName::from_bytes(*name))
}

/// Writes the header of a datagram in clear.
///
/// # Panics
/// If there is no room for it.
pub(crate) fn put_plain_header(own: PeerName, datagram: &mut [u8]) {
    let header = datagram.first_chunk_mut::<PLAIN_HEADER>().expect("made with room for the header");
    header[..2].copy_from_slice(&[PLAIN, 0]);
    header[NAME].copy_from_slice(&own.to_bytes());
}
