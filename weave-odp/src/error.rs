//! What can be wrong with bytes.

/// Why bytes from the kernel are not what they should be. Offsets count from the first byte of
/// what was being decoded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is not enough for a fixed part.
    #[error("{what} at offset {offset} needs {needed} bytes, but {left} are left")]
    Short {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        offset: usize,
        /// Its length in bytes.
        needed: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// An attribute that says it is longer than what is left, or shorter than its own header.
    #[error("an attribute at offset {offset} says it has {length} bytes, of {left}")]
    Attribute {
        /// Where it starts.
        offset: usize,
        /// Its length in bytes, as it says.
        length: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// A value of the wrong length.
    #[error("{what} at offset {offset} has {length} bytes instead of {expected}")]
    Length {
        /// Which value.
        what: &'static str,
        /// Where it starts.
        offset: usize,
        /// The length it must have, in bytes.
        expected: usize,
        /// The length it has.
        length: usize,
    },
    /// A name that is not UTF-8.
    #[error("{what} at offset {offset} is no text")]
    Text {
        /// Which name.
        what: &'static str,
        /// Where it starts.
        offset: usize,
    },
    /// An attribute without which the rest makes no sense.
    #[error("there is no {what}")]
    Missing {
        /// Which.
        what: &'static str,
    },
    /// An action that this crate does not know. A flow with it is not one of ours.
    #[error("an unknown action of type {kind} at offset {offset}")]
    UnknownAction {
        /// Its type.
        kind: u16,
        /// Where its value starts.
        offset: usize,
    },
}

/// A packet, a name or a list of actions does not fit into an attribute, whose length is a
/// 16-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{length} bytes do not fit into an attribute")]
pub struct TooLong {
    /// How long it is, in bytes.
    pub length: usize,
}
