//! What runs on a node: watches the objects of the cluster, and keeps the kernel in step.
//!
//! ```text
//!   API server ──list, watch──▶ Mirror ──Change──▶ Cluster ──compile──▶ Enforcer ──▶ kernel
//! ```
//!
//! Nothing depends on an event being seen: what is lost in a watch is found by the list after it.
//! Before all three kinds of objects are listed once, the kernel is left as it was.

mod bridge;
mod mirror;
mod status;
mod takeover;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use weave_firewall::{FirewallError, Outcome};

use crate::cluster::{Change, Cluster};
use crate::compile::{Compiler, Ruleset};
use crate::enforcer::Enforcer;
use crate::nft::Options;
use bridge::Bridge;
use mirror::{Namespaces, Pods, Policies};
pub use status::Status;

/// Changes come in crowds: a rollout, a namespace that goes. This is what one waits for the others.
const GATHER: Duration = Duration::from_millis(20);
/// How often it is looked whether somebody else changed the rules. If nobody has, that is one
/// message to the kernel.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// After a failure, at first and at most.
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Lists and events that wait to be taken, of all three kinds.
const QUEUE: usize = 64;

/// What a watch says.
#[derive(Debug)]
struct News {
    kind: usize,
    changes: Vec<Change>,
    /// Whether all objects of the kind have been told by now.
    complete: bool,
}

/// Watches the cluster and keeps the rules of this node until the watches end, which they do not
/// by themselves: the caller drops the future to end it. What is in the kernel stays.
///
/// # Errors
/// Fails if there is no nftables. What fails later is tried again.
pub async fn run(
    client: Client,
    node: &str,
    options: Options,
    status: Arc<Status>,
) -> Result<(), FirewallError> {
    let mut keeper = Keeper { enforcer: Some(Enforcer::open(options)?), status, backoff: None };
    let (sender, mut news) = mpsc::channel(QUEUE);
    let watches = async {
        tokio::join!(
            watch::watch::<Namespaces>(&client, 0, sender.clone()),
            watch::watch::<Pods>(&client, 1, sender.clone()),
            watch::watch::<Policies>(&client, 2, sender.clone()),
        );
    };
    let keep = async {
        let (mut cluster, mut compiler) = (Cluster::default(), Compiler::new(node));
        let (mut complete, mut due) = ([false; 3], None);
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut taken_over, mut bridge) = (false, Bridge::default());
        loop {
            let timer = async move {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = news.recv() => {
                    let Some(News { kind, changes, complete: all }) = received else { return };
                    complete[kind] |= all;
                    let mut changed = all;
                    for change in changes {
                        keeper.status.note(&change);
                        changed |= cluster.handle_change(change);
                    }
                    if changed && complete == [true; 3] && due.is_none() {
                        due = Some(Instant::now() + GATHER);
                    }
                }
                () = timer => {
                    due = keeper.enforce(compiler.compile(&mut cluster)).await;
                    if due.is_none() && !std::mem::replace(&mut taken_over, true) {
                        // Only now: what the original left has judged until here.
                        let _ = spawn_blocking(takeover::remove_leftovers).await;
                    }
                }
                _ = check.tick() => {
                    bridge.check();
                    keeper.check().await;
                }
            }
        }
    };
    tokio::select! {
        () = watches => {}
        () = keep => {}
    }
    Ok(())
}

/// Returns the objects of the cluster, as they are now.
///
/// # Errors
/// The API server does not answer, or does not let us see them.
pub async fn snapshot(client: &Client) -> kube::Result<Vec<Change>> {
    let namespaces = watch::all::<Namespaces>(client).await?;
    let pods = watch::all::<Pods>(client).await?;
    let policies = watch::all::<Policies>(client).await?;
    Ok([namespaces, pods, policies].concat())
}

/// The rules in the kernel, and how it goes.
struct Keeper {
    /// Away while it is at work.
    enforcer: Option<Enforcer>,
    status: Arc<Status>,
    backoff: Option<Duration>,
}

impl Keeper {
    /// Makes the rules be these, and returns when to try again.
    async fn enforce(&mut self, ruleset: Ruleset) -> Option<Instant> {
        self.status.compiled(&ruleset);
        let result = self.work(move |enforcer| enforcer.enforce(&ruleset)).await;
        match result {
            Ok(outcome) => {
                if outcome == Outcome::Changed {
                    self.status.enforced();
                }
                self.backoff = None;
                None
            }
            Err(error) => {
                let pause = self.backoff.map_or(MIN_BACKOFF, |pause| (pause * 2).min(MAX_BACKOFF));
                self.backoff = Some(pause);
                self.status.failed();
                tracing::error!(%error, "policies are not enforced as they are now: trying again");
                Some(Instant::now() + pause)
            }
        }
    }

    async fn check(&mut self) {
        match self.work(Enforcer::check).await {
            Ok(Outcome::InOrder) => {}
            Ok(Outcome::Changed) => self.status.restored(),
            Err(error) => {
                self.status.failed();
                tracing::error!(%error, "the rules of policies cannot be looked at");
            }
        }
    }

    /// Programs are waited for, so this is not for the thread of the watches.
    async fn work<F>(&mut self, work: F) -> Result<Outcome, FirewallError>
    where
        F: FnOnce(&mut Enforcer) -> Result<Outcome, FirewallError> + Send + 'static,
    {
        let Some(mut enforcer) = self.enforcer.take() else { return Ok(Outcome::InOrder) };
        let done = spawn_blocking(move || {
            let result = work(&mut enforcer);
            (enforcer, result)
        });
        match done.await {
            Ok((enforcer, result)) => {
                self.enforcer = Some(enforcer);
                result
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Waits after a failure, longer each time.
async fn pause(backoff: &mut Duration) {
    sleep(*backoff).await;
    *backoff = (*backoff * 2).min(MAX_BACKOFF);
}
