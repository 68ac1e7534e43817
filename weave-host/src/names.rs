//! Names of devices: those of Weave Net 2.x where it has them (spec router.md, section 6).

/// The bridge, unless another name is wanted.
pub const BRIDGE_NAME: &str = "weave";
/// The TAP device through which the router hears and speaks.
pub const TAP_NAME: &str = "vethwe-tap";
/// Without TUN support in the kernel: the end of a veth pair that is a port of the bridge.
pub const CAPTURE_BRIDGE_END: &str = "vethwe-bridge";
/// And the end that the router reads and writes with packet sockets.
pub const CAPTURE_ROUTER_END: &str = "vethwe-pcap";
/// The datapath of the original's default layout.
pub(crate) const DATAPATH_NAME: &str = "datapath";
/// The end of the pair that joins bridge and datapath in that layout.
pub(crate) const DATAPATH_END: &str = "vethwe-datapath";
