//! What goes on before and beside the router of a node, in one process with it.
//!
//! ```text
//!  prepare:   nodes ─▶ is what is stored still ours? who divides the range? ─▶ join the list of peers
//!  accompany: nodes ─▶ peers ─▶ the router            addresses ready ─▶ expose ─▶ reclaim, condition
//! ```
//!
//! A router that has addresses does not wait for the API server: pods of this node talk, whatever
//! that does. One that has none waits, since it must not divide the range a second time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use weave_ipam::allocator::{Origin, Update};
use weave_node::{Addresses, Builder, FileStore, HostAddresses, Node, Store as _};

use crate::api::{Api, ApiError, Map};
use crate::expose::expose;
use crate::follow::follow;
use crate::membership::{self, Division, Listing, Obstacle, Past, Start};
use crate::nodes::Nodes;
use crate::plugin;
use crate::reclaim::Identity;
use crate::settings::{Expose, Settings};
use crate::state::State;
use crate::upkeep::{Concern, Reclaimer, concerns, keep_condition};
use crate::watching::Pauses;

/// The note of the ConfigMap that this router is listed in; `ok` if only that it was in one, as
/// Weave Net 2.x stores it.
const LISTED: &str = "peer-reclaim";
/// The note of where other routers were last.
const PEERS: &str = "kube-peers";
/// How long a router that has addresses waits for the API server at its start.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts of one that has none: its pods wait, and kube-proxy may just be about to make the
/// way to the API server.
const WAITING: Duration = Duration::from_secs(4);
/// How long one that reclaims us is waited for: it needs less than a second, unless it ended.
const RECLAIMING: Duration = Duration::from_secs(60);
/// Between looks at something that others are about to change.
const LOOK: Duration = Duration::from_secs(2);
const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// The bridge of Weave Net.
const BRIDGE: &str = "weave";
/// Changes of nodes within this time are looked at together.
const COALESCING: Duration = Duration::from_secs(1);
/// Addresses in one line of the log.
const SHOWN: usize = 8;
/// Between attempts to give the host an address.
const EXPOSING: Duration = Duration::from_secs(5);
/// Between two patches of the condition.
const CONDITION: Duration = Duration::from_secs(10);

/// The part of `weave kube` that speaks to the cluster.
#[derive(Debug)]
pub struct Companion {
    settings: Settings,
    prepared: Option<Prepared>,
}

/// What is known once the router may start.
#[derive(Debug)]
struct Prepared {
    api: Api,
    own: Identity,
    store: Arc<FileStore>,
    nodes: watch::Sender<Nodes>,
    peers: mpsc::Sender<Vec<String>>,
    state: State,
    /// Whether the router is in the list of peers; else it was started without the API server.
    is_listed: bool,
    /// From 0 to 1, by the name of the peer: what all nodes do at the same time is spread by it.
    beat: f64,
    started: i64,
}

impl Companion {
    pub(crate) const fn new(settings: Settings) -> Self {
        Self { settings, prepared: None }
    }

