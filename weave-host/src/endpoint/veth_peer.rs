//! Where the interface leads that a container has already.
//!
//! A veth knows the index of its other end, and its own namespace a number for the one where
//! that is. Indexes alone say little: every namespace counts from one.

use weave_rtnl::{Client, Link};

use crate::bridge::{is_orphan_of, is_stray_of};
use crate::error::HostError;
use crate::namespace::Namespace;

/// Returns the indexes that the interfaces of a container on a bridge have there.
pub(crate) fn ends_on_bridge(
    netlink: &mut Client,
    container: &Namespace,
    bridge: &Link,
) -> Result<Vec<u32>, HostError> {
    let interfaces = netlink.links()?;
    let namespace = netlink.namespace_id(container)?;
    let there = |port: &&Link| {
        port.controller == Some(bridge.index)
            && namespace.is_some()
            && port.peer_namespace == namespace
    };
    Ok(interfaces.iter().filter(there).filter_map(|port| port.peer).collect())
}

/// The interface of a container, seen from the host.
pub(crate) struct VethPeer {
    interface: String,
    kind: String,
    /// Its other end, if that is in the namespace of the caller.
    host_end: Option<Link>,
    /// The name of the bridge that is a port of.
    bridge: Option<String>,
}

impl VethPeer {
    /// None if the container has no interface of that name.
    pub(crate) fn find(
        host: &mut Client,
        inside: &mut Client,
        container: &Namespace,
        interface: &str,
    ) -> Result<Option<Self>, HostError> {
        let Some(inside) = inside.link_by_name(interface)? else { return Ok(None) };
        let interfaces = host.links()?;
        let namespace = host.namespace_id(container)?;
        let meets = |end: &&Link| {
            end.kind == "veth"
                && inside.peer == Some(end.index)
                && end.peer == Some(inside.index)
                && namespace.is_some()
                && end.peer_namespace == namespace
        };
        let host_end = interfaces.iter().find(meets).cloned();
        let controller = host_end.as_ref().and_then(|end| end.controller);
        let bridge = interfaces
            .into_iter()
            .find(|bridge| Some(bridge.index) == controller)
            .map(|bridge| bridge.name);
        Ok(Some(Self { interface: inside.name, kind: inside.kind, host_end, bridge }))
    }

    /// Returns the end on the host and the name of its bridge, as far as there are any.
    pub(crate) fn place(self) -> (Option<Link>, Option<String>) {
        (self.host_end, self.bridge)
    }

    /// Returns the end on this bridge, or that was there until somebody took it away.
    pub(crate) fn of_bridge(self, container: &Namespace, bridge: &Link) -> Result<Link, HostError> {
        match self.host_end {
            Some(end)
                if end.controller == Some(bridge.index)
                    || is_orphan_of(&bridge.name, &end)
                    || is_stray_of(&bridge.name, Some(bridge.index), &end) =>
            {
                Ok(end)
            }
            _ => Err(self.foreign(container, &bridge.name)),
        }
    }

    /// Makes sure that it is on this bridge, or was until somebody took it away.
    pub(crate) fn of_bridge_or_orphan(
        &self,
        container: &Namespace,
        bridge: &str,
    ) -> Result<(), HostError> {
        let ours = |end: &Link| is_orphan_of(bridge, end) || is_stray_of(bridge, None, end);
        if self.host_end.as_ref().is_some_and(ours) || self.bridge.as_deref() == Some(bridge) {
            Ok(())
        } else {
            Err(self.foreign(container, bridge))
        }
    }

    fn foreign(&self, container: &Namespace, wanted: &str) -> HostError {
        let found = match (&self.host_end, &self.bridge) {
            (Some(_), Some(bridge)) => format!("is on bridge {bridge}, not on {wanted}"),
            (Some(end), None) => format!("has its other end {} on no bridge", end.name),
            (None, _) if self.kind != "veth" => "was not made by `weave attach`".to_owned(),
            (None, _) => "has its other end on another host".to_owned(),
        };
        HostError::ForeignInterface {
            interface: self.interface.clone(),
            target: container.target().to_owned(),
            found,
        }
    }
}
