//! Looking after the devices and the firewall while the router runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::Devices;
use crate::backoff::Backoff;
use crate::host::Exposure;

/// How often to look whether somebody took the bridge away: who does that by mistake sees no
/// more than a pause. A look costs two requests of the kernel.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How often to look at the firewall. Where somebody changed its rules, or with the iptables of
/// old, a look starts a few programs, some 20 ms of work together; the original looks every 10 s.
const FIREWALL_INTERVAL: Duration = Duration::from_secs(5);

/// Mends bridge, port and firewall whenever somebody damaged them, until `released` ends; then
/// the devices end. The error is one that cannot be mended.
pub(crate) async fn keep(
    mut devices: Devices,
    exposure: Exposure,
    mut released: oneshot::Receiver<()>,
) -> Result<()> {
    let mut interval = tokio::time::interval(WATCH_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backoff = Backoff::default();
    let mut rules = Rules { exposure, backoff: Backoff::default(), next: Instant::now() };
    let result = loop {
        tokio::select! {
            _ = &mut released => break Ok(()),
            lost = devices.lost() => {
                if let Err(error) = lost {
                    break Err(error);
                }
            }
            () = rules.exposure.changed() => {
                rules.follow_neighbours().await?;
                continue;
            }
            _ = interval.tick() => {}
        }
        if backoff.allows(Instant::now()) {
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
                    backoff.tried(Instant::now());
                    tracing::warn!("{what}");
                    // The addresses of the host went with the bridge.
                    rules.next = Instant::now();
                }
                Err(error) => {
                    let pause = backoff.tried(Instant::now()).as_secs();
                    tracing::warn!("the bridge is damaged, next attempt in {pause} s: {error:#}");
                }
            }
        }
        rules.look().await?;
    };
    // Threads are waited for.
    let exposure = rules.exposure.clone();
    let stop = move || {
        drop(devices);
        exposure.release();
    };
    spawn_blocking(stop).await.context("cannot stop the data threads")?;
    result
}

/// The firewall, and when to look at it.
struct Rules {
    exposure: Exposure,
    backoff: Backoff,
    next: Instant,
}

impl Rules {
    /// A new neighbour gets nothing through by VXLAN until the rules know it.
    async fn follow_neighbours(&self) -> Result<()> {
        let exposure = self.exposure.clone();
        let followed = spawn_blocking(move || exposure.look());
        if let Err(error) = followed.await.context("cannot look after the firewall")? {
            tracing::warn!("{error:#}");
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        let now = Instant::now();
        if now < self.next || !self.backoff.allows(now) {
            return Ok(());
        }
        self.next = now + FIREWALL_INTERVAL;
        let exposure = self.exposure.clone();
        let mended = spawn_blocking(move || exposure.look());
        match mended.await.context("cannot look after the firewall")? {
            Ok(None) => {}
            Ok(Some(what)) => {
                self.backoff.tried(Instant::now());
                tracing::warn!("somebody removed {what}: they are back");
            }
            Err(error) => {
                let pause = self.backoff.tried(Instant::now()).max(FIREWALL_INTERVAL).as_secs();
                tracing::warn!("{error:#}; next attempt in {pause} s");
            }
        }
        Ok(())
    }
}
