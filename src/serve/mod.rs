//! The router as a process: one for each state, with signals, a log, and somebody to be told when
//! it is ready.
//!
//! ```text
//!  flags ─▶ Builder ─▶ instance lock ─▶ weave_node::Node ─▶ ready ─▶ signal ─▶ orderly shutdown
//! ```
//!
//! Each step can fail with one line, and leaves nothing that stops the next attempt. What a
//! router leaves when it ends, in good order or not, is a bridge with containers on it: they
//! keep talking to each other, and the next router adopts them.

mod notify;
mod signals;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use weave_api::json;
use weave_kube::Companion;
use weave_node::{Builder, FileStore, Instance, Node, VERSION};

pub(crate) use notify::{READY_LINE, Readiness};
use signals::{Signal, Signals};

/// Runs the router until it is told to stop. `readiness` is told once it does its work, and
/// `companion` goes along with it.
pub(crate) fn run(
    builder: Builder,
    prefix: &Path,
    readiness: &Readiness,
    companion: Option<Companion>,
) -> Result<()> {
    let instance = Instance::acquire(prefix)?;
    weave_node::keep_nothing_large();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control threads")?;
    let result = runtime.block_on(serve(builder, prefix, readiness, companion));
    drop(runtime);
    instance.leave();
    result
}

async fn serve(
    mut builder: Builder,
    prefix: &Path,
    readiness: &Readiness,
    mut companion: Option<Companion>,
) -> Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    tracing::info!("weave {VERSION}");
    let store = Arc::new(FileStore::open(prefix)?);
    if let Some(companion) = &mut companion {
        builder = tokio::select! {
            prepared = companion.prepare(builder, &store) => prepared?,
            () = signals.stop() => return Ok(()),
        };
    }
    let mut node = builder.shared_store(store).start().await?;
    readiness.ready();
    let beside = companion.map(|companion| companion.accompany(&node));
    let result = until_told(&mut node, &mut signals, beside).await;
    readiness.stopping();
    node.shut_down().await;
    tracing::info!("stopped");
    result
}

/// Until a signal ends it, or what cannot be mended.
async fn until_told(
    node: &mut Node,
    signals: &mut Signals,
    beside: Option<impl Future<Output = Result<()>>>,
) -> Result<()> {
    let beside = async {
        match beside {
            Some(beside) => beside.await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(beside);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop(name) => {
                    tracing::info!("{name}: stopping");
                    return Ok(());
                }
                Signal::Dump => dump(node).await,
                Signal::Unused(name) => tracing::info!("{name}: nothing to do"),
            },
            error = node.ended() => return Err(error.into()),
            ended = &mut beside => return ended,
        }
    }
}

/// SIGQUIT: everything that is known, in the log.
async fn dump(node: &Node) {
    match node.report().await {
        Ok(report) => {
            let text = json::compact(&report).unwrap_or_else(|error| error.to_string());
            tracing::info!("state: {text}");
        }
        Err(error) => tracing::error!("no state to tell: {error}"),
    }
}
