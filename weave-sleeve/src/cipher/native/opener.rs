//! Opens datagrams: finds the epoch of each, and rejects replays.
//!
//! ```text
//!   epochs   | previous | current | ahead ........................ |
//!   keys          1          1               14, made in advance
//!   window        1          1                -
//! ```
//!
//! The sender changes epochs on its own. A datagram of an epoch ahead that opens makes this epoch
//! the current one, even if all datagrams of epochs in between were lost. A datagram that does not
//! open changes nothing, and costs one attempt and no key.

use weave_core::mesh::SessionKey;

use super::schedule::{EpochKey, Ratchet};
use super::window::Window;
use super::{HEADER_LEN, Suite, TAG_LEN};

/// Epochs that a datagram can belong to. Fourteen of them can pass unseen: at two million datagrams
/// a second that takes a minute, after which a silent link is given up anyway.
const EPOCHS: u64 = 16;

/// Opens what the other side of a connection sent, each datagram once. It serves one receiving
/// thread.
#[derive(Debug)]
pub struct Opener {
    /// The highest epoch of any opened datagram.
    current: u64,
    this: Window,
    previous: Window,
    /// Keys from the previous epoch on. The key of an epoch is at its number modulo [`EPOCHS`].
    keys: Box<[EpochKey]>,
    /// The epoch that follows the last of these keys.
    ratchet: Ratchet,
    forged: u64,
    /// Most forged datagrams.
    limit: u64,
}

/// The reason why a datagram is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is shorter than header and tag.
    #[error("{length} bytes are too short for a sealed datagram")]
    TooShort {
        /// Length of the datagram.
        length: usize,
    },
    /// It was sealed with another key, or changed on the way.
    #[error("the datagram is forged or damaged")]
    Forged,
    /// It came before, or is too old to tell.
    #[error("the datagram is replayed or too old")]
    Replayed,
    /// No key is kept for its epoch: it is very late, or made up.
    #[error("the datagram is of epoch {epoch}, where {current} is the current one (modulo 256)")]
    Epoch {
        /// Its claimed epoch.
        epoch: u8,
        /// The current epoch.
        current: u8,
    },
    /// After so many forgeries one of the next could succeed: nothing is opened any more, and the
    /// connection has to be replaced.
    #[error("too many forged datagrams for one connection")]
    TooManyForged,
}

impl Opener {
    /// Starts a session; `outbound` is true on the side that dialled.
    pub fn new(key: &SessionKey, outbound: bool, suite: Suite) -> Self {
        let mut ratchet = Ratchet::new(key, !outbound, suite);
        Self {
            current: 0,
            this: Window::default(),
            previous: Window::default(),
            keys: (0..EPOCHS).map(|_| ratchet.advance()).collect(),
            ratchet,
            forged: 0,
            limit: suite.integrity_limit(),
        }
    }

    /// Changes the number of forged datagrams after which it gives up.
    #[cfg(test)]
    pub(super) fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Opens a datagram in place and returns the plaintext. A datagram opens only once.
    ///
    /// # Errors
    /// It is not a datagram of this connection, or it came before.
    pub fn open<'d>(&mut self, datagram: &'d mut [u8]) -> Result<&'d [u8], OpenError> {
        let length = datagram.len();
        if length < HEADER_LEN + TAG_LEN {
            return Err(OpenError::TooShort { length });
        }
        let Some((header, sealed)) = datagram.split_first_chunk_mut::<HEADER_LEN>() else {
            return Err(OpenError::TooShort { length });
        };
        if self.forged >= self.limit {
            return Err(OpenError::TooManyForged);
        }
        let [_, epoch, _, _, _, _, _, _, c0, c1, c2, c3] = *header;
        let counter = u32::from_be_bytes([c0, c1, c2, c3]);
        let number = self.number(epoch)?;
        // This comes before decryption, so that a replayed datagram does not cost that work.
        if self.window(number).is_some_and(|window| window.knows(counter)) {
            return Err(OpenError::Replayed);
        }
        if self.keys[slot(number)].open(counter, header, sealed).is_err() {
            self.forged += 1;
            return Err(OpenError::Forged);
        }
        if number > self.current {
            self.advance(number);
        }
        if let Some(window) = self.window(number) {
            window.mark(counter);
        }
        Ok(&sealed[..sealed.len() - TAG_LEN])
    }

    /// Returns the epoch that this octet stands for.
    fn number(&self, octet: u8) -> Result<u64, OpenError> {
        let [_, _, _, _, _, _, _, current] = self.current.to_be_bytes();
        let distance = octet.wrapping_sub(current).cast_signed();
        let number = self.current.checked_add_signed(distance.into());
        let kept = self.oldest()..self.oldest() + EPOCHS;
        number
            .filter(|number| kept.contains(number))
            .ok_or(OpenError::Epoch { epoch: octet, current })
    }

    /// Returns the first epoch with a key.
    const fn oldest(&self) -> u64 {
        self.current.saturating_sub(1)
    }

    /// Returns the window of this epoch, or `None` for one ahead, of which nothing has come.
    fn window(&mut self, number: u64) -> Option<&mut Window> {
        if number == self.current {
            Some(&mut self.this)
        } else if number + 1 == self.current {
            Some(&mut self.previous)
        } else {
            None
        }
    }

    /// Makes an epoch ahead the current one.
    fn advance(&mut self, number: u64) {
        std::mem::swap(&mut self.this, &mut self.previous);
        self.this.clear();
        if number > self.current + 1 {
            self.previous.clear();
        }
        let oldest = self.oldest();
        self.current = number;
        for left in oldest..self.oldest() {
            self.keys[slot(left)] = self.ratchet.advance();
        }
    }
}

const fn slot(number: u64) -> usize {
    (number % EPOCHS) as usize
}
