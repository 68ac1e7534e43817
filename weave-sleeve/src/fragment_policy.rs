//! How a frame travels, depending on its kind and size (spec sleeve.md, section 5).

use weave_core::wire::{Classified, ipv6};

/// How a frame travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FragmentPolicy {
    /// With "don't fragment" set.
    Unfragmented,
    /// In fragments, since it is larger than the path MTU and any router may fragment it.
    Fragment,
    /// Without "don't fragment", whatever its size.
    Fragmentable,
    /// Not at all: its sender is told that it is too big.
    TooBig,
}

impl FragmentPolicy {
    /// Chooses the policy for a frame.
    ///
    /// Only the sender of an IPv6 packet fragments it (RFC 8200, section 5). It is told that a
    /// packet is too big, unless many hosts would answer at once, or the packet is so small that
    /// every link has to carry it. Weave Net sends all IPv6 as `Fragmentable`; receivers cannot
    /// tell the difference.
    pub(crate) fn of(frame: &[u8], too_big: bool, broadcast: bool) -> Self {
        match Classified::of(frame) {
            Classified::Ipv4 { .. } | Classified::Ipv6 { .. } if !too_big => Self::Unfragmented,
            Classified::Ipv4 { packet, .. } if packet.dont_fragment() => Self::TooBig,
            Classified::Ipv4 { .. } => Self::Fragment,
            Classified::Ipv6 { packet, .. }
                if !broadcast && packet.packet().len() > ipv6::MIN_MTU =>
            {
                Self::TooBig
            }
            _ => Self::Fragmentable,
        }
    }
}
