//! What protects a native datagram.

use weave_core::mesh::PeerName;

use super::{PLAIN, PLAIN_HEADER, put_plain_header};
use crate::cipher::{NoncesExhausted, OpenError};
use crate::replay::Windows;

/// The protection of the datagrams of a link.
#[derive(Debug)]
pub(crate) enum Seal {
    /// Nothing but the checksum of UDP.
    Plain,
}

impl Seal {
    /// What precedes the first record.
    pub(crate) const fn header_len(&self) -> usize {
        match self {
            Self::Plain => PLAIN_HEADER,
        }
    }

    /// What follows the last record.
    pub(crate) const fn trailer_len(&self) -> usize {
        match self {
            Self::Plain => 0,
        }
    }

    /// The name of the cipher; none without.
    pub(crate) const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
        }
    }

    /// Writes the header of a datagram whose records are in place behind it, and seals them.
    ///
    /// # Errors
    /// When the link has used up all its nonces.
    ///
    /// # Panics
    /// If there is no room for header and trailer.
    pub(crate) fn seal(&self, own: PeerName, datagram: &mut [u8]) -> Result<(), NoncesExhausted> {
        match self {
            Self::Plain => put_plain_header(own, datagram),
        }
        Ok(())
    }

    /// Opens a datagram where it lies and returns its records, once for each datagram.
    ///
    /// # Errors
    /// When it is not a datagram of this link, or comes a second time.
    pub(crate) fn open<'d>(
        &self,
        _windows: &mut Windows,
        datagram: &'d mut [u8],
    ) -> Result<&'d [u8], OpenError> {
        match self {
            Self::Plain => match datagram {
                [PLAIN, _, records @ ..] => records
                    .get(PLAIN_HEADER - 2..)
                    .ok_or(OpenError::TooShort { length: PLAIN_HEADER }),
                _ => Err(OpenError::Forged),
            },
        }
    }
}
