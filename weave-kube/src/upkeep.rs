//! What is done again and again beside the router: reclaiming, the node's condition, warnings.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use weave_node::{AddressError, Addresses};

use crate::api::{Api, ApiError, Map};
use crate::nodes::Nodes;
use crate::reclaim::{Change, Identity, Step, next_step};
use crate::state::State;

/// How long the nodes of a cluster take turns in looking at a change: they all read one object.
const TURN: Duration = Duration::from_secs(5);
/// Each node of a large cluster makes that longer.
const TURN_PER_NODE: Duration = Duration::from_millis(20);
/// It is looked again after this, whether anything changed or not.
pub(crate) const RESYNC: Duration = Duration::from_secs(600);
/// The same, while something could not be done.
const LEFT: Duration = Duration::from_secs(30);
/// Steps in a row; whatever is left after these waits for the next time.
const MAX_STEPS: usize = 10_000;
/// How long a lost race is left to the winner, as Weave Net does.
const LOST: Duration = Duration::from_secs(2);
/// Attempts to write what has been done already.
const MAX_ATTEMPTS: u32 = 30;

/// Takes over what a peer had. The router in practice.
pub(crate) trait TakeOver {
    /// Returns how many addresses that gained; none if the peer is in reach.
    fn take_over(&self, peer: &str) -> impl Future<Output = Result<Option<u32>, String>> + Send;
}

impl TakeOver for Addresses {
    async fn take_over(&self, peer: &str) -> Result<Option<u32>, String> {
        let name = peer.parse().map_err(|error| format!("{peer:?} is no peer name: {error}"))?;
        let taken: Result<_, AddressError> = Self::take_over(self, name).await;
        taken.map_err(|error| error.to_string())
    }
}

/// A peer that is gone and could not be taken over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Left {
    pub(crate) peer: String,
    pub(crate) why: String,
}

/// Who reclaims, and with what.
pub(crate) struct Reclaimer<'a, T> {
    pub(crate) api: &'a Api,
    pub(crate) own: &'a Identity,
    pub(crate) state: &'a State,
    pub(crate) router: T,
    /// This node's turn among all, from 0 to 1.
    pub(crate) beat: f64,
    /// How long a lost race is left to the winner.
    pub(crate) lost: Duration,
}

impl<'a, T: TakeOver> Reclaimer<'a, T> {
    pub(crate) const fn new(
        api: &'a Api,
        own: &'a Identity,
        state: &'a State,
        router: T,
        beat: f64,
    ) -> Self {
        Self { api, own, state, router, beat, lost: LOST }
    }

    /// Reclaims whenever nodes went, until it is dropped.
    pub(crate) async fn run(&self, mut nodes: watch::Receiver<Nodes>) {
        let mut told = Vec::new();
        loop {
            let now = nodes.borrow_and_update().clone();
            let pause = match self.reclaim(&now).await {
                Ok(left) => {
                    for left in left.iter().filter(|left| !told.contains(*left)) {
                        tracing::warn!("[kube] {}", left.why);
                    }
                    told = left;
                    if told.is_empty() { RESYNC } else { LEFT }
                }
                Err(error) => {
                    self.state.fails("reclaim the addresses of nodes that are gone", &error);
                    LEFT
                }
            };
            tokio::select! {
                changed = nodes.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
            }
            let turn = TURN + TURN_PER_NODE * u32::try_from(now.len()).unwrap_or(u32::MAX);
            sleep(turn.mul_f64(self.beat)).await;
        }
    }

    /// Reclaims all there is to reclaim; returns what could not be.
    pub(crate) async fn reclaim(&self, nodes: &Nodes) -> Result<Vec<Left>, ApiError> {
        let mut left: Vec<Left> = Vec::new();
        let mut map = self.api.map().await?;
        for _ in 0..MAX_STEPS {
            self.state.works();
            let locks = map.annotations.locks();
            let locks = locks.map(|(peer, by)| (peer.replace('_', ":"), by.to_owned())).collect();
            self.state.update(|report| report.locks = locks);
            // A peer that cannot be taken over now does not keep others from it.
            let mut view = map.annotations.clone();
            for Left { peer, .. } in &left {
                Change::Finish(peer.clone()).apply(&mut view, self.own).map_err(unreadable)?;
            }
            match next_step(&view, nodes, self.own).map_err(unreadable)? {
                Step::Nothing => return Ok(left),
                Step::Write(change) => map = self.write(map, &change).await?,
                Step::TakeOver(listed) => {
                    let is_back =
                        listed.node != self.own.node && self.api.has_node(&listed.node).await?;
                    if is_back {
                        self.write(map, &Change::Unlock(listed.peer)).await?;
                        // The watch will tell.
                        return Ok(left);
                    }
                    match self.router.take_over(&listed.peer).await {
                        Ok(Some(addresses)) => {
                            tracing::info!(
                                "[kube] node {} is gone: {addresses} addresses of its peer {} are ours",
                                listed.node,
                                listed.peer
                            );
                            self.state.update(|report| {
                                report.reclaimed_peers += 1;
                                report.reclaimed_addresses += u64::from(addresses);
                            });
                            map = self.finish(map, &Change::Finish(listed.peer)).await?;
                        }
                        Ok(None) => left.push(Left {
                            why: format!(
                                "node {} is gone, but its router {} still runs: its addresses are \
                                 taken over once it is stopped",
                                listed.node, listed.peer
                            ),
                            peer: listed.peer,
                        }),
                        Err(error) => left.push(Left {
                            why: format!("cannot take over {}: {error}", listed.peer),
                            peer: listed.peer,
                        }),
                    }
                }
            }
        }
        Ok(left)
    }

