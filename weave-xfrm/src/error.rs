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
    /// An answer without what was asked for.
    #[error("there is no {what}")]
    Missing {
        /// What.
        what: &'static str,
    },
}
