//! The format and the protection of the datagrams of a link.

use std::ops::Range;

use weave_core::mesh::LinkRequest;
use weave_core::mesh::PeerName;
use weave_core::time::Instant;

use crate::cipher::{Channel, Cipher, LegacyBox, NoncesExhausted};
use crate::native::{self, Capabilities, Form, Negotiated, Protection, Version};
use crate::replay::Windows;
use crate::{cipher, datagram};

/// The encapsulation that both sides of a link agree on.
#[derive(Debug)]
pub(crate) enum Encapsulation {
    /// The format of Weave Net 2.x.
    Legacy(Cipher),
    /// The format between routers of this kind.
    Native(Version, Protection),
}

/// The records of an opened datagram.
#[derive(Debug)]
pub(crate) enum Opened<'d> {
    Legacy(datagram::Records<'d>),
    Native(native::Records<'d>),
}

/// The reason why a datagram is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenFailure {
    /// It is shorter than a header and a trailer.
    TooShort,
    /// It was sealed with another key, changed on the way, or is of the other format.
    Forged,
    /// It came before, or is too old to tell.
    Replayed,
    /// There is no key for its epoch: it is very late, or made up.
    Epoch,
    /// Nothing is opened any more, because one of so many forgeries could succeed.
    TooManyForged,
}

impl From<cipher::OpenError> for OpenFailure {
    fn from(error: cipher::OpenError) -> Self {
        match error {
            cipher::OpenError::TooShort { .. } => Self::TooShort,
            cipher::OpenError::Forged => Self::Forged,
            cipher::OpenError::Replayed => Self::Replayed,
        }
    }
}

impl From<cipher::native::OpenError> for OpenFailure {
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

/// A record whose bytes are written directly into the datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<W> {
    pub(crate) source: PeerName,
    pub(crate) destination: PeerName,
    /// A legacy record is always a complete frame.
    pub(crate) form: Form,
    /// Number of times that the frame was relayed. Legacy records do not say it.
    pub(crate) relays: u8,
    /// Number of bytes.
    pub(crate) length: usize,
    /// Writes that many bytes.
    pub(crate) write: W,
}

impl Encapsulation {
    /// Negotiates the encapsulation with the neighbour.
    pub(crate) fn negotiated(
        request: &LinkRequest,
        capabilities: &Capabilities,
        now: Instant,
    ) -> Self {
        let LinkRequest { remote_features, outbound, session_key, .. } = request;
        let choice = capabilities.negotiate(remote_features, *outbound, session_key.is_some());
        match (session_key, choice) {
            (None, Negotiated::Plain(version)) => Self::Native(version, Protection::Plain),
            (None, _) => Self::Legacy(Cipher::Plain),
            (Some(key), Negotiated::Sealed(version, suite)) => {
                Self::Native(version, Protection::new(key, *outbound, suite, now))
            }
            (Some(key), _) => Self::Legacy(Cipher::Legacy(LegacyBox::new(key, *outbound))),
        }
    }

    /// Returns the length of what precedes the first record.
    pub(crate) const fn header_len(&self) -> usize {
        match self {
            Self::Legacy(cipher) => cipher.header_len(),
            Self::Native(_, protection) => protection.header_len(),
        }
    }

    /// Returns the length of what follows the last record.
    pub(crate) const fn trailer_len(&self) -> usize {
        match self {
            Self::Legacy(_) => 0,
            Self::Native(_, protection) => protection.trailer_len(),
        }
    }

    /// Returns the length of what precedes the bytes of each record.
    pub(crate) const fn record_header_len(&self) -> usize {
        match self {
            Self::Legacy(_) => datagram::RECORD_HEADER,
            Self::Native(..) => native::RECORD_HEADER,
        }
    }

    /// Returns the length of a record on the wire.
    pub(crate) const fn record_len<W>(&self, draft: &Draft<W>) -> usize {
        self.record_header_len() + draft.length
    }

    /// Writes a record to the start of `buffer` and returns its length, or `None` if it does not
    /// fit or has more than 65535 bytes.
    pub(crate) fn emit(
        &self,
        draft: &Draft<impl Fn(&mut [u8])>,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let Draft { source, destination, form, relays, length, write } = draft;
        let (header, rest) = buffer.split_at_mut_checked(self.record_header_len())?;
        write(rest.get_mut(..*length)?);
        let length = u16::try_from(*length).ok()?;
        match self {
            Self::Legacy(_) => {
                datagram::put_header(header.try_into().ok()?, *source, *destination, length);
            }
            Self::Native(version, _) => {
                let (header, relays) = (header.try_into().ok()?, version.relays(*relays));
                native::put_header(header, *source, *destination, *form, relays, length);
            }
        }
        Some(self.record_len(draft))
    }

    /// Returns the difference between the MTU of the path and that of the overlay, in a datagram
    /// with one frame: outer IPv4 and UDP headers, everything around the frame, inner Ethernet
    /// header.
    pub(crate) const fn overhead(&self) -> usize {
        cipher::OUTER_HEADERS
            + self.header_len()
            + self.record_header_len()
            + self.trailer_len()
            + weave_core::wire::ethernet::HEADER_LEN
    }

    /// Returns the name of the format, for the status.
    pub(crate) const fn format(&self) -> &'static str {
        match self {
            Self::Legacy(_) => "legacy",
            Self::Native(..) => "native",
        }
    }

    /// Returns the name of the cipher, for the status, or `None` in clear.
    pub(crate) const fn cipher(&self) -> Option<&'static str> {
        match self {
            Self::Legacy(cipher) => cipher.name(),
            Self::Native(_, protection) => protection.name(),
        }
    }

    /// Completes and seals datagrams whose records are in place, with room for header and trailer
    /// around them.
    pub(crate) fn seal(
        &self,
        now: Instant,
        own: PeerName,
        channel: Channel,
        arena: &mut [u8],
        datagrams: &[Range<usize>],
    ) -> Result<(), NoncesExhausted> {
        match self {
            Self::Legacy(cipher) => cipher.seal_batch(own, channel, arena, datagrams),
            Self::Native(_, protection) => {
                protection.seal(now, own, arena, datagrams);
                Ok(())
            }
        }
    }

    /// Opens adjacent datagrams in place, all but the last of the length `each_len`. Each datagram
    /// opens once.
    pub(crate) fn open_batch<'d>(
        &self,
        windows: &mut Windows,
        batch: &'d mut [u8],
        each_len: usize,
        mut each: impl FnMut(Result<Opened<'d>, OpenFailure>),
    ) {
        match self {
            Self::Legacy(cipher) => cipher.open_batch(windows, batch, each_len, |opened| {
                each(match opened {
                    Ok(records) => Ok(Opened::Legacy(datagram::Records::new(records))),
                    Err(error) => Err(error.into()),
                });
            }),
            Self::Native(_, protection) => {
                for datagram in batch.chunks_mut(each_len.max(1)) {
                    each(match protection.open(datagram) {
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
    ) -> Result<Opened<'d>, OpenFailure> {
        let (length, mut result) = (datagram.len(), Err(OpenFailure::TooShort));
        self.open_batch(windows, datagram, length, |opened| result = opened);
        result
    }
}
