//! One end of a pair, as it is reported.

use weave_core::wire::MacAddress;
use weave_rtnl::Link;

use crate::links::mac;

/// One end of the pair that joins a container to the bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// The name of the interface.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddress,
}

impl End {
    pub(crate) fn of(link: Link) -> Self {
        Self { mac: mac(&link), name: link.name }
    }
}
