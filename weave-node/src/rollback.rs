//! Going back to Weave Net 2.x on this host.

use std::path::Path;

use anyhow::Result;
use weave_host::Backend;

use crate::store::{RolledBack, roll_back};

/// Gives the state of this prefix back to Weave Net 2.x, and removes from the host what would
/// disturb that: devices for VXLAN, IPsec keys, rules of firewalls. The bridge and the containers on
/// it stay. Returns what was done, for people; what is done already is not done again.
///
/// # Errors
/// A router is running on that state, or something cannot be read, written or removed.
pub fn go_back(prefix: &Path, bridge: &str) -> Result<Vec<String>> {
    let mut done = vec![match roll_back(prefix)? {
        RolledBack::Written { path, backup, aside, addresses } => {
            let old = backup.map(|old| format!("; the old one is {}", old.display()));
            format!(
                "wrote {addresses} addresses to {}{}; our state is {}",
                path.display(),
                old.unwrap_or_default(),
                aside.display()
            )
        }
        RolledBack::Nothing { path } => {
            format!("there is no {}: the state of Weave Net 2.x stays as it is", path.display())
        }
    }];
    // Only one router has the bridge.
    let _claim = weave_host::BridgeClaim::acquire(bridge)?;
    weave_fastdp::vxlan::remove_leftovers(bridge)?;
    weave_fastdp::ipsec::remove_leftovers(None)?;
    let backends: Vec<Backend> = weave_host::remove_rules(bridge)?;
    done.extend(backends.into_iter().map(|backend| format!("removed the rules in {backend}")));
    if weave_host::remove_policies()? {
        done.push("removed the rules of network policies".to_owned());
    }
    Ok(done)
}
