//! The learning switch: where a frame goes, and the transports that take it there.
//!
//! * [`decision`]: the one forwarding decision, a pure function.
//! * [`ForwardingTable`]: next hops, broadcast sets and links, published whole.
//! * [`MacTable`]: which peer a station lives behind.
//! * [`Switch`]: these together, shared by control plane and data threads.
//! * [`Worker`], [`Pass`]: what a data thread calls.
//! * [`Selector`]: which transport of a connection is in use.
//! * [`virtio`]: the header by which devices hand over unfinished frames.
//! * [`Overlay`], [`Link`], [`Forwarder`]: what a transport implements.

mod counters;
pub mod decision;
mod frame;
mod mac_table;
mod null;
mod overlay;
mod pass;
mod selector;
mod shared;
mod table;
pub mod virtio;

pub use counters::{DropCounts, SwitchReport};
pub use decision::{Addresses, Arrival, Decision, DropCause, MAX_RELAYS, Onward};
pub use frame::{ChecksumRequest, Frame, Segmentation, SegmentationKind};
pub use mac_table::{
    ANSWER, Conflict, Learned, MAX_AGE, MacEntry, MacTable, QUIET, SETTLED, SWEEP_INTERVAL,
};
pub use null::NullOverlay;
pub use overlay::{
    Envelope, Forwarded, Forwarder, ForwarderId, Link, LinkEvent, LinkStatus, Overlay,
    PrepareError, Waker, WorkerId,
};
pub use pass::{Inject, Pass, Worker};
pub use selector::{MemberReport, MemberState, Selector, SelectorEvent};
pub use shared::{RecentEvents, Switch, TooManyWorkers};
pub use table::{ForwardingTable, Hops, Neighbour, NeighbourLinks, Topology};
