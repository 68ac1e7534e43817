//! The router as a process: what it is made of, how it starts, runs and stops.
//!
//! ```text
//!  flags ─▶ Settings ─▶ instance lock ─▶ state ─▶ sockets ─▶ bridge, port ─▶ mesh ─▶ ready
//! ```
//!
//! Each step can fail with one line, and leaves nothing that stops the next attempt. What a
//! router leaves when it ends, in good order or not, is a bridge with containers on it: they
//! keep talking to each other, and the next router adopts them.

mod addresses;
mod attached;
mod control;
mod datapath;
mod devices;
mod exposure;
mod fastdp;
mod identity;
mod instance;
mod keeper;
mod listeners;
mod notify;
mod pace;
mod port;
mod random;
mod running;
mod sealing;
mod settings;
mod signals;
mod targets;
mod tenants;

use anyhow::{Context as _, Result};

pub(crate) use addresses::hidden_route;
pub(crate) use identity::derive_peer_name;
pub(crate) use instance::{
    Instance, InstanceError, in_memory, log_file, pid_file, stop_running, takes_nothing, was_killed,
};
pub(crate) use notify::{READY_LINE, Readiness};
pub(crate) use settings::{Capture, Peers, Settings, SleeveFormat};
pub(crate) use targets::{is_ipv6, unreachable};

use crate::sys;
use running::Running;
use sealing::Sealing;
use signals::Signals;

/// This program, as it tells in status pages.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the router until it is told to stop. `readiness` is told once it does its work.
pub(crate) fn run(settings: Settings, readiness: Readiness) -> Result<()> {
    let instance = Instance::acquire(&settings.db_prefix)?;
    sys::heap::keep_nothing_large();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control threads")?;
    let sealing = Sealing::default();
    let result = runtime.block_on(serve(settings, readiness, &sealing));
    drop(runtime);
    // Nothing is left that could still send.
    sealing.stop();
    instance.leave();
    result
}

async fn serve(settings: Settings, readiness: Readiness, sealing: &Sealing) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    tracing::info!("weave {VERSION}");
    let mut running = Running::start(&settings, sealing).await?;
    readiness.ready();
    let result = running.until_told(&mut signals).await;
    readiness.stopping();
    running.stop().await;
    tracing::info!("stopped");
    result
}
