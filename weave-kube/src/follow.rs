//! Keeping the nodes up to date: asks what [`Watching`] wants asked.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::api::{Api, ApiError};
use crate::nodes::Nodes;
use crate::state::State;
use crate::watching::{Ask, Heard, Pauses, Watching};

/// A watch that is silent for longer than the API server keeps it is dead.
const SILENCE: Duration = Duration::from_secs(330);

/// Follows the nodes until it is dropped. `beat` is how long a node waits before all others ask at
/// the same time, from 0 to 1.
pub(crate) async fn follow(
    api: &Api,
    pauses: Pauses,
    beat: f64,
    nodes: &watch::Sender<Nodes>,
    state: &State,
) {
    let mut watching = Watching::new(pauses);
    loop {
        let next = watching.next();
        sleep(next.pause.mul_f64(1.0 + beat)).await;
        match next.ask {
            Ask::List => match api.list_nodes().await {
                Ok((all, version)) => {
                    state.works();
                    state.update(|report| report.nodes = all.len());
                    watching.handle_list(version);
                    nodes.send_if_modified(|nodes| {
                        let is_news = *nodes != all;
                        *nodes = all;
                        is_news
                    });
                }
                Err(error) => {
                    state.fails("list nodes", &error);
                    watching.handle_failure();
                }
            },
            Ask::Watch(version) => {
                let started = Instant::now();
                match watch(api, &version, &mut watching, nodes, state).await {
                    Ok(()) => watching.handle_end(started.elapsed()),
                    Err(ApiError::Gone) => watching.handle_gone(),
                    Err(error) => {
                        state.fails("watch nodes", &error);
                        watching.handle_failure();
                    }
                }
            }
        }
    }
}

/// One watch, from its start to its end.
async fn watch(
    api: &Api,
    version: &str,
    watching: &mut Watching,
    nodes: &watch::Sender<Nodes>,
    state: &State,
) -> Result<(), ApiError> {
    let mut events = pin!(api.watch_nodes(version).await?);
    state.works();
    while let Ok(event) = timeout(SILENCE, events.try_next()).await {
        let Some(event) = event? else { return Ok(()) };
        let mut heard = Heard::Nothing;
        nodes.send_if_modified(|nodes| {
            heard = watching.handle_event(event, nodes);
            heard == Heard::News
        });
        match heard {
            Heard::News => state.update(|report| report.nodes = nodes.borrow().len()),
            Heard::Nothing => {}
            Heard::Gone => return Ok(()),
            Heard::Failed => return Err(ApiError::Away("the watch failed".to_owned())),
        }
    }
    Ok(())
}
