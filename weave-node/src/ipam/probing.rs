//! Asking on the switch whether somebody has an address that the allocator is about to give out:
//! while it does not know who had which before, or other peers disagree about them.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};

use weave_host::Claimants;

use super::Ipam;

/// Questions at one time. Each takes a thread for a fifth of a second.
const MAX_QUESTIONS: usize = 16;

/// Answers the questions of the allocator until the router stops. Without a bridge nobody can be
/// asked.
pub(super) async fn ask(
    ipam: Ipam,
    bridge: Option<String>,
    mut questions: mpsc::Receiver<Ipv4Addr>,
) {
    let places = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let claimants = Arc::<Mutex<Claimants>>::default();
    // They end with this task.
    let mut asking = JoinSet::new();
    while let Some(address) = questions.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (ipam, bridge, claimants) = (ipam.clone(), bridge.clone(), Arc::clone(&claimants));
        while asking.try_join_next().is_some() {}
        asking.spawn(async move {
            let in_use = match bridge {
                Some(bridge) => {
                    spawn_blocking(move || is_in_use(&bridge, address, &claimants)).await
                }
                None => Ok(false),
            };
            drop(place);
            // A router that stops gives nothing out.
            let _stopped = ipam.probed(address, in_use.unwrap_or(false)).await;
        });
    }
}

/// Somebody who cannot be asked has to be believed to be there no more than anybody else.
fn is_in_use(bridge: &str, address: Ipv4Addr, claimants: &Mutex<Claimants>) -> bool {
    let believes = |holder| {
        let mut claimants = claimants.lock().unwrap_or_else(PoisonError::into_inner);
        claimants.believes(Instant::now(), holder, address)
    };
    match weave_host::holder_of(bridge, address, believes) {
        Ok(holder) => holder.is_some(),
        Err(error) => {
            tracing::warn!("nobody is asked whether {address} is in use: {error}");
            false
        }
    }
}
