//! Message 1 of the fast datapath, which announces an inbound security association to the
//! neighbour (spec fastdp.md, section 9.2).
//!
//! ```text
//! 0          32       36             64
//! ┌──────────┬────────┬──────────────┐
//! │ nonce    │ SPI    │ 28 × 0       │     SPI big-endian; the rest is ignored
//! └──────────┴────────┴──────────────┘
//! ```

use weave_xfrm::Spi;

use super::keys::NONCE_LEN;

/// Length of the message.
pub const ANNOUNCEMENT_LEN: usize = 64;

/// An inbound security association of the sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Nonce from which the key is [derived](super::keys::derive).
    pub nonce: [u8; NONCE_LEN],
    /// SPI, chosen by the sender's kernel.
    pub spi: Spi,
}

/// Reasons why message 1 cannot be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// The message has another length.
    #[error("a key announcement has {length} bytes instead of {ANNOUNCEMENT_LEN}")]
    Length {
        /// Length of the message in bytes.
        length: usize,
    },
    /// The SPI is zero, which no state has.
    #[error("a key announcement at offset {NONCE_LEN} has an SPI of zero")]
    NoSpi,
}

impl Announcement {
    /// Encodes the data of the message.
    pub fn encode(&self) -> [u8; ANNOUNCEMENT_LEN] {
        let mut data = [0; ANNOUNCEMENT_LEN];
        let fields = self.nonce.into_iter().chain(self.spi.get().to_be_bytes());
        for (place, byte) in data.iter_mut().zip(fields) {
            *place = byte;
        }
        data
    }

    /// Decodes the data of the message.
    ///
    /// # Errors
    /// Fails if the message has another length or no SPI.
    pub fn decode(data: &[u8]) -> Result<Self, AnnouncementError> {
        if data.len() != ANNOUNCEMENT_LEN {
            return Err(AnnouncementError::Length { length: data.len() });
        }
        let length = AnnouncementError::Length { length: data.len() };
        let (nonce, rest) = data.split_first_chunk().ok_or(length)?;
        let (spi, _) = rest.split_first_chunk().ok_or(length)?;
        let spi = Spi::new(u32::from_be_bytes(*spi)).ok_or(AnnouncementError::NoSpi)?;
        Ok(Self { nonce: *nonce, spi })
    }
}
