//! How a datagram is protected.

pub mod native;

mod legacy;

pub use legacy::LegacyBox;
use weave_core::mesh::PeerName;

use crate::datagram::NAME_LEN;
use crate::replay::Windows;

/// IPv4 and UDP headers of a datagram.
pub(crate) const OUTER_HEADERS: usize = 28;

/// The two ways a datagram can travel. Each has its own sequence numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// With "don't fragment" set: no larger than the path MTU.
    DontFragment,
    /// In fragments if need be.
    Fragmentable,
}

/// What protects the datagrams of a link.
#[derive(Debug)]
pub enum Cipher {
    /// Nothing.
    Plain,
    /// XSalsa20-Poly1305, as in Weave Net 2.x.
    Legacy(LegacyBox),
}

impl Cipher {
    /// What precedes the first record.
    pub const fn header_len(&self) -> usize {
        match self {
            Self::Plain => NAME_LEN,
            Self::Legacy(_) => LegacyBox::HEADER_LEN,
        }
    }

    /// The difference between the MTU of the path and that of the overlay, in a datagram of one
    /// frame: outer IPv4 and UDP headers, packet header, record header, inner Ethernet header.
    pub const fn overhead(&self) -> usize {
        OUTER_HEADERS + self.header_len() + crate::datagram::RECORD_HEADER + 14
    }

    /// The name for the status; none without protection.
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Legacy(_) => Some("xsalsa20poly1305"),
        }
    }

    /// Writes the header of a datagram whose records are in place behind it, and seals them.
    ///
    /// # Errors
    /// When the link has used up all its nonces.
    ///
    /// # Panics
    /// If the datagram is shorter than [`Self::header_len`].
    pub fn seal(
        &self,
        own: PeerName,
        channel: Channel,
        datagram: &mut [u8],
    ) -> Result<(), NoncesExhausted> {
        let (name, rest) =
            datagram.split_first_chunk_mut::<NAME_LEN>().expect("made with room for the header");
        *name = own.to_bytes();
        match self {
            Self::Plain => Ok(()),
            Self::Legacy(legacy) => legacy.seal(channel, rest),
        }
    }

    /// Opens a datagram where it lies and returns its records, once for each datagram.
    ///
    /// # Errors
    /// When it is not a datagram of this link, or comes a second time.
    pub fn open<'d>(
        &self,
        windows: &mut Windows,
        datagram: &'d mut [u8],
    ) -> Result<&'d [u8], OpenError> {
        let length = datagram.len();
        let Some(rest) = datagram.get_mut(NAME_LEN..) else {
            return Err(OpenError::TooShort { length });
        };
        match self {
            Self::Plain => Ok(rest),
            Self::Legacy(legacy) => legacy.open(windows, rest),
        }
    }
}

/// Every sequence number of a channel was used. A new connection has a new key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("all sequence numbers of this connection are used up")]
pub struct NoncesExhausted;

/// Why a datagram is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no room for a name and a sequence number.
    #[error("{length} bytes are too short for a datagram")]
    TooShort {
        /// Length of the datagram.
        length: usize,
    },
    /// Sealed with another key, or changed on the way.
    #[error("the seal of the datagram is broken")]
    Forged,
    /// It came before, or is too old to tell.
    #[error("the datagram came before")]
    Replayed,
}
