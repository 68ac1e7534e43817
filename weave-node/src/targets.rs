//! Whom the router connects to: who was given at its start, or those of before.

use std::net::Ipv6Addr;

use anyhow::{Result, bail};

use crate::http;
use crate::identity::keep_going;
use crate::settings::Peers;
use crate::store::Store;

/// The peers of the command line, else those of before; these become the ones of before.
pub(super) fn targets(peers: &Peers, state: &dyn Store) -> Result<Vec<String>> {
    let before = state.direct_peers()?;
    let targets = match (peers, before) {
        (Peers::Given(given), _) if !given.is_empty() => {
            tracing::info!("Launch detected - using supplied peer list: [{}]", given.join(" "));
            given.clone()
        }
        (_, Some(before)) => {
            tracing::info!(
                "Restart/resume detected - using persisted peer list: [{}]",
                before.join(" ")
            );
            before
        }
        (_, None) => {
            tracing::info!("Launch detected - using supplied peer list: []");
            Vec::new()
        }
    };
    keep_going(state.set_direct_peers(&targets))?;
    Ok(targets)
}

/// Whether a peer is given by an IPv6 address.
pub fn is_ipv6(peer: &str) -> bool {
    peer.starts_with('[') || peer.parse::<Ipv6Addr>().is_ok()
}

/// What is said to that.
pub fn unreachable(peer: &str) -> String {
    format!("{peer}: the sleeve runs over IPv4 only; give an IPv4 address or a host name")
}

/// A stored target that is none any more must not keep the router from starting; those of the
/// command line were checked before.
pub(super) async fn connect(
    control: &impl http::Control,
    state: &dyn Store,
    targets: Vec<String>,
) -> Result<()> {
    match http::Control::connect(control, targets, true).await {
        Ok(()) => Ok(()),
        Err(http::ConnectError::Targets(errors)) => {
            for error in errors {
                tracing::error!("{error}");
            }
            Ok(())
        }
        // They are connected to, and stored when that can be done.
        Err(http::ConnectError::Unavailable(_)) if state.fault().is_some() => Ok(()),
        Err(http::ConnectError::Unavailable(error)) => bail!("{error}"),
    }
}
