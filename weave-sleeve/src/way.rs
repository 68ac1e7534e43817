//! How a frame travels, by what it is and whether it fits (spec sleeve.md, section 5).

use weave_core::wire::{Classified, ipv6};

/// How a frame travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// In one piece, with "don't fragment" set.
    Whole,
    /// Larger than the path takes; may be cut by anybody.
    Cut,
    /// Without "don't fragment", whatever its size.
    Fragmentable,
    /// Not at all; its sender is to be told.
    TooBig,
}

impl Way {
    /// IPv6 is cut by nobody but its sender (RFC 8200, section 5), which hears that a packet is
    /// too big unless many would answer at once, or the packet is so small that every link has to
    /// carry it in some way. Weave Net sends all IPv6 like `Fragmentable`; the receiver cannot
    /// tell.
    pub(crate) fn of(frame: &[u8], too_big: bool, broadcast: bool) -> Self {
        match Classified::of(frame) {
            Classified::Ipv4 { .. } | Classified::Ipv6 { .. } if !too_big => Self::Whole,
            Classified::Ipv4 { packet, .. } if packet.dont_fragment() => Self::TooBig,
            Classified::Ipv4 { .. } => Self::Cut,
            Classified::Ipv6 { packet, .. }
                if !broadcast && packet.packet().len() > ipv6::MIN_MTU =>
            {
                Self::TooBig
            }
            _ => Self::Fragmentable,
        }
    }
}