    /// What has to be known before the router starts.
    ///
    /// # Errors
    /// The router of this node must not start like this.
    pub async fn prepare(
        &mut self,
        mut builder: Builder,
        store: &Arc<FileStore>,
    ) -> anyhow::Result<Builder> {
        let settings = &self.settings;
        let peer = builder.peer_name(&**store)?;
        let own = Identity { peer: peer.to_string(), node: settings.node.clone() };
        for note in &settings.notes {
            tracing::warn!("[kube] {note}");
        }
        tracing::info!(
            "[kube] node {} has the peer {}; pods have addresses of {}",
            own.node,
            own.peer,
            settings.range
        );
        let api = Api::of_environment().await.map_err(|error| {
            anyhow::anyhow!("there is no API server to speak to: {error}; run this in a pod with a ServiceAccount")
        })?;
        let [.., high, low] = peer.to_bytes();
        let beat = f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX);
        let (sender, receiver) = mpsc::channel(1);
        let mut prepared = Prepared {
            api,
            state: State::new(&own.node),
            own,
            store: Arc::clone(store),
            nodes: watch::Sender::new(Nodes::default()),
            peers: sender,
            is_listed: false,
            beat,
            started: now(),
        };
        let told = prepared.state.clone();
        builder = builder.kubernetes(move || told.report());
        let has_ring = store.ipam(peer, settings.range.range())?.ring.is_some();
        if let Some(text) = weave_node::hidden_route(settings.range, BRIDGE)? {
            let text = format!("{text}: choose another IPALLOC_RANGE, the same on all nodes");
            prepared.state.warn(&prepared.api, &prepared.own.node, "RangeOverlaps", &text).await;
        }
        if let Some(start) = prepared.wait_for_start(settings, has_ring).await? {
            prepared.is_listed = true;
            if start.forget {
                tracing::warn!(
                    "[kube] the addresses of this node were given to others while it was away: what it \
                     had is forgotten"
                );
                store.update_ipam(&Update { clear: true, ..Update::default() })?;
            }
            if let Some(origin) = origin(&start.division).filter(|_| !settings.is_origin_given) {
                builder = builder.ipam_origin(origin);
            }
        }
        if settings.peers.is_none() {
            builder = builder.peer_source(receiver);
            prepared.hand_over_peers().await?;
        }
        self.prepared = Some(prepared);
        Ok(builder)
    }

    /// Goes along with the router until the future is dropped. It ends when the router has to be
    /// started anew.
    pub fn accompany(self, node: &Node) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let (addresses, host) = (node.ipam(), node.host_addresses());
        let plugin = plugin::keep(node.ipam());
        let Self { settings, prepared } = self;
        async move {
            let joined = async {
                match prepared {
                    Some(prepared) => prepared.run(&settings, addresses, host).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = joined => ended,
                never = plugin => match never {},
            }
        }
    }
}

/// What the allocator is told; nothing if it goes on with what is stored.
fn origin(division: &Division) -> Option<Origin> {
    match division {
        Division::Stored => None,
        Division::Seed(names) => {
            Some(Origin::Seed(names.iter().filter_map(|name| name.parse().ok()).collect()))
        }
        // The name is written down by now.
        Division::Claim => None,
        Division::Vote(nodes) => Some(Origin::Consensus { peers: Some(*nodes) }),
        Division::Observe => Some(Origin::Observer),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|since| since.as_secs().try_into().ok()).unwrap_or(0)
}

/// Why there is no start yet.
#[derive(Debug, thiserror::Error)]
enum NoStart {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    #[error(
        "the cluster has no node {0}: HOSTNAME has to be the name of this node, as spec.nodeName is; \
         waiting for it"
    )]
    NoNode(String),
}

impl Prepared {
    /// Waits until it is known how to start; none if that has to do without the API server.
    async fn wait_for_start(
        &self,
        settings: &Settings,
        has_ring: bool,
    ) -> anyhow::Result<Option<Start>> {
        let begin = Instant::now();
        let Self { api, own, state, .. } = self;
        let mut told = String::new();
        let mut pause = PAUSES.first;
        loop {
            let range = settings.range.to_string();
            let claims = !settings.is_origin_given;
            let error = match self.find_start(&range, has_ring, claims).await {
                Ok(start) => return Ok(Some(start)),
                Err(NoStart::Api(ApiError::Conflict)) => {
                    sleep(PAUSES.first.mul_f64(self.beat)).await;
                    continue;
                }
                Err(error) => error,
            };
            let text = error.to_string();
            match &error {
                NoStart::Obstacle(Obstacle::Namesake { .. }) => {
                    state.tell(api, &own.node, "DuplicatePeerName", &text).await;
                    bail!("{text}");
                }
                NoStart::Obstacle(Obstacle::BeingReclaimed { .. }) => {
                    if text != told {
                        tracing::info!("[kube] {text}");
                    }
                    told = text;
                    if begin.elapsed() > RECLAIMING {
                        self.take_lock_away().await;
                    }
                    sleep(LOOK).await;
                    continue;
                }
                NoStart::Api(error) => state.fails("join the cluster", error),
                _ if text != told => state.warn(api, &own.node, "CannotStart", &text).await,
                _ => {}
            }
            told = text;
            if has_ring && begin.elapsed() > PATIENCE {
                tracing::warn!("[kube] starting with what is stored, without the API server");
                return Ok(None);
            }
            sleep(pause.mul_f64(1.0 + self.beat)).await;
            pause = (pause * 2).min(if has_ring { LOOK } else { WAITING });
        }
    }

