//! Super-frames: cut into ordinary frames for who wants those, and made of ordinary frames for
//! who can take more at once.
//!
//! ```text
//!   super-frame   | headers | payload of many segments ........................ |
//!                                   segment ↓   ↑ coalesce
//!   frames        | headers | payload |  | headers | payload |  | headers | payl |
//! ```
//!
//! A super-frame is what the kernel hands over and takes instead of a train of frames (virtio
//! 1.2, section 5.1.6): it passes the bridge, the stack and the system call once. All here are
//! functions on slices.

mod coalesce;
mod layout;
mod rejoin;
#[cfg(test)]
pub(crate) mod sample;
mod segment;

pub use coalesce::{Coalescer, Joins};
pub use rejoin::{NotAPiece, Piece, Rejoiner, checksum_request};
pub use segment::{Parts, SegmentError, Segments};
