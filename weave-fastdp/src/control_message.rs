//! The control messages of the fast datapath (spec fastdp.md, section 7), and one of our own.
//!
//! | message | data | meaning |
//! |---|---|---|
//! | 0 | – | the first heartbeat arrived |
//! | 1 | 64 bytes | set up the outbound security association |
//! | 2 | 1 byte | which special frames arrive now: [`ReceiveStatus`] |
//!
//! Message 2 is sent, whenever the status changes, to neighbours that announce the feature
//! [`FEATURE`]. It comes over TCP, which proves that its sender is alive while heartbeats are
//! missing: the path is to blame, in a known direction. A neighbour that is stopped sends no
//! message, and the kernel continues to carry its frames.

/// Number of the message that acknowledges the first heartbeat.
pub const ACKNOWLEDGED: u8 = 0;
/// Number of the message that announces an inbound security association.
pub const SECURITY_ASSOCIATION: u8 = 1;
/// Number of the message that reports the [`ReceiveStatus`].
pub const RECEIVE_STATUS: u8 = 2;

/// Key in the handshake's feature map of routers that send and understand message 2.
pub const FEATURE: &str = "FastdpHearing";
/// Value of [`FEATURE`], which is the version of the message.
pub const FEATURE_VERSION: &str = "1";

/// The special frames of a neighbour that arrive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ReceiveStatus {
    /// No frames arrive.
    Nothing,
    /// Only small frames arrive.
    Small,
    /// Frames of full size arrive.
    Full,
}

/// Reasons why message 2 cannot be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveStatusError {
    /// The message does not have exactly one byte.
    #[error("{0} bytes instead of one")]
    Length(usize),
    /// The value is unknown.
    #[error("unknown value {0}")]
    Unknown(u8),
}

impl ReceiveStatus {
    /// Encodes the data of the message.
    pub const fn encode(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Small => 1,
            Self::Full => 2,
        }
    }

    /// Decodes the data of a message.
    ///
    /// # Errors
    /// Fails if the message does not have exactly one byte, or if its value is unknown.
    pub const fn decode(data: &[u8]) -> Result<Self, ReceiveStatusError> {
        match *data {
            [0] => Ok(Self::Nothing),
            [1] => Ok(Self::Small),
            [2] => Ok(Self::Full),
            [other] => Err(ReceiveStatusError::Unknown(other)),
            _ => Err(ReceiveStatusError::Length(data.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_as_they_were_encoded() {
        for status in [ReceiveStatus::Nothing, ReceiveStatus::Small, ReceiveStatus::Full] {
            assert_eq!(ReceiveStatus::decode(&[status.encode()]), Ok(status));
        }
        assert_eq!(ReceiveStatus::decode(&[3]), Err(ReceiveStatusError::Unknown(3)));
        assert_eq!(ReceiveStatus::decode(&[]), Err(ReceiveStatusError::Length(0)));
        assert_eq!(ReceiveStatus::decode(&[2, 2]), Err(ReceiveStatusError::Length(2)));
    }
}