    /// How to start, as things are; the router is in the list then.
    async fn find_start(
        &self,
        range: &str,
        has_ring: bool,
        claims: bool,
    ) -> Result<Start, NoStart> {
        let (nodes, _) = self.api.list_nodes().await?;
        self.state.works();
        self.state.update(|report| report.nodes = nodes.len());
        self.nodes.send_replace(nodes.clone());
        if !nodes.are_all(&self.own.node) {
            return Err(NoStart::NoNode(self.own.node.clone()));
        }
        let map = self.api.map().await?;
        let past = Past { has_ring, listed: self.listing() };
        let start = self.start_by(&map, &nodes, range, &past)?;
        let mut joined = map.clone();
        let division = if claims { &start.division } else { &Division::Stored };
        let changed = membership::join(&mut joined.annotations, &self.own, range, division);
        changed.map_err(Obstacle::from)?;
        let uid = if joined.annotations == map.annotations {
            map.uid
        } else {
            self.api.write(joined).await?.uid
        };
        self.note(LISTED, &uid);
        let own = vec![self.own.peer.clone()];
        Ok(match start.division {
            Division::Claim => Start { division: Division::Seed(own), ..start },
            _ => start,
        })
    }

    fn start_by(
        &self,
        map: &Map,
        nodes: &Nodes,
        range: &str,
        past: &Past,
    ) -> Result<Start, Obstacle> {
        let is_older = map.made < self.started;
        let map = membership::Map { uid: &map.uid, is_older, annotations: &map.annotations };
        membership::start(map, nodes, &self.own, range, past)
    }

    /// Who reclaims us does not come to an end.
    async fn take_lock_away(&self) {
        let unlock = async {
            let mut map = self.api.map().await?;
            map.annotations.unlock(&self.own.peer);
            self.api.write(map).await
        };
        if let Err(error) = unlock.await {
            self.state.fails("remove the lock of this node", &error);
        }
    }

    fn listing(&self) -> Listing {
        match self.store.note(LISTED) {
            Ok(None) => Listing::Never,
            Ok(Some(text)) if text == "ok" => Listing::Once,
            Ok(Some(uid)) => Listing::In(uid),
            Err(error) => {
                tracing::warn!("[kube] {error}");
                Listing::Never
            }
        }
    }

    fn note(&self, name: &str, text: &str) {
        // The disk is asked for nothing that is there already.
        if self.store.note(name).is_ok_and(|before| before.as_deref() == Some(text)) {
            return;
        }
        if let Err(error) = self.store.set_note(name, text) {
            tracing::warn!("[kube] {error}");
        }
    }

    /// Where the other routers are, as of now or as of the last time.
    async fn hand_over_peers(&self) -> anyhow::Result<()> {
        let peers = match self.nodes.borrow().peers(&self.own.node) {
            peers if self.is_listed => peers,
            _ => match self.store.note(PEERS)? {
                Some(text) => serde_json::from_str(&text).context("the peers of the last time")?,
                None => return Ok(()),
            },
        };
        let is_first_start = self.store.note(PEERS)?.is_none();
        if is_first_start && self.store.direct_peers()?.is_some() {
            // Peers of Weave Net 2.x are those that nodes had at its last start.
            self.store.set_direct_peers(&[])?;
        }
        self.remember(&peers);
        drop(self.peers.send(peers).await);
        Ok(())
    }

    fn remember(&self, peers: &[String]) {
        if let Ok(text) = serde_json::to_string(peers) {
            self.note(PEERS, &text);
        }
    }

    async fn run(
        self,
        settings: &Settings,
        addresses: Addresses,
        host: HostAddresses,
    ) -> anyhow::Result<()> {
        let Self { api, own, state, nodes, beat, .. } = &self;
        let (checked, mut is_checked) = watch::channel(self.is_listed);
        let after_ring = async {
            self.expose(&addresses, &host, &settings.expose).await;
            // Whoever was reclaimed must not join the list before it noticed.
            is_checked.wait_for(|checked| *checked).await?;
            let reclaimer = Reclaimer::new(api, own, state, addresses.clone(), *beat);
            tokio::join!(
                reclaimer.run(nodes.subscribe()),
                keep_condition(api, &own.node, state, CONDITION, nodes.subscribe()),
            );
            anyhow::Ok(())
        };
        tokio::select! {
            () = follow(api, PAUSES, *beat, nodes, state) => bail!("the nodes are not followed any more"),
            error = self.check_late(settings, &checked) => error,
            () = self.tell_peers(settings) => bail!("the router asks for no peers any more"),
            () = self.tell_concerns(settings) => bail!("nobody looks at the nodes any more"),
            ended = after_ring => ended,
        }
    }

