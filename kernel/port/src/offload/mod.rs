//! Super-frames: cut into ordinary frames for receivers that want those, and built from ordinary
//! frames for receivers that accept more at once.
//!
//! ```text
//!   super-frame   | headers | payload of many segments ........................ |
//!                                   segment ↓   ↑ coalesce
//!   frames        | headers | payload |  | headers | payload |  | headers | payl |
//! ```
//!
//! The kernel exchanges a super-frame instead of a run of frames (virtio 1.2, section 5.1.6): it
//! crosses the bridge, the network stack and the system call once. Everything here is a function on
//! slices.
//!
//! * [`Segments`] cuts, as a network card does on the way out.
//! * [`Coalescer`] builds super-frames from ordinary frames.
//! * [`Reassembler`] builds them from segments that carry the headers of the whole.

mod coalesce;
mod layout;
mod reassemble;
#[cfg(test)]
pub(crate) mod sample;
mod segment;

pub use coalesce::{Coalescer, SuperFrameKinds};
pub use reassemble::{NotASegment, Reassembler, Segment, checksum_request};
pub use segment::{Parts, SegmentError, Segments};
