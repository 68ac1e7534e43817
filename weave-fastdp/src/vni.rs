//! The VXLAN network identifier (spec fastdp.md, section 1): which two peers a frame travels
//! between.
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

/// Which peer captured a frame and which one is to inject it, in the 24 bits that VXLAN has for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vni {
    /// The peer that captured the frame.
    pub source: ShortId,
    /// The peer that is to inject it; for a flooded frame the next hop.
    pub destination: ShortId,
}

impl Vni {
    /// The number, below 2²⁴.
    pub const fn get(self) -> u32 {
        self.source.get() as u32 | (self.destination.get() as u32) << SHIFT
    }

    /// What this number says; `None` from 2²⁴ up.
    pub fn new(number: u32) -> Option<Self> {
        let id = |number: u32| u16::try_from(number).ok().and_then(ShortId::new);
        let source = id(number & ((1 << SHIFT) - 1))?;
        Some(Self { source, destination: id(number >> SHIFT)? })
    }

    /// That of frames the other way.
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
    fn both_ways() {
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
