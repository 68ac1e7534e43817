//! The first bytes of a connection, by which both sides agree on a version (spec mesh.md,
//! section 3).
//!
//! ```text
//!   0                5          6          7
//!   | 'w' 'e' 'a' 'v' 'e' | lowest  | highest |   supported protocol version
//! ```

use std::fmt;

/// Length of the header.
pub const HEADER_LEN: usize = 7;

const MAGIC: &[u8; 5] = b"weave";

/// A protocol that both sides may settle on.
///
/// Version 1, in which everything is one gob stream, is not among them: it has no short ids,
/// no choice of transports and no bound on the size of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Version {
    /// The protocol of Weave Net 1.2 to 2.9 (spec mesh.md, section 4).
    V2,
}

impl Version {
    const LOWEST: Self = Self::V2;
    const HIGHEST: Self = Self::V2;

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

/// The versions one side supports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The lowest.
    pub lowest: u8,
    /// The highest.
    pub highest: u8,
}

/// The two sides cannot start to talk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Something else than a router listens there, or somebody else than a router called: check
    /// the address.
    #[error("the other side does not speak the Weave protocol (it began with \"{}\")",
        .0.escape_ascii())]
    NotWeave([u8; MAGIC.len()]),
    /// The peer is from before Weave Net 1.2, or was told to use version 1 only.
    #[error(
        "the peer speaks only protocol version 1, which this router no longer does: \
         upgrade the peer to Weave Net 2.x"
    )]
    OnlyVersion1,
    /// One side is too old for the other.
    #[error(
        "the peer speaks protocol versions {lowest} to {highest}, this router {} to {}",
        Version::LOWEST,
        Version::HIGHEST
    )]
    NoCommonVersion {
        /// The lowest version of the peer.
        lowest: u8,
        /// Its highest.
        highest: u8,
    },
}

impl Header {
    /// What this implementation supports.
    pub const OWN: Self =
        Self { lowest: Version::LOWEST.number(), highest: Version::HIGHEST.number() };

    /// The bytes on the wire.
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let [w, e, a, v, e2] = *MAGIC;
        [w, e, a, v, e2, self.lowest, self.highest]
    }

    /// Reads a header from the first bytes of a connection; `None` while there are too few.
    ///
    /// # Errors
    /// As soon as the bytes cannot become a header. So a browser that calls by mistake is told
    /// at once, however short its request.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, HeaderError> {
        let common = bytes.len().min(MAGIC.len());
        if bytes[..common] != MAGIC[..common] {
            let mut began = [0; MAGIC.len()];
            began[..common].copy_from_slice(&bytes[..common]);
            return Err(HeaderError::NotWeave(began));
        }
        Ok(match bytes.get(MAGIC.len()..HEADER_LEN) {
            Some(&[lowest, highest]) => Some(Self { lowest, highest }),
            _ => None,
        })
    }

    /// The highest version that both this header and `theirs` cover.
    ///
    /// # Errors
    /// When there is none.
    pub fn negotiate(self, theirs: Self) -> Result<Version, HeaderError> {
        let Self { lowest, highest } = theirs;
        let (low, high) = (self.lowest.max(lowest), self.highest.min(highest));
        // Both ends know every version between the two numbers, so only the upper one matters.
        match Version::from_number(high) {
            Some(version) if low <= high => Ok(version),
            _ if lowest <= 1 && highest == 1 => Err(HeaderError::OnlyVersion1),
            _ => Err(HeaderError::NoCommonVersion { lowest, highest }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(lowest: u8, highest: u8) -> Result<Version, HeaderError> {
        Header::OWN.negotiate(Header { lowest, highest })
    }

    #[test]
    fn encoded_headers_decode() {
        assert_eq!(&Header::OWN.encode(), b"weave\x02\x02");
        let header = Header { lowest: 1, highest: 9 };
        assert_eq!(Header::decode(&header.encode()), Ok(Some(header)));
        for len in 0..HEADER_LEN {
            assert_eq!(Header::decode(&header.encode()[..len]), Ok(None));
        }
    }

    #[test]
    fn the_highest_common_version_is_used() {
        assert_eq!(negotiate(1, 2), Ok(Version::V2));
        assert_eq!(negotiate(2, 3), Ok(Version::V2));
        assert_eq!(negotiate(0, 9), Ok(Version::V2));
    }

    #[test]
    fn without_a_common_version_it_says_who_is_too_old() {
        let no_common = |lowest, highest| Err(HeaderError::NoCommonVersion { lowest, highest });
        assert_eq!(negotiate(1, 1), Err(HeaderError::OnlyVersion1));
        assert_eq!(negotiate(3, 4), no_common(3, 4));
        assert_eq!(negotiate(0, 0), no_common(0, 0));
        assert_eq!(negotiate(2, 1), no_common(2, 1));
        let text = negotiate(3, 4).unwrap_err().to_string();
        assert_eq!(text, "the peer speaks protocol versions 3 to 4, this router 2 to 2");
    }

    #[test]
    fn other_protocols_are_noticed_at_their_first_byte() {
        for (bytes, began) in [(&b"G"[..], *b"G\0\0\0\0"), (b"wEave\x01\x02", *b"wEave")] {
            assert_eq!(Header::decode(bytes), Err(HeaderError::NotWeave(began)));
        }
    }
}
