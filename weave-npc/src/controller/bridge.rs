//! Lets packets between two pods of this node pass the firewall.
//!
//! They cross a bridge, and a bridge hands them to the firewall only if it is told to: this one,
//! and not all bridges of the host, as `net.bridge.bridge-nf-call-iptables` would.

use std::path::Path;

use weave_rtnl::Client;

/// The bridge of the router.
const BRIDGE: &str = "weave";
/// It is there if the kernel has the module `br_netfilter`.
const MODULE: &str = "/proc/sys/net/bridge";

/// The bridge that was told to hand out its packets.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    index: Option<u32>,
    warned: bool,
}

impl Bridge {
    /// Tells a bridge that is new.
    pub(super) fn check(&mut self) {
        if !Path::new(MODULE).exists() && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "traffic between pods of this node is not judged until br_netfilter is loaded: \
                 run `modprobe br_netfilter` on the host"
            );
        }
        match self.tell() {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "the bridge does not hand packets to the firewall")
            }
        }
    }

    fn tell(&mut self) -> Result<(), weave_rtnl::Error> {
        let mut client = Client::open()?;
        let index = client.link_by_name(BRIDGE)?.map(|link| link.index);
        if let Some(index) = index.filter(|index| self.index != Some(*index)) {
            client.set_bridge_firewall(index, true)?;
            tracing::info!(bridge = BRIDGE, "packets between its ports pass the firewall");
        }
        self.index = index;
        Ok(())
    }
}
