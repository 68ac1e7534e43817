//! How the datagrams of a link are made: in which format, and what protects them.

use std::ops::Range;

use weave_core::mesh::LinkRequest;
use weave_core::mesh::PeerName;
use weave_core::time::Instant;

use crate::cipher::{Channel, Cipher, LegacyBox, NoncesExhausted};
use crate::native::{self, Abilities, Choice, Form, Seal};
use crate::replay::Windows;
use crate::{cipher, datagram};

/// What both sides of a link came to.
#[derive(Debug)]
pub(crate) enum Encapsulation {
    /// The format of Weave Net 2.x.
    Legacy(Cipher),
    /// That between our own routers.
    Native(Seal),
}

/// The records of a datagram.
#[derive(Debug)]
pub(crate) enum Opened<'d> {
    Legacy(datagram::Records<'d>),
    Native(native::Records<'d>),
}

/// Why a datagram is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unopened {
    /// There is no room for what is around the records.
    TooShort,
    /// Sealed with another key, or changed on the way, or of the other format.
    Forged,
    /// It came before, or is too old to tell.
    Replayed,
    /// There is no key for its epoch: it is very late, or made up.
    Epoch,
    /// Nothing is opened any more: one of so many that are forged could succeed.
    TooManyForged,
}

impl From<cipher::OpenError> for Unopened {
    fn from(error: cipher::OpenError) -> Self {
        match error {
            cipher::OpenError::TooShort { .. } => Self::TooShort,
            cipher::OpenError::Forged => Self::Forged,
            cipher::OpenError::Replayed => Self::Replayed,
        }
    }
}

impl From<cipher::native::OpenError> for Unopened {
    fn from(error: cipher::native::OpenError) -> Self {
        use cipher::native::OpenError;
        match error {
            OpenError::TooShort { .. } => Self::TooShort,
            OpenError::Forged => Self::Forged,
            OpenError::Replayed => Self::Replayed,
            OpenError::Epoch { .. } => Self::Epoch,
            OpenError::TooManyForged => Self::TooManyForged,
        }
    }
}

/// A record whose bytes are made where they are sent from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<W> {
    pub(crate) source: PeerName,
    pub(crate) destination: PeerName,
    /// A legacy record is always a complete frame.
    pub(crate) form: Form,
    /// How many bytes there will be.
    pub(crate) length: usize,
    /// Makes them in a place of that length.
    pub(crate) write: W,
}

impl Encapsulation {
    /// What this side and the neighbour have in common.
    pub(crate) fn agreed(request: &LinkRequest, abilities: &Abilities, now: Instant) -> Self {
        let LinkRequest { remote_features, outbound, session_key, .. } = request;
        let choice = abilities.agree(remote_features, *outbound, session_key.is_some());
        match (session_key, choice) {
            (None, Choice::Plain) => Self::Native(Seal::Plain),
            (None, _) => Self::Legacy(Cipher::Plain),
            (Some(key), Choice::Sealed(suite)) => {
                Self::Native(Seal::new(key, *outbound, suite, now))
            }
            (Some(key), _) => Self::Legacy(Cipher::Legacy(LegacyBox::new(key, *outbound))),
        }
    }

    /// What precedes the first record.
    pub(crate) const fn header_len(&self) -> usize {
        match self {
            Self::Legacy(cipher) => cipher.header_len(),
            Self::Native(seal) => seal.header_len(),
        }
    }

    /// What follows the last record.
    pub(crate) const fn trailer_len(&self) -> usize {
        match self {
            Self::Legacy(_) => 0,
            Self::Native(seal) => seal.trailer_len(),
        }
    }

    /// What precedes the bytes of each record.
    pub(crate) const fn record_header_len(&self) -> usize {
        match self {
            Self::Legacy(_) => datagram::RECORD_HEADER,
            Self::Native(_) => native::RECORD_HEADER,
        }
    }

    /// Length of a record on the wire.
    pub(crate) const fn record_len<W>(&self, draft: &Draft<W>) -> usize {
        self.record_header_len() + draft.length
    }

    /// Writes a record to the start of `buffer`; returns its length, or none if it does not fit or
    /// has more than 65535 bytes.
    pub(crate) fn emit(
        &self,
        draft: &Draft<impl Fn(&mut [u8])>,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let Draft { source, destination, form, length, write } = draft;
        let (header, rest) = buffer.split_at_mut_checked(self.record_header_len())?;
        write(rest.get_mut(..*length)?);
        let length = u16::try_from(*length).ok()?;
        match self {
            Self::Legacy(_) => {
                datagram::put_header(header.try_into().ok()?, *source, *destination, length);
            }
            Self::Native(_) => {
                let header = header.try_into().ok()?;
                native::put_header(header, *source, *destination, *form, length);
            }
        }
        Some(self.record_len(draft))
    }

    /// The difference between the MTU of the path and that of the overlay, in a datagram of one
    /// frame: outer IPv4 and UDP headers, what is around the frame, inner Ethernet header.
    pub(crate) const fn overhead(&self) -> usize {
        cipher::OUTER_HEADERS
            + self.header_len()
            + self.record_header_len()
            + self.trailer_len()
            + weave_core::wire::ethernet::HEADER_LEN
    }

    /// The name of the format, for the status.
    pub(crate) const fn format(&self) -> &'static str {
        match self {
            Self::Legacy(_) => "legacy",
            Self::Native(_) => "native",
        }
    }

    /// The name of the cipher, for the status; none in clear.
    pub(crate) const fn cipher(&self) -> Option<&'static str> {
        match self {
            Self::Legacy(cipher) => cipher.name(),
            Self::Native(seal) => seal.name(),
        }
    }

    /// Makes datagrams of records that are in place, with room for header and trailer around
    /// them.
    pub(crate) fn seal(
        &self,
        now: Instant,
        own: PeerName,
        channel: Channel,
        arena: &mut [u8],
        datagrams: &[Range<usize>],
    ) -> Result<(), NoncesExhausted> {
        match self {
            Self::Legacy(cipher) => cipher.seal_train(own, channel, arena, datagrams),
            Self::Native(seal) => {
                seal.seal(now, own, arena, datagrams);
                Ok(())
            }
        }
    }

    /// Opens datagrams where they lie one behind the other, all but the last of them of the length
    /// `each_len`. Each opens once.
    pub(crate) fn open_train<'d>(
        &self,
        windows: &mut Windows,
        train: &'d mut [u8],
        each_len: usize,
        mut each: impl FnMut(Result<Opened<'d>, Unopened>),
    ) {
        match self {
            Self::Legacy(cipher) => cipher.open_train(windows, train, each_len, |opened| {
                each(match opened {
                    Ok(records) => Ok(Opened::Legacy(datagram::Records::new(records))),
                    Err(error) => Err(error.into()),
                });
            }),
            Self::Native(seal) => {
                for datagram in train.chunks_mut(each_len.max(1)) {
                    each(match seal.open(datagram) {
                        Ok(records) => Ok(Opened::Native(native::Records::new(records))),
                        Err(error) => Err(error.into()),
                    });
                }
            }
        }
    }

    /// Opens one datagram.
    #[cfg(test)]
    pub(crate) fn open<'d>(
        &self,
        windows: &mut Windows,
        datagram: &'d mut [u8],
    ) -> Result<Opened<'d>, Unopened> {
        let (length, mut result) = (datagram.len(), Err(Unopened::TooShort));
        self.open_train(windows, datagram, length, |opened| result = opened);
        result
    }
}
