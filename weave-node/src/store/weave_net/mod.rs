//! The state of Weave Net 2.x, taken over and given back.
//!
//! ```text
//!   <prefix>data.db ──file──▶ bytes ──values──▶ LegacyState ──▶ <prefix>data.redb   first start
//!   <prefix>data.db ◀─rename── bytes ◀─values── LegacyState ◀── <prefix>data.redb   roll_back
//! ```
//!
//! Its file is never written to. It is read when there is none of ours, and again when it was
//! changed since: then Weave Net has run meanwhile, and knows better than we which addresses are
//! in use.

mod file;
mod values;

pub(super) use file::{legacy_file, newest_transaction, read};
pub(super) use values::{FLAGS, LegacyState};

#[cfg(test)]
mod tests;