    /// Gives the host its addresses, however often that has to be tried.
    async fn expose(&self, addresses: &Addresses, host: &HostAddresses, wanted: &[Expose]) {
        let mut told = String::new();
        loop {
            let error = match addresses.ready().await {
                Ok(()) => match expose(addresses, host, wanted).await {
                    Ok(()) => return,
                    Err(error) => format!("{error:#}"),
                },
                Err(error) => error.to_string(),
            };
            if error != told {
                self.state.warn(&self.api, &self.own.node, "NoHostAddress", &error).await;
            }
            told = error;
            sleep(EXPOSING).await;
        }
    }

    /// A router that started without the API server looks, once that answers, whether it should
    /// have.
    async fn check_late(
        &self,
        settings: &Settings,
        checked: &watch::Sender<bool>,
    ) -> anyhow::Result<()> {
        if !self.is_listed {
            let mut nodes = self.nodes.subscribe();
            nodes.wait_for(|nodes| nodes.are_all(&self.own.node)).await?;
            if let Some(start) = self.wait_for_answer(settings).await
                && start.forget
            {
                bail!(
                    "the addresses of this node were given to others while the API server was away: \
                     starting anew"
                );
            }
            checked.send_replace(true);
        }
        std::future::pending().await
    }

    async fn wait_for_answer(&self, settings: &Settings) -> Option<Start> {
        let range = settings.range.to_string();
        loop {
            let nodes = self.nodes.borrow().clone();
            match self.api.map().await {
                Ok(map) => {
                    let past = Past { has_ring: true, listed: self.listing() };
                    match self.start_by(&map, &nodes, &range, &past) {
                        Ok(start) if start.forget => return Some(start),
                        // The reclaimer joins the list.
                        Ok(_) => {
                            self.note(LISTED, &map.uid);
                            return None;
                        }
                        Err(obstacle) => tracing::warn!("[kube] {obstacle}"),
                    }
                }
                Err(error) => self.state.fails("look whether this node was reclaimed", &error),
            }
            sleep(PAUSES.longest.mul_f64(1.0 + self.beat)).await;
        }
    }

    /// Hands every change of the other routers' addresses to ours.
    async fn tell_peers(&self, settings: &Settings) {
        let mut nodes = self.nodes.subscribe();
        let mut told = nodes.borrow_and_update().peers(&self.own.node);
        while nodes.changed().await.is_ok() {
            // Where many come at once, they are handed over, and stored, at once.
            sleep(COALESCING).await;
            let peers = {
                let nodes = nodes.borrow_and_update();
                if !nodes.are_all(&self.own.node) {
                    continue;
                }
                nodes.peers(&self.own.node)
            };
            if settings.peers.is_some() || peers == told {
                continue;
            }
            let difference = |these: &[String], those: &[String]| {
                let all = these.iter().filter(|peer| those.binary_search(peer).is_err());
                let shown: Vec<_> = all.clone().take(SHOWN).map(String::as_str).collect();
                let more = all.count() - shown.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("[{}{more}]", shown.join(" "))
            };
            tracing::info!(
                "[kube] routers of other nodes: {}; new {}, gone {}",
                peers.len(),
                difference(&peers, &told),
                difference(&told, &peers)
            );
            self.remember(&peers);
            told.clone_from(&peers);
            if self.peers.send(peers).await.is_err() {
                return;
            }
        }
    }

    /// Tells each concern once, as long as it lasts.
    async fn tell_concerns(&self, settings: &Settings) {
        let mut nodes = self.nodes.subscribe();
        let mut told: Vec<Concern> = Vec::new();
        loop {
            // A node may get its address a moment after it is made.
            sleep(COALESCING).await;
            let found = {
                let nodes = nodes.borrow_and_update();
                concerns(&nodes, &self.own.node, settings.connection_limit)
            };
            for concern in &found {
                if !told.iter().any(|other| concern.is(other)) {
                    let (reason, text) = (concern.reason, &concern.text);
                    self.state.warn(&self.api, &self.own.node, reason, text).await;
                }
            }
            told = found;
            if nodes.changed().await.is_err() {
                return;
            }
        }
    }
}
