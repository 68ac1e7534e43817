//! Next hops and broadcast sets (spec mesh.md, section 17).

/// The routing tables of this peer, as of one recalculation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routes {}
