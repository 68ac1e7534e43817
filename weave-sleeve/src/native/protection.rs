//! The protection of native datagrams.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use weave_core::mesh::{PeerName, SessionKey};
use weave_core::time::Instant;

use super::{PLAIN, PLAIN_HEADER, put_plain_header};
use crate::cipher::native::{HEADER_LEN, OpenError, Opener, Sealer, Suite, TAG_LEN};

/// The protection of a link's datagrams in the native format.
#[derive(Debug)]
pub(crate) enum Protection {
    /// Only the checksum of UDP.
    Plain,
    /// An AEAD.
    Sealed(Box<Keys>),
}

/// The keys of both directions.
#[derive(Debug)]
pub(crate) struct Keys {
    sealer: Sealer,
    /// Used by the receiving thread alone, so that the lock is never contended.
    opener: Mutex<Opener>,
}

impl Protection {
    /// Starts a session; `outbound` is true on the side that dialled.
    pub(crate) fn new(key: &SessionKey, outbound: bool, suite: Suite, now: Instant) -> Self {
        Self::Sealed(Box::new(Keys {
            sealer: Sealer::new(key, outbound, suite, now),
            opener: Mutex::new(Opener::new(key, outbound, suite)),
        }))
    }

    /// Returns the length of what precedes the first record.
    pub(crate) const fn header_len(&self) -> usize {
        match self {
            Self::Plain => PLAIN_HEADER,
            Self::Sealed(_) => HEADER_LEN,
        }
    }

    /// Returns the length of what follows the last record.
    pub(crate) const fn trailer_len(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Sealed(_) => TAG_LEN,
        }
    }

    /// Returns the name of the cipher, or `None` in clear.
    pub(crate) const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Sealed(keys) => Some(keys.sealer.suite().name()),
        }
    }

    /// Writes the headers of datagrams whose records are in place, and seals them.
    ///
    /// # Panics
    /// If one has no room for header and trailer.
    pub(crate) fn seal(
        &self,
        now: Instant,
        own: PeerName,
        arena: &mut [u8],
        datagrams: &[Range<usize>],
    ) {
        match self {
            Self::Plain => {
                for datagram in datagrams {
                    put_plain_header(own, &mut arena[datagram.clone()]);
                }
            }
            Self::Sealed(keys) => keys.sealer.seal_batch(now, own, arena, datagrams),
        }
    }

    /// Opens a datagram in place and returns its records. A sealed datagram opens only once.
    ///
    /// # Errors
    /// It is not a datagram of this link, or it came before.
    pub(crate) fn open<'d>(&self, datagram: &'d mut [u8]) -> Result<&'d [u8], OpenError> {
        match self {
            Self::Plain => {
                let length = datagram.len();
                match datagram {
                    [PLAIN, rest @ ..] => {
                        rest.get(PLAIN_HEADER - 1..).ok_or(OpenError::TooShort { length })
                    }
                    _ => Err(OpenError::Forged),
                }
            }
            Self::Sealed(keys) => {
                keys.opener.lock().unwrap_or_else(PoisonError::into_inner).open(datagram)
            }
        }
    }
}
