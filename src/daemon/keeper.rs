//! Looking after the devices while the router runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::devices::Devices;
use super::pace::Pace;

/// How often to look whether somebody took the bridge away: who does that by mistake sees no
/// more than a pause. A look costs two requests of the kernel.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Mends bridge and port whenever somebody damaged them, until `released` ends; then the devices
/// end. The error is one that cannot be mended.
pub(super) async fn keep(mut devices: Devices, mut released: oneshot::Receiver<()>) -> Result<()> {
    let mut interval = tokio::time::interval(WATCH_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = Pace::default();
    let result = loop {
        tokio::select! {
            _ = &mut released => break Ok(()),
            lost = devices.lost() => {
                if let Err(error) = lost {
                    break Err(error).context("the UDP socket failed");
                }
            }
            _ = interval.tick() => {}
        }
        if !pace.allows(Instant::now()) {
            continue;
        }
        let mended;
        (devices, mended) = spawn_blocking(move || {
            let mended = devices.mend();
            (devices, mended)
        })
        .await
        .context("cannot look after the bridge")?;
        match mended {
            Ok(None) => {}
            Ok(Some(what)) => {
                pace.tried(Instant::now());
                tracing::warn!("{what}");
            }
            Err(error) => {
                let pause = pace.tried(Instant::now()).as_secs();
                tracing::warn!("the bridge is damaged, next attempt in {pause} s: {error:#}");
            }
        }
    };
    // Threads are waited for.
    spawn_blocking(move || drop(devices)).await.context("cannot stop the data threads")?;
    result
}
