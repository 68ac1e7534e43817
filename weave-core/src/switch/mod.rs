//! The learning switch: where a frame goes, and the transports that take it there.

mod frame;
mod overlay;

pub use frame::{ChecksumRequest, Frame, Segmentation, SegmentationKind};
pub use overlay::{
    Envelope, Forwarded, Forwarder, Link, LinkEvent, LinkParams, LinkStatus, Overlay, PrepareError,
    Waker, WorkerId,
};
