//! Giving back what containers had that ended without a word.
//!
//! What `weave attach` takes is held by the id of a network namespace, and the host's end of the
//! container's interface is called after that id; what the CNI plugin takes, by the container and
//! its interface, which is noted on that end. The end goes with the namespace, however that ends,
//! and stays as long as anything keeps it, be it a bind mount without a process: the kernel needs
//! no engine to tell of it. Ends that the original or somebody by hand made have other names; for
//! these the namespaces themselves are looked at, and whatever address one of them still has is in
//! use.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use weave_host::{BehindPort, Endpoint, HostError};
use weave_ipam::allocator::TICK;

use crate::ipam::{Holder, Ipam};
use crate::link_watch::LinkWatch;

/// How often to look whatever the kernel tells: as often as the allocator does. A look is one
/// request of the kernel, and none while nobody holds anything in this way.
const INTERVAL: Duration = TICK;

/// From an interface that is gone to the look: a container may have several, and many may end at
/// the same time.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks after the containers until the router stops, or the task is aborted. `proc` is where the
/// process tree of the host is mounted.
pub(super) async fn reap(ipam: Ipam, bridge: String, proc: PathBuf) {
    let place: Arc<(String, PathBuf)> = Arc::new((bridge, proc));
    let mut interval = tokio::time::interval(INTERVAL);
    let mut links = LinkWatch::open();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = links.gone() => tokio::time::sleep(PAUSE).await,
        }
        if !ipam.has_containers() {
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
        if ipam.reap(there).await.is_err() {
            return;
        }
    }
}

fn those_there(ipam: &Ipam, bridge: &str, proc: &Path) -> Result<BTreeSet<String>, HostError> {
    let mut there = weave_host::attached_ids()?;
    if ipam.has_containers_beside(&there) {
        let endpoints = weave_host::endpoints(bridge, proc)?;
        let mut behind = weave_host::addresses_behind_ports(bridge)?;
        behind.retain(|behind| endpoints.iter().all(|endpoint| endpoint.port != behind.port));
        there.extend(those_with_addresses(ipam, &endpoints, &behind));
        there.extend(endpoints.into_iter().map(|endpoint| endpoint.namespace));
    }
    Ok(there)
}

/// The holders of addresses that some container on the bridge has that is not known by its port:
/// the note was wiped. One that is known keeps what is its own, and cannot keep what is others' by
/// adding that to its interface.
fn those_with_addresses(ipam: &Ipam, endpoints: &[Endpoint], behind: &[BehindPort]) -> Vec<String> {
    let holders = ipam.holders();
    let is_holder = |name: &String| holders.iter().any(|holder| holder.name == *name);
    let endpoints = endpoints
        .iter()
        .filter(|endpoint| !is_holder(&endpoint.id) && !is_holder(&endpoint.namespace))
        .map(|endpoint| &endpoint.addresses);
    let behind = behind.iter().filter(|behind| !is_holder(&behind.id));
    let used: BTreeSet<IpAddr> = endpoints
        .chain(behind.map(|behind| &behind.addresses))
        .flat_map(|cidrs| cidrs.iter().map(|cidr| cidr.address()))
        .collect();
    let has_one =
        |holder: &&Holder| holder.cidrs.iter().any(|cidr| used.contains(&cidr.address().into()));
    holders.iter().filter(has_one).map(|holder| holder.name.clone()).collect()
}
