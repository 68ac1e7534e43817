//! Which devices of ours, or of the original, are on the host (spec router.md, section 6).

use weave_rtnl::Link;

use crate::error::HostError;
use crate::names::{DATAPATH_END, DATAPATH_KIND, DATAPATH_NAME, PortNames};
use crate::namespace::run_here;

/// How the switch is connected to the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Nothing is there.
    None,
    /// A Linux bridge, with or without a capture port.
    Bridge,
    /// A Linux bridge joined to a kernel datapath.
    BridgedFastdp,
    /// A kernel datapath instead of the bridge.
    Fastdp,
    /// Devices that do not fit together.
    Inconsistent {
        /// The device that does not fit.
        name: String,
        /// What it is.
        found: String,
    },
}

impl Layout {
    /// Returns the word for it in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bridge => "bridge",
            Self::BridgedFastdp => "bridged_fastdp",
            Self::Fastdp => "fastdp",
            Self::Inconsistent { .. } => "inconsistent",
        }
    }
}

/// Looks at the devices of this host.
///
/// # Errors
/// If they cannot be listed.
pub fn detect_layout(bridge: &str) -> Result<Layout, HostError> {
    run_here(|netlink| Ok(layout_of(bridge, &netlink.links()?)))
}

pub(crate) fn layout_of(bridge: &str, interfaces: &[Link]) -> Layout {
    let kind = |name: &str| {
        interfaces
            .iter()
            .find(|interface| interface.name == name)
            .map(|interface| interface.kind.as_str())
    };
    let inconsistent = |name: &str, kind: &str| Layout::Inconsistent {
        name: name.to_owned(),
        found: if kind.is_empty() { "a hardware device".to_owned() } else { format!("a {kind}") },
    };
    match (kind(bridge), kind(DATAPATH_NAME)) {
        (None, Some(DATAPATH_KIND)) => inconsistent(DATAPATH_NAME, "datapath without a bridge"),
        // Some other program may well call an interface `datapath`.
        (None, _) => Layout::None,
        (Some("bridge"), Some(DATAPATH_KIND)) => Layout::BridgedFastdp,
        (Some("bridge"), _) if kind(DATAPATH_END).is_some() => {
            inconsistent(DATAPATH_END, "left-over of a datapath that is gone")
        }
        (Some("bridge"), _) => {
            let PortNames { bridge_end, .. } = PortNames::of(bridge);
            match kind(&bridge_end) {
                None | Some("veth") => Layout::Bridge,
                Some(other) => inconsistent(&bridge_end, other),
            }
        }
        (Some(DATAPATH_KIND), None) => Layout::Fastdp,
        (Some(DATAPATH_KIND), Some(_)) => inconsistent(bridge, "datapath beside another"),
        (Some(other), _) => inconsistent(bridge, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::link_named;

    fn devices(list: &[(&str, &str)]) -> Vec<Link> {
        list.iter()
            .zip(1..)
            .map(|((name, kind), index)| Link {
                index,
                kind: (*kind).to_owned(),
                ..link_named(name)
            })
            .collect()
    }

    #[test]
    fn every_layout_is_told_apart() {
        let layout = |list: &[(&str, &str)]| layout_of("weave", &devices(list));
        assert_eq!(layout(&[("eth0", "")]), Layout::None);
        assert_eq!(layout(&[("weave", "bridge")]), Layout::Bridge);
        assert_eq!(layout(&[("weave", "bridge"), ("vethwe-bridge", "veth")]), Layout::Bridge);
        assert_eq!(
            layout(&[("weave", "bridge"), ("datapath", "openvswitch")]),
            Layout::BridgedFastdp
        );
        assert_eq!(layout(&[("weave", "openvswitch")]), Layout::Fastdp);
        for list in [
            &[("weave", "")][..],
            &[("weave", "dummy")],
            &[("datapath", "openvswitch")],
            &[("weave", "openvswitch"), ("datapath", "openvswitch")],
            &[("weave", "bridge"), ("vethwe-datapath", "veth")],
            &[("weave", "bridge"), ("vethwe-bridge", "dummy")],
        ] {
            assert!(matches!(layout(list), Layout::Inconsistent { .. }), "{list:?}");
        }
    }
}
