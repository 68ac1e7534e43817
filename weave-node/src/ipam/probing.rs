//! Asking on the switch whether somebody has an address that the allocator is about to give out:
//! while it does not know who had which before, or other peers disagree about them.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};
use weave_host::Claimants;

use super::Ipam;
use super::foresight::Foresight;

/// Questions at one time. Each takes a thread for a fifth of a second.
const MAX_QUESTIONS: usize = 16;
/// Of questions ahead, besides.
const MAX_AHEAD: usize = 8;

/// Answers the questions of the allocator until the router stops. Without a bridge nobody can be
/// asked.
pub(super) async fn ask(
    ipam: Ipam,
    bridge: Option<String>,
    mut questions: mpsc::Receiver<Ipv4Addr>,
) {
    let Some(bridge) = bridge else {
        while let Some(address) = questions.recv().await {
            // A router that stops gives nothing out.
            let _stopped = ipam.probed(address, false).await;
        }
        return;
    };
    let places = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let places_ahead = Arc::new(Semaphore::new(MAX_AHEAD));
    let asker = Arc::new(Asker { bridge, claimants: Mutex::default(), ahead: Mutex::default() });
    // They end with this task.
    let mut asking = JoinSet::new();
    while let Some(address) = questions.recv().await {
        while asking.try_join_next().is_some() {}
        let known = lock(&asker.ahead).take(Instant::now(), address);
        if let Some(in_use) = known {
            let _stopped = ipam.probed(address, in_use).await;
        } else {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (ipam, asker) = (ipam.clone(), Arc::clone(&asker));
            asking.spawn(async move {
                let in_use = spawn_blocking(move || asker.is_in_use(address)).await;
                drop(place);
                let _stopped = ipam.probed(address, in_use.unwrap_or(false)).await;
            });
        }
        for next in lock(&asker.ahead).after(address) {
            let Ok(place) = Arc::clone(&places_ahead).try_acquire_owned() else { break };
            let asker = Arc::clone(&asker);
            asking.spawn(async move {
                let ask = move || {
                    let in_use = asker.is_in_use(next);
                    lock(&asker.ahead).remember(Instant::now(), next, in_use);
                };
                // Nobody waits for it.
                let _ended = spawn_blocking(ask).await;
                drop(place);
            });
        }
    }
}

/// Who asks on one bridge.
struct Asker {
    bridge: String,
    claimants: Mutex<Claimants>,
    ahead: Mutex<Foresight>,
}

impl Asker {
    /// Somebody who cannot be asked has to be believed to be there no more than anybody else.
    fn is_in_use(&self, address: Ipv4Addr) -> bool {
        let believes = |holder| lock(&self.claimants).believes(Instant::now(), holder, address);
        match weave_host::holder_of(&self.bridge, address, believes) {
            Ok(holder) => holder.is_some(),
            Err(error) => {
                tracing::warn!("nobody is asked whether {address} is in use: {error}");
                false
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
