//! Message 1 of the fast datapath: what a neighbour must know to send to us (spec fastdp.md,
//! section 9.2).
//!
//! ```text
//! 0          32       36             64
//! ┌──────────┬────────┬──────────────┐
//! │ nonce    │ SPI    │ 28 × 0       │     SPI big-endian; what follows it is not looked at
//! └──────────┴────────┴──────────────┘
//! ```

use weave_xfrm::Spi;

use super::keys::NONCE_LEN;

/// Length of the message.
pub const ANNOUNCEMENT_LEN: usize = 64;

/// How the sender of the message receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Its key is [derived](super::keys::derive) with this.
    pub nonce: [u8; NONCE_LEN],
    /// Its number, chosen by the kernel there.
    pub spi: Spi,
}

/// A message 1 that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// It has another length.
    #[error("a key announcement has {length} bytes instead of {ANNOUNCEMENT_LEN}")]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// There is no state of number zero.
    #[error("a key announcement at offset {NONCE_LEN} has an SPI of zero")]
    NoSpi,
}

impl Announcement {
    /// The data of the message.
    pub fn encode(&self) -> [u8; ANNOUNCEMENT_LEN] {
        let mut data = [0; ANNOUNCEMENT_LEN];
        let fields = self.nonce.into_iter().chain(self.spi.get().to_be_bytes());
        for (place, byte) in data.iter_mut().zip(fields) {
            *place = byte;
        }
        data
    }

    /// Reads the data of the message.
    ///
    /// # Errors
    /// It has another length, or no SPI.
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
