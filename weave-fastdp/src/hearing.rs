//! The control messages of the fast datapath (spec fastdp.md, section 7), and the one that routers
//! like this one have in addition.
//!
//! | message | data | meaning |
//! |---|---|---|
//! | 0 | – | the first heartbeat arrived |
//! | 1 | 64 bytes | set up the outbound security association |
//! | 2 | 1 byte | what arrives now: [`Hearing`] |
//!
//! Message 2 is sent, when it changes, to neighbours that announce the feature [`FEATURE`]. That
//! it comes over TCP proves that its sender is alive while heartbeats are missing: so the path is
//! to blame, and it is known in which direction. A neighbour that is stopped says nothing, and
//! what the kernel carries for it goes on.

/// A heartbeat arrived for the first time.
pub const ACKNOWLEDGED: u8 = 0;
/// What an encrypted tunnel needs to know.
pub const SECURITY_ASSOCIATION: u8 = 1;
/// What arrives now.
pub const HEARING: u8 = 2;

/// The key in the handshake's feature map of routers that send and understand message 2.
pub const FEATURE: &str = "FastdpHearing";
/// Its value: the version of the message.
pub const FEATURE_VERSION: &str = "1";

/// Which special frames of the neighbour arrive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hearing {
    /// None.
    Nothing,
    /// Small ones alone.
    Small,
    /// Those of full size.
    Full,
}

/// A message 2 that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HearingError {
    /// There is not exactly one byte.
    #[error("{0} bytes in place of one")]
    Length(usize),
    /// Its value has no meaning.
    #[error("no meaning of the value {0}")]
    Unknown(u8),
}

impl Hearing {
    /// As it travels.
    pub const fn encode(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Small => 1,
            Self::Full => 2,
        }
    }

    /// As it arrived.
    ///
    /// # Errors
    /// It makes no sense.
    pub const fn decode(data: &[u8]) -> Result<Self, HearingError> {
        match *data {
            [0] => Ok(Self::Nothing),
            [1] => Ok(Self::Small),
            [2] => Ok(Self::Full),
            [other] => Err(HearingError::Unknown(other)),
            _ => Err(HearingError::Length(data.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for hearing in [Hearing::Nothing, Hearing::Small, Hearing::Full] {
            assert_eq!(Hearing::decode(&[hearing.encode()]), Ok(hearing));
        }
        assert_eq!(Hearing::decode(&[3]), Err(HearingError::Unknown(3)));
        assert_eq!(Hearing::decode(&[]), Err(HearingError::Length(0)));
        assert_eq!(Hearing::decode(&[2, 2]), Err(HearingError::Length(2)));
    }
}