    /// Writes a change. After a lost race, what is there is read.
    async fn write(&self, mut map: Map, change: &Change) -> Result<Map, ApiError> {
        change.apply(&mut map.annotations, self.own).map_err(unreadable)?;
        match self.api.write(map).await {
            Err(ApiError::Conflict) => {
                sleep(self.lost.mul_f64(1.0 + self.beat)).await;
                self.api.map().await
            }
            result => result,
        }
    }

    /// Writes what has been done, whoever writes at the same time.
    async fn finish(&self, mut map: Map, change: &Change) -> Result<Map, ApiError> {
        for _ in 0..MAX_ATTEMPTS {
            change.apply(&mut map.annotations, self.own).map_err(unreadable)?;
            match self.api.write(map).await {
                Err(ApiError::Conflict) => {
                    sleep(self.lost.mul_f64(1.0 + self.beat)).await;
                    map = self.api.map().await?;
                }
                result => return result,
            }
        }
        Err(ApiError::Conflict)
    }
}

fn unreadable(error: crate::annotations::Unreadable) -> ApiError {
    ApiError::Unreadable(error)
}

/// Says that the node has a network: once, and whenever somebody says that it has none.
pub(crate) async fn keep_condition(
    api: &Api,
    node: &str,
    state: &State,
    pause: Duration,
    mut nodes: watch::Receiver<Nodes>,
) {
    loop {
        let found = nodes.borrow_and_update().find(node).map(|node| node.network_unavailable);
        if let Some(None | Some(true)) = found {
            match api.clear_network_unavailable(node).await {
                Ok(()) => tracing::info!("[kube] node {node} is told to have a network"),
                Err(error) => state.fails("set the condition NetworkUnavailable", &error),
            }
            // Whoever sets it again at once is not fought without end.
            sleep(pause).await;
            let is_same = nodes.has_changed().is_ok_and(|changed| !changed);
            if is_same {
                tokio::select! {
                    changed = nodes.changed() => if changed.is_err() { return },
                    () = sleep(RESYNC) => {}
                }
            }
        } else if nodes.changed().await.is_err() {
            return;
        }
    }
}

/// Concerns of one kind that are told at one time.
const MOST: usize = 8;

/// Something that users have to look after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Concern {
    pub(crate) reason: &'static str,
    /// What it is about: it is the same concern as long as that is the same, whatever its text says.
    pub(crate) about: String,
    pub(crate) text: String,
}

impl Concern {
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.reason, &self.about) == (other.reason, &other.about)
    }
}

/// What users have to look after in these nodes, each in one line.
pub(crate) fn concerns(nodes: &Nodes, own: &str, limit: Option<usize>) -> Vec<Concern> {
    let mut concerns = Vec::new();
    let others = nodes.len().saturating_sub(usize::from(nodes.contains(own)));
    if let Some(limit) = limit.filter(|limit| *limit < others) {
        let text = format!(
            "CONN_LIMIT={limit} is less than the {others} other nodes: frames to some go by way of \
             others; set CONN_LIMIT to at least {others}, or to 0 for no limit"
        );
        concerns.push(Concern { reason: "TooFewConnections", about: String::new(), text });
    }
    for (address, names) in nodes.sharing().into_iter().take(MOST) {
        let names: Vec<_> = names.into_iter().take(MOST).collect();
        let text = format!(
            "nodes {} have the same address {address}: routers reach only one of them by it; give \
             each kubelet an address of its own with --node-ip",
            names.join(", ")
        );
        concerns.push(Concern { reason: "SharedAddress", about: address.to_string(), text });
    }
    for name in nodes.without_address().into_iter().take(MOST) {
        let text = format!(
            "node {name} has neither InternalIP nor ExternalIP: this router waits for its router to \
             connect"
        );
        concerns.push(Concern { reason: "NoAddress", about: name.to_owned(), text });
    }
    concerns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::tests::object;

    #[test]
    fn concerns_say_what_to_do() {
        let nodes = Nodes::all([
            object("a", &["InternalIP=192.0.2.1"]),
            object("b", &["InternalIP=192.0.2.2"]),
            object("c", &["InternalIP=192.0.2.2"]),
            object("d", &[]),
        ]);
        let texts = |limit| -> Vec<_> {
            concerns(&nodes, "a", limit).into_iter().map(|concern| concern.text).collect()
        };
        let all = texts(Some(2));
        assert!(all[0].starts_with("CONN_LIMIT=2 is less than the 3 other nodes"), "{all:?}");
        assert!(all[1].starts_with("nodes b, c have the same address 192.0.2.2"), "{all:?}");
        assert!(all[2].starts_with("node d has neither InternalIP nor ExternalIP"), "{all:?}");
        assert_eq!(texts(Some(3)).len(), 2);
        assert_eq!(texts(None).len(), 2);
        let (some, fewer) = (concerns(&nodes, "a", Some(2)), concerns(&nodes, "a", Some(1)));
        assert!(some[0].is(&fewer[0]) && some[0].text != fewer[0].text && !some[0].is(&some[1]));
    }
}
