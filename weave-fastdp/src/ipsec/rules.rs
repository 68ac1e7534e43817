//! What the firewall has to do so that nothing leaves or enters unsealed (spec fastdp.md,
//! section 9.4).
//!
//! The kernel's policies cannot be told UDP ports here: when VXLAN looks for one, its ports are
//! not known yet. So the firewall marks what is to be sealed, and the policy goes by the mark:
//!
//! ```text
//!  out   UDP from local to remote, port of the tunnel ──▶ marked ──▶ policy ──▶ ESP
//!        marked, but no policy applies ──▶ dropped
//!  in    ESP from remote to local, SPI of a state ──▶ marked ──▶ opened, keeps its mark
//!        UDP from remote to local, port of the tunnel, no mark ──▶ dropped
//!        UDP from anybody else, port of the router, no mark ──▶ dropped, unless it is trusted
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use weave_xfrm::{Mark, Path, Spi};

/// The mark of Weave Net 2.x.
pub const MARK: Mark = Mark { value: 0x2_0000, mask: 0x2_0000 };

/// The two ends of a tunnel that is sealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ends {
    /// This host.
    pub local: Ipv4Addr,
    /// The neighbour's.
    pub remote: Ipv4Addr,
    /// The UDP port to which both ends send VXLAN.
    pub port: u16,
}

impl Ends {
    /// From here to there.
    pub const fn outwards(self) -> Path {
        Path { source: self.local, destination: self.remote }
    }
}

/// All that a router wants of the firewall.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rules {
    /// The tunnels: what leaves is marked, what arrives without a mark is dropped.
    pub tunnels: BTreeSet<Ends>,
    /// The states that receive: what arrives for them is marked.
    pub states: BTreeSet<(Path, Spi)>,
}

/// What keeps them.
pub trait Firewall: Send {
    /// Makes what all tunnels have in common: above all, that what is marked does not leave
    /// unsealed. Rules of a router that was here before stay.
    ///
    /// # Errors
    /// One line for the log.
    fn prepare(&mut self) -> Result<(), String>;

    /// Makes these the rules, and no others but those for all tunnels. Changes nothing if they are; `true` if they were
    /// not.
    ///
    /// # Errors
    /// One line for the log. What was there before stays.
    fn apply(&mut self, rules: &Rules) -> Result<bool, String>;

    /// Removes all of it.
    ///
    /// # Errors
    /// One line for the log.
    fn remove(&mut self) -> Result<(), String>;
}
