//! What this peer is called.

use std::path::Path;

use anyhow::Result;
use weave_core::mesh::PeerName;

use crate::random::random;
use crate::settings::Bridge;
use crate::store::{StateError, Store};

/// The name given, else the one of before, else what the machine says. It is kept, so that it
/// does not change when the machine's ids or the bridge do.
pub(super) fn peer_name(
    wanted: Option<PeerName>,
    bridge: &Bridge,
    state: &dyn Store,
) -> Result<PeerName> {
    let before = state.peer_name()?;
    let name = match (wanted, before) {
        (Some(name), Some(before)) if name != before => {
            tracing::warn!("This peer was called {before} before; it is {name} from now on.");
            name
        }
        (Some(name), _) => name,
        (None, Some(name)) => name,
        (None, None) => of_host(bridge)?,
    };
    if before != Some(name) {
        keep_going(state.set_peer_name(name))?;
    }
    Ok(name)
}

/// A disk that takes nothing is told of, and stops nothing.
pub(super) fn keep_going(stored: Result<(), StateError>) -> Result<(), StateError> {
    match stored {
        Err(error) if error.is_of_the_disk() => {
            tracing::warn!("not stored yet: {error}");
            Ok(())
        }
        result => result,
    }
}

/// Returns the name of the bridge that is there, or the one that follows from the machine's ids. A
/// machine without any gets a random one.
///
/// # Errors
/// The host cannot be looked at.
pub fn derive_peer_name(bridge: &str, host_root: &Path) -> Result<PeerName> {
    if let Some(name) = weave_host::interface_peer_name(bridge)? {
        return Ok(name);
    }
    if let Some(name) = weave_host::derive_peer_name(host_root, bridge)? {
        return Ok(name);
    }
    random_name()
}

/// Several nodes of one process that have no bridge need names that differ.
fn of_host(bridge: &Bridge) -> Result<PeerName> {
    if bridge.on_host { derive_peer_name(&bridge.name, &bridge.host_root) } else { random_name() }
}

fn random_name() -> Result<PeerName> {
    let [_, _, first, rest @ ..] = random()?.to_be_bytes();
    let [a, b, c, d, e] = rest;
    Ok(PeerName::from_bytes([first & !0x01 | 0x02, a, b, c, d, e]))
}
