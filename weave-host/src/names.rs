//! Names of devices: those of Weave Net 2.x where it has them (spec router.md, section 6).

use sha2::{Digest, Sha256};

/// The bridge, unless another name is wanted.
pub const BRIDGE_NAME: &str = "weave";
/// The interface in a container, unless another name is wanted.
pub const CONTAINER_INTERFACE: &str = "ethwe";
/// Start of the name of its other end, on the bridge.
pub(crate) const HOST_END: &str = "vethwepl";
/// Start of the name that the interface in the container has until it is complete.
pub(crate) const GUEST_END: &str = "vethwepg";
/// Start of the name of an end that the runtime of a container moves there by itself.
pub(crate) const MOVABLE_END: &str = "vethwepm";
/// The dummy device by which the original raised the MTU of its bridge.
pub(crate) const MTU_DUMMY: &str = "vethwedu";
/// The kernel's name for the device of a datapath.
pub(crate) const DATAPATH_KIND: &str = "openvswitch";
/// The datapath of the original's default layout.
pub(crate) const DATAPATH_NAME: &str = "datapath";
/// The end of the pair that joins bridge and datapath in that layout.
pub(crate) const DATAPATH_END: &str = "vethwe-datapath";

/// Names of the devices through which the router of a bridge hears and speaks. Those of the
/// default bridge are the same everywhere; those of another follow from its name, so that each
/// bridge of a host can have a router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortNames {
    /// The TAP device.
    pub tap: String,
    /// Without TUN support in the kernel: the end of a veth pair that is a port of the bridge.
    pub bridge_end: String,
    /// And the end that the router reads and writes with packet sockets.
    pub router_end: String,
    /// The kernel datapath beside the bridge.
    pub datapath: String,
    /// And the end of the pair that is a port of it; the other one is `bridge_end`.
    pub datapath_end: String,
}

impl PortNames {
    /// Returns the names that belong to a bridge.
    pub fn of(bridge: &str) -> Self {
        let [tap, bridge_end, router_end, datapath, datapath_end] = if bridge == BRIDGE_NAME {
            ["vethwe-tap", "vethwe-bridge", "vethwe-pcap", DATAPATH_NAME, DATAPATH_END]
                .map(str::to_owned)
        } else {
            let id = id(bridge);
            ["t", "b", "p", "k", "d"].map(|kind| format!("vethwe-{kind}{id}"))
        };
        Self { tap, bridge_end, router_end, datapath, datapath_end }
    }
}

/// Seven characters, which is what fits behind `vethwe-` and one more; that beginning is what
/// people tell their network managers to leave alone.
pub(crate) fn id(bridge: &str) -> String {
    let hash = Sha256::digest(bridge.as_bytes());
    let digits: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(7).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bridge_has_names_of_its_own() {
        let mut names = vec![BRIDGE_NAME.to_owned()];
        for bridge in [BRIDGE_NAME, "weave2", "ap", "a-name-of-15-chr"] {
            let PortNames { tap, bridge_end, router_end, datapath, datapath_end } =
                PortNames::of(bridge);
            names.extend([tap, bridge_end, router_end, datapath, datapath_end]);
        }
        assert_eq!(
            names[1..6],
            ["vethwe-tap", "vethwe-bridge", "vethwe-pcap", "datapath", "vethwe-datapath"]
        );
        // `IFNAMSIZ` of the kernel, less the zero at the end.
        assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }
}
