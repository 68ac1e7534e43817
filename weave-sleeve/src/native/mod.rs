//! The format between our own routers (docs/protocol.md, "Native datagrams").
//!
//! ```text
//!   plain     | 01 | 00    | 6 sender | records ...
//!   sealed    | 03 | epoch | 6 sender | 4 counter | records ..., encrypted | 16 tag |   see cipher::native
//! ```
//!
//! Both sides announce that they know it in the handshake; Weave Net ignores what it does not
//! know, and is talked to in the [legacy format](crate::datagram). No peer name has a multicast
//! bit in its first octet, so that the first octet tells the formats apart.
//!
//! What it is for: a super-frame crosses as one thing. Each datagram carries the headers of the
//! whole and one segment of its payload, untouched, so that neither side computes a checksum or a
//! header per segment, and a lost datagram costs one segment and not 64 KiB. Who receives joins
//! again what comes in a row ([`Rejoiner`](weave_port::offload::Rejoiner)).
//!
//! The datagram vouches for the inner checksum: by its seal, or in clear by the checksum of UDP.

mod features;
mod pieces;
mod record;
mod seal;

pub use features::Abilities;
pub(crate) use features::Choice;
pub(crate) use pieces::pieces;
pub use record::{Form, Record, RecordError, Records};
pub(crate) use record::{HEADER_LEN as RECORD_HEADER, put_header};
pub(crate) use seal::Seal;

use weave_core::mesh::PeerName;

use crate::cipher::native::SEALED;

/// First octet of a datagram in clear. The lowest bit is the multicast bit of a MAC address.
pub(crate) const PLAIN: u8 = 0x01;

/// Length of what precedes the records of a datagram in clear.
pub(crate) const PLAIN_HEADER: usize = 8;

/// Where the name of the sender is.
const NAME: std::ops::Range<usize> = 2..8;

/// The sender of a datagram that begins as one of this format; none of others.
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
