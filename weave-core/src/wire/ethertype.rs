//! What a frame carries (IEEE 802.3, clause 3.2.6; the IANA registry of IEEE 802 numbers).

/// The field after the addresses, or after the tags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// Internet Protocol version 4.
    pub const IPV4: Self = Self(0x0800);
    /// Address Resolution Protocol.
    pub const ARP: Self = Self(0x0806);
    /// Internet Protocol version 6.
    pub const IPV6: Self = Self(0x86dd);
    /// A customer tag follows (802.1Q).
    pub const VLAN: Self = Self(0x8100);
    /// A service tag follows (802.1ad).
    pub const SERVICE_VLAN: Self = Self(0x88a8);
}

impl std::fmt::Debug for EtherType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}
