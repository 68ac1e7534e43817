//! Giving back what containers had that ended without a word.
//!
//! What `weave attach` takes is held by the id of a network namespace, and the host's end of the
//! container's interface is called after that id. It goes with the namespace, however that ends: the
//! kernel needs no engine to tell of it.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use weave_ipam::allocator::TICK;

use crate::ipam::Ipam;

/// How often to look: as often as the allocator does. A look is one request of the kernel, and none
/// while nobody holds anything in this way.
const INTERVAL: Duration = TICK;

/// Looks after the containers until the router stops, or the task is aborted.
pub(super) fn look_after(ipam: Ipam) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            interval.tick().await;
            if !ipam.has_tenants() {
                continue;
            }
            let there = match spawn_blocking(weave_host::plugged).await {
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
