//! The VXLAN network identifier, which names the two peers that a frame travels between (spec
//! fastdp.md, section 1).
//!
//! ```text
//!   23         12 11          0
//!  ┌─────────────┬─────────────┐
//!  │ destination │   source    │     short ids
//!  └─────────────┴─────────────┘
//! ```

use std::fmt;

use weave_core::mesh::ShortId;

/// Bits of a short id.
const SHIFT: u32 = 12;

/// The two peers that a frame travels between, in the 24 bits of a VXLAN network identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vni {
    /// Peer that captured the frame.
    pub source: ShortId,
    /// Peer that is to inject the frame; for a flooded frame the next hop.
    pub destination: ShortId,
}

impl Vni {
    /// Returns the number, which is below 2²⁴.
    pub const fn get(self) -> u32 {
        self.source.get() as u32 | (self.destination.get() as u32) << SHIFT
    }

    /// Decodes a number; `None` from 2²⁴ up.
    pub fn new(number: u32) -> Option<Self> {
        let id = |number: u32| u16::try_from(number).ok().and_then(ShortId::new);
        let source = id(number & ((1 << SHIFT) - 1))?;
        Some(Self { source, destination: id(number >> SHIFT)? })
    }

    /// Returns the identifier of frames in the other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decoded_as_they_were_encoded() {
        let id = |number| ShortId::new(number).unwrap();
        let vni = Vni { source: id(0x123), destination: id(0xabc) };
        assert_eq!((vni.get(), vni.reversed().get()), (0xabc123, 0x123abc));
        assert_eq!(vni.to_string(), "abc123");
        for number in [0, 1, 0xfff, 0x1000, 0xabc123, 0xff_ffff] {
            assert_eq!(Vni::new(number).map(Vni::get), Some(number));
        }
        assert_eq!(Vni::new(0x100_0000), None);
        assert_eq!(Vni::new(u32::MAX), None);
    }
}
