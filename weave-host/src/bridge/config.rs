//! What a bridge is to be.

use weave_core::wire::MacAddress;

/// How the bridge shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeConfig {
    /// Its name.
    pub name: String,
    /// Its Ethernet address, which is the peer's name.
    pub mac: MacAddress,
    /// The largest IP packet of its ports and of the containers, in bytes.
    pub mtu: u32,
}

/// Whether the bridge was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It is new.
    Created,
    /// It was there, perhaps with containers, and is used as it is.
    Adopted,
}
