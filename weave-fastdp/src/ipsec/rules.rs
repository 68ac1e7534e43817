//! The firewall rules by which nothing leaves or enters in clear (spec fastdp.md, section 9.4).
//!
//! The kernel's policies cannot match UDP ports here: when VXLAN looks up a policy, the ports of
//! the packet are not known yet. So the firewall marks the packets, and the policy matches the
//! mark:
//!
//! ```text
//!  out   UDP from local to remote, port of the tunnel ──▶ marked ──▶ policy ──▶ ESP
//!        marked, but no policy applies ──▶ dropped
//!  in    ESP from remote to local, SPI of a state ──▶ marked ──▶ decrypted, keeps its mark
//!        UDP from remote to local, port of the tunnel, no mark ──▶ dropped
//!        UDP from any other host, port of the router, no mark ──▶ dropped unless trusted
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use weave_xfrm::{Mark, Path, Spi};

use super::error::FirewallError;

/// Mark of packets to be encrypted, as in Weave Net 2.x.
pub const MARK: Mark = Mark { value: 0x2_0000, mask: 0x2_0000 };

/// The two ends of an encrypted tunnel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TunnelEnds {
    /// Address of this host.
    pub local: Ipv4Addr,
    /// Address of the neighbour.
    pub remote: Ipv4Addr,
    /// UDP port to which both ends send VXLAN.
    pub port: u16,
}

impl TunnelEnds {
    /// Returns the path from this host to the neighbour.
    pub const fn outbound(self) -> Path {
        Path { source: self.local, destination: self.remote }
    }
}

/// The firewall rules of a router.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FirewallRules {
    /// Tunnels: outbound packets are marked, inbound packets without a mark are dropped.
    pub tunnels: BTreeSet<TunnelEnds>,
    /// Inbound states: packets for them are marked.
    pub states: BTreeSet<(Path, Spi)>,
}

/// A firewall that applies the rules.
pub trait Firewall: Send {
    /// Adds the rules that all tunnels have in common, above all that marked packets do not leave
    /// in clear. Rules of an earlier router stay.
    ///
    /// # Errors
    /// Fails if the rules cannot be added.
    fn prepare(&mut self) -> Result<(), FirewallError>;

    /// Replaces all rules but the common ones, unless they are as they should be. Returns whether
    /// they were replaced.
    ///
    /// # Errors
    /// Fails if the rules cannot be replaced; then the rules before stay.
    fn apply(&mut self, rules: &FirewallRules) -> Result<bool, FirewallError>;

    /// Removes all rules.
    ///
    /// # Errors
    /// Fails if the rules cannot be removed.
    fn remove(&mut self) -> Result<(), FirewallError>;
}
