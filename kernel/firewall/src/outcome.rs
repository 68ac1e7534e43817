//! What a look at the rules led to.

/// What a look at the rules led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// They were as they should be.
    InOrder,
    /// Some were missing, or were others: they are made.
    Changed,
}
