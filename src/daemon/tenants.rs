//! Giving back what containers had that ended without a word.
//!
//! What `weave attach` takes is held by the id of a network namespace, and the host's end of the
//! container's interface is called after that id. It goes with the namespace, however that ends: the
//! kernel needs no engine to tell of it. Ends that the original or somebody by hand made have other names;
//! for these the namespaces themselves are looked at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use weave_host::HostError;
use weave_ipam::allocator::TICK;

use crate::ipam::Ipam;

/// How often to look: as often as the allocator does. A look is one request of the kernel, and none
/// while nobody holds anything in this way.
const INTERVAL: Duration = TICK;

/// Looks after the containers until the router stops, or the task is aborted. `proc` is where the process
/// tree of the host is mounted.
pub(super) fn look_after(ipam: Ipam, bridge: String, proc: PathBuf) -> JoinHandle<()> {
    let place: Arc<(String, PathBuf)> = Arc::new((bridge, proc));
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            interval.tick().await;
            if !ipam.has_tenants() {
                continue;
            }
            let (asker, place) = (ipam.clone(), Arc::clone(&place));
            let look = move || those_there(&asker, &place.0, &place.1);
            let there = match spawn_blocking(look).await {
                Ok(Ok(there)) => there,
                // Nobody is taken for gone.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "containers are not looked after");
                    continue;
                }
                Err(_) => return,
            };
            if ipam.look_after(there).await.is_err() {
                return;
            }
        }
    })
}

fn those_there(ipam: &Ipam, bridge: &str, proc: &Path) -> Result<BTreeSet<String>, HostError> {
    let mut there = weave_host::plugged()?;
    if ipam.has_tenants_beside(&there) {
        let inhabitants = weave_host::inhabitants(bridge, proc)?;
        there.extend(inhabitants.into_iter().map(|inhabitant| inhabitant.namespace));
    }
    Ok(there)
}
