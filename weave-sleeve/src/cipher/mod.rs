//! The protection of datagrams.

pub mod native;

mod legacy;

use std::ops::Range;

pub use legacy::LegacyBox;
use weave_core::mesh::PeerName;

use crate::datagram::NAME_LEN;
use crate::replay::Windows;

/// Length of the IPv4 and UDP headers of a datagram.
pub(crate) const OUTER_HEADERS: usize = 28;

/// The two ways a datagram can travel. Each has its own sequence numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// With "don't fragment" set: no larger than the path MTU.
    DontFragment,
    /// In IP fragments if need be.
    Fragmentable,
}

/// The protection of a link's datagrams in the format of Weave Net 2.x.
#[derive(Debug)]
pub enum Cipher {
    /// None.
    Plain,
    /// XSalsa20-Poly1305.
    Legacy(LegacyBox),
}

impl Cipher {
    /// Returns the length of what precedes the first record.
    pub const fn header_len(&self) -> usize {
        match self {
            Self::Plain => NAME_LEN,
            Self::Legacy(_) => LegacyBox::HEADER_LEN,
        }
    }

    /// Returns the difference between the MTU of the path and that of the overlay, in a datagram
    /// with one frame: outer IPv4 and UDP headers, packet header, record header, inner Ethernet
    /// header.
    pub const fn overhead(&self) -> usize {
        OUTER_HEADERS + self.header_len() + crate::datagram::RECORD_HEADER + 14
    }

    /// Returns the name for the status, or `None` without protection.
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Legacy(_) => Some("xsalsa20poly1305"),
        }
    }

    /// Writes the header of a datagram whose records are in place behind it, and seals them.
    ///
    /// # Errors
    /// The link has used up all its nonces.
    ///
    /// # Panics
    /// If the datagram is shorter than [`Self::header_len`].
    pub fn seal(
        &self,
        own: PeerName,
        channel: Channel,
        datagram: &mut [u8],
    ) -> Result<(), NoncesExhausted> {
        let all = 0..datagram.len();
        self.seal_batch(own, channel, datagram, std::slice::from_ref(&all))
    }

    /// Does the same for datagrams that lie in order in one buffer, which is cheaper.
    ///
    /// # Errors
    /// There are not enough nonces left. None of the datagrams may be sent then.
    ///
    /// # Panics
    /// If a datagram is shorter than [`Self::header_len`], not within the buffer or not in order.
    pub fn seal_batch(
        &self,
        own: PeerName,
        channel: Channel,
        arena: &mut [u8],
        datagrams: &[Range<usize>],
    ) -> Result<(), NoncesExhausted> {
        for datagram in datagrams {
            arena[datagram.start..][..NAME_LEN].copy_from_slice(&own.to_bytes());
        }
        match self {
            Self::Plain => Ok(()),
            Self::Legacy(legacy) => {
                legacy.seal(channel, datagrams.len(), split_off(arena, datagrams))
            }
        }
    }

    /// Opens a datagram in place and returns its records. A datagram opens only once.
    ///
    /// # Errors
    /// It is not a datagram of this link, or it came before.
    pub fn open<'d>(
        &self,
        windows: &mut Windows,
        datagram: &'d mut [u8],
    ) -> Result<&'d [u8], OpenError> {
        let length = datagram.len();
        let mut result = Err(OpenError::TooShort { length });
        self.open_batch(windows, datagram, length, |opened| result = opened);
        result
    }

    /// Does the same for adjacent datagrams, all but the last of the length `each_len`. `each` gets
    /// the records of each datagram, in order except that those too short to be datagrams come
    /// last.
    pub fn open_batch<'d>(
        &self,
        windows: &mut Windows,
        batch: &'d mut [u8],
        each_len: usize,
        mut each: impl FnMut(Result<&'d [u8], OpenError>),
    ) {
        let each_len = each_len.max(1);
        match self {
            Self::Plain => {
                for datagram in batch.chunks(each_len) {
                    let length = datagram.len();
                    each(datagram.get(NAME_LEN..).ok_or(OpenError::TooShort { length }));
                }
            }
            Self::Legacy(legacy) => legacy.open(windows, batch, each_len, each),
        }
    }
}

/// Splits a buffer into its datagrams, which are in order.
fn split_off<'d>(
    mut arena: &'d mut [u8],
    datagrams: &[Range<usize>],
) -> impl Iterator<Item = &'d mut [u8]> {
    let mut passed = 0;
    datagrams.iter().map(move |datagram| {
        let (_, rest) = std::mem::take(&mut arena).split_at_mut(datagram.start - passed);
        let (datagram_bytes, rest) = rest.split_at_mut(datagram.len());
        (arena, passed) = (rest, datagram.end);
        datagram_bytes
    })
}

/// Every sequence number of a channel was used. A new connection has a new key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("all sequence numbers of this connection are used up")]
pub struct NoncesExhausted;

/// The reason why a datagram is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is shorter than a name and a sequence number.
    #[error("{length} bytes are too short for a datagram")]
    TooShort {
        /// Length of the datagram.
        length: usize,
    },
    /// It was sealed with another key, or changed on the way.
    #[error("the datagram is forged or damaged")]
    Forged,
    /// It came before, or is too old to tell.
    #[error("the datagram is replayed or too old")]
    Replayed,
}
