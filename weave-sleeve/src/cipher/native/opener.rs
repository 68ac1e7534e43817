//! Opening: which epoch a datagram is of, and whether it came before.
//!
//! ```text
//!   epochs   | previous | current | ahead ........................ |
//!   keys          1          1               14, made in advance
//!   window        1          1                -
//! ```
//!
//! The sender goes from one epoch to the next on its own. A datagram of an epoch ahead that opens
//! makes this one the current one, with any epochs between them lost on the way. Whatever does not
//! open changes nothing, and costs one attempt and no key.

use weave_core::mesh::SessionKey;

use super::schedule::{EpochKey, Ratchet};
use super::window::Window;
use super::{HEADER_LEN, Suite, TAG_LEN};

/// Epochs that a datagram can be of. Fourteen of them can pass unseen: at two million datagrams a
/// second that is a minute, after which a silent link is given up anyway.
const EPOCHS: u64 = 16;

/// Opens what the other side of a connection sent, each datagram once. For the thread that
/// receives.
#[derive(Debug)]
pub struct Opener {
    /// Of the highest epoch that a datagram was seen of.
    current: u64,
    this: Window,
    previous: Window,
    /// Of the previous epoch on; an epoch is at its number modulo [`EPOCHS`].
    keys: Box<[EpochKey]>,
    /// At the epoch behind the last of these.
    ratchet: Ratchet,
    forged: u64,
    /// Of forged datagrams.
    limit: u64,
}

/// Why a datagram is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no room for header and tag.
    #[error("{length} bytes are too short for a sealed datagram")]
    TooShort {
        /// Length of the datagram.
        length: usize,
    },
    /// Sealed with another key, or changed on the way.
    #[error("the seal of the datagram is broken")]
    Forged,
    /// It came before, or is too old to tell.
    #[error("the datagram came before")]
    Replayed,
    /// No key is kept for its epoch: it is very late, or made up.
    #[error("the datagram is of epoch {epoch}, where {current} is the current one (modulo 256)")]
    Epoch {
        /// As the datagram says.
        epoch: u8,
        /// The one that datagrams are expected of.
        current: u8,
    },
    /// So many datagrams were forged that one of the next could succeed: nothing is opened any
    /// more, and the connection has to be made anew.
    #[error("too many forged datagrams for one connection")]
    TooManyForged,
}

impl Opener {
    /// A fresh session; `outbound` if this side dialled.
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

    /// The same, to be given up after so many forged datagrams.
    #[cfg(test)]
    pub(super) fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Opens a datagram where it lies and returns what was sealed, once for each datagram.
    ///
    /// # Errors
    /// When it is not a datagram of this connection, or comes a second time.
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
        // Before the work of opening it, which a recorded datagram need not cost.
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

    /// The epoch that this octet stands for.
    fn number(&self, octet: u8) -> Result<u64, OpenError> {
        let [_, _, _, _, _, _, _, current] = self.current.to_be_bytes();
        let distance = octet.wrapping_sub(current).cast_signed();
        let number = self.current.checked_add_signed(distance.into());
        let kept = self.oldest()..self.oldest() + EPOCHS;
        number
            .filter(|number| kept.contains(number))
            .ok_or(OpenError::Epoch { epoch: octet, current })
    }

    /// The first epoch that there is a key for.
    const fn oldest(&self) -> u64 {
        self.current.saturating_sub(1)
    }

    /// What came of this epoch. None of those ahead: of these nothing came.
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
