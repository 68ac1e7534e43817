//! Where the interface leads that a container has already.
//!
//! A veth knows the index of its other end, and its own namespace a number for the one where
//! that is. Indexes alone say little: every namespace counts from one.

use std::os::fd::AsFd;

use crate::bridge::is_orphan_of;
use crate::error::HostError;
use crate::namespace::{Namespace, run_here};
use crate::netlink::{Interface, Netlink};

/// The indexes that the interfaces of a container on a bridge have there.
pub(crate) async fn ends_on_bridge(
    netlink: &Netlink,
    container: &Namespace,
    bridge: &Interface,
) -> Result<Vec<u32>, HostError> {
    let interfaces = netlink.interfaces().await?;
    let namespace = netlink.namespace_number(container.as_fd()).await?;
    let there = |port: &&Interface| {
        port.controller == Some(bridge.index)
            && namespace.is_some()
            && port.other_namespace == namespace
    };
    Ok(interfaces.iter().filter(there).filter_map(|port| port.other_end).collect())
}

/// The interface of a container, seen from the host.
pub(crate) struct VethPeer {
    interface: String,
    kind: String,
    /// Its other end, if that is in the namespace of the caller.
    host_end: Option<Interface>,
    /// The name of the bridge that is a port of.
    bridge: Option<String>,
}

impl VethPeer {
    /// None if the container has no interface of that name.
    pub(crate) fn find(container: &Namespace, interface: &str) -> Result<Option<Self>, HostError> {
        let inside = container.run(async |netlink| netlink.find(interface).await)?;
        let Some(inside) = inside else { return Ok(None) };
        run_here(async |netlink| {
            let interfaces = netlink.interfaces().await?;
            let namespace = netlink.namespace_number(container.as_fd()).await?;
            let meets = |end: &&Interface| {
                end.kind == "veth"
                    && inside.other_end == Some(end.index)
                    && end.other_end == Some(inside.index)
                    && namespace.is_some()
                    && end.other_namespace == namespace
            };
            let host_end = interfaces.iter().find(meets).cloned();
            let controller = host_end.as_ref().and_then(|end| end.controller);
            let bridge = interfaces
                .into_iter()
                .find(|bridge| Some(bridge.index) == controller)
                .map(|bridge| bridge.name);
            Ok(Some(Self { interface: inside.name, kind: inside.kind, host_end, bridge }))
        })
    }

    /// The end on the host and the name of its bridge, as far as there are any.
    pub(crate) fn place(self) -> (Option<Interface>, Option<String>) {
        (self.host_end, self.bridge)
    }

    /// The end on this bridge, or that was there until somebody took it away.
    pub(crate) fn of_bridge(
        self,
        container: &Namespace,
        bridge: &Interface,
    ) -> Result<Interface, HostError> {
        match self.host_end {
            Some(end)
                if end.controller == Some(bridge.index) || is_orphan_of(&bridge.name, &end) =>
            {
                Ok(end)
            }
            _ => Err(self.foreign(container, &bridge.name)),
        }
    }

    /// Makes sure that it is on this bridge, or was until that was removed.
    pub(crate) fn of_bridge_or_orphan(
        &self,
        container: &Namespace,
        bridge: &str,
    ) -> Result<(), HostError> {
        let orphan = self.host_end.as_ref().is_some_and(|end| is_orphan_of(bridge, end));
        if orphan || self.bridge.as_deref() == Some(bridge) {
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
