//! One router: control plane, transports and switch together.
//!
//! ```text
//!                 handle_*                        poll_output
//!    driver ──────────────────▶ ┌────────┐ ──────────────────────▶ driver
//!                               │  Mesh  │
//!                               └──┬──▲──┘
//!              prepare, confirm,   │  │  prepared, established,
//!              control, stop       │  │  failed, control
//!                               ┌──▼──┴──┐   links   ┌──────────────────┐
//!                               │Selector│──────────▶│ ForwardingTable  │
//!                               │ (each  │  routes   │ (published whole)│
//!                               │  conn.)│     ┌────▶└────────┬─────────┘
//!                               └──┬──▲──┘     │              ▼
//!                               ┌──▼──┴──┐   Mesh          Switch ◀──── data threads
//!                               │ Links  │
//!                               └────────┘
//! ```

mod event;
mod report;
#[cfg(test)]
mod tests;
mod wakes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use event::Event;
pub use report::{LinkReport, Report};

use crate::mesh::{self, ConnectionId, LinkRequest, Mesh, PeerName, Routes, TargetError};
use crate::switch::{
    ForwardingTable, NeighbourLinks, Overlay, SWEEP_INTERVAL, Selector, SelectorEvent, Switch,
    Waker,
};
use crate::time::Instant;
use wakes::Wakes;

/// Moves and conflicts of stations are told at most this often: a single one at once, a storm of
/// them as a number.
const STATION_NEWS_INTERVAL: Duration = Duration::from_secs(60);

/// Room for so many outputs is kept while there are none.
const OUTPUTS_KEPT: usize = 64;

/// The state machine of one router.
///
/// The `handle_*` methods take what happened, [`Self::connect`] and its like what the user wants.
/// After each batch of calls drain [`Self::poll_output`], and then ask [`Self::poll_timeout`] when
/// [`Self::handle_timeout`] is wanted. The forwarding table is published when the outputs are
/// drained, once for all that came before.
pub struct Router {
    mesh: Mesh,
    overlays: Vec<Box<dyn Overlay>>,
    connections: BTreeMap<ConnectionId, Connection>,
    switch: Arc<Switch>,
    routes: Arc<Routes>,
    table_is_stale: bool,
    wakes: Arc<Wakes>,
    outputs: VecDeque<Output>,
    sweep_at: Instant,
    station_news: StationNews,
}

/// Something for the driver to do, in the order given.
#[derive(Clone, Debug)]
pub enum Output {
    /// Open a TCP connection; answer with [`Router::handle_dialled`] or
    /// [`Router::handle_dial_failed`].
    Dial {
        /// Names the connection from here on.
        id: ConnectionId,
        /// Where to.
        address: SocketAddr,
    },
    /// Look up the addresses of a host; answer with [`Router::handle_resolved`].
    Resolve {
        /// To be handed back.
        target: String,
        /// The host.
        host: String,
    },
    /// Write to the TCP connection, and tell [`Router::handle_written`] how far that got.
    Send {
        /// The connection.
        id: ConnectionId,
        /// What to write.
        bytes: Bytes,
    },
    /// Drop the TCP connection at once, with a reset; nothing more is said about it.
    Close {
        /// The connection.
        id: ConnectionId,
    },
    /// Something an operator may want to know.
    Event(Event),
}

/// The transports of a connection whose handshake is done.
struct Connection {
    peer: PeerName,
    nickname: String,
    /// There is a key to seal frames with.
    encrypted: bool,
    selector: Selector,
    /// It is the registered connection to that neighbour: frames may use it.
    confirmed: bool,
}

/// What was last told of stations that moved, are in dispute, in conflict or contested.
#[derive(Default)]
struct StationNews {
    /// Moves, disputes, conflicts, contests.
    counts: [u64; 4],
    not_before: Instant,
}

impl Router {
    /// A router without neighbours. The overlays are in order of preference; their names are what
    /// the mesh announces. `seed` is all the randomness it gets: it must be secret and never used
    /// twice.
    pub fn new(
        mut config: mesh::Config,
        switch: Arc<Switch>,
        overlays: Vec<Box<dyn Overlay>>,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        config.overlays = overlays.iter().map(|overlay| overlay.name().to_owned()).collect();
        for overlay in &overlays {
            config.extra_features.extend(overlay.features());
        }
        let mesh = Mesh::new(config, seed, now);
        let wakes = Wakes::new();
        let for_switch = Arc::clone(&wakes);
        switch.on_move(Waker::new(move || for_switch.stations_moved()));
        let mut router = Self {
            routes: mesh.routes(),
            mesh,
            overlays,
            connections: BTreeMap::new(),
            switch,
            table_is_stale: true,
            wakes,
            outputs: VecDeque::new(),
            sweep_at: now + SWEEP_INTERVAL,
            station_news: StationNews::default(),
        };
        router.tell_short_ids();
        router
    }

    /// From now on `waker` is called, from any thread, when [`Self::handle_wakes`] is wanted.
    pub fn on_wake(&self, waker: Waker) {
        self.wakes.on_wake(waker);
    }

    /// The switch that the data threads share.
    pub const fn switch(&self) -> &Arc<Switch> {
        &self.switch
    }

    /// The control plane.
    pub const fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    // Inputs from the driver.

    /// When the next connection may be accepted.
    pub fn accept_allowed_at(&mut self, now: Instant) -> Instant {
        self.mesh.accept_allowed_at(now)
    }

    /// A TCP connection was accepted.
    pub fn handle_accepted(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> ConnectionId {
        self.update(now, |mesh| mesh.handle_accepted(now, local, remote))
    }

    /// An [`Output::Dial`] succeeded.
    pub fn handle_dialled(
        &mut self,
        now: Instant,
        id: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        self.update(now, |mesh| mesh.handle_dialled(now, id, local, remote));
    }

    /// An [`Output::Dial`] failed.
    pub fn handle_dial_failed(&mut self, now: Instant, id: ConnectionId, error: String) {
        self.update(now, |mesh| mesh.handle_dial_failed(now, id, error));
    }

    /// The answer to [`Output::Resolve`]: all addresses of the host.
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        target: &str,
        result: Result<Vec<IpAddr>, String>,
    ) {
        self.update(now, |mesh| mesh.handle_resolved(now, target, result));
    }

    /// TCP delivered these bytes, cut anywhere.
    pub fn handle_bytes(&mut self, now: Instant, id: ConnectionId, bytes: &[u8]) {
        self.update(now, |mesh| mesh.handle_bytes(now, id, bytes));
    }

    /// `len` more bytes of earlier [`Output::Send`]s were written.
    pub fn handle_written(&mut self, now: Instant, id: ConnectionId, len: usize) {
        self.update(now, |mesh| mesh.handle_written(now, id, len));
    }

    /// See [`Mesh::known_sources`].
    pub fn known_sources(&mut self, now: Instant) -> Arc<BTreeSet<mesh::Source>> {
        self.mesh.known_sources(now)
    }

    /// TCP ended: why.
    pub fn handle_closed(&mut self, now: Instant, id: ConnectionId, reason: String) {
        self.update(now, |mesh| mesh.handle_closed(now, id, reason));
    }

    /// The host has lost this address: connections from and to it carry nothing any more.
    pub fn handle_address_gone(&mut self, now: Instant, address: IpAddr) {
        self.update(now, |mesh| mesh.handle_address_gone(now, address));
    }

    /// The waker of [`Self::on_wake`] was called.
    pub fn handle_wakes(&mut self, now: Instant) {
        let (links, moved) = self.wakes.take();
        for id in links {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.selector.handle_wake();
                self.handle_selector(now, id);
            }
        }
        if moved {
            self.invalidate_routes();
            self.tell_station_news(now);
        }
        self.pump(now);
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.mesh.poll_timeout().is_some_and(|at| at <= now) {
            self.mesh.handle_timeout(now);
        }
        if self.sweep_at <= now {
            self.switch.macs().sweep(now);
            self.tell_station_news(now);
            self.sweep_at = now + SWEEP_INTERVAL;
        }
        let due: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                connection.selector.poll_timeout().is_some_and(|at| at <= now)
            })
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.selector.handle_timeout(now);
                self.handle_selector(now, id);
            }
        }
        self.pump(now);
    }

    // The user's wishes.

    /// See [`Mesh::connect`].
    ///
    /// # Errors
    /// The targets that are not written as `host` or `host:port`.
    pub fn connect(
        &mut self,
        now: Instant,
        targets: &[String],
        replace: bool,
    ) -> Result<(), Vec<TargetError>> {
        self.update(now, |mesh| mesh.connect(now, targets, replace))
    }

    /// See [`Mesh::forget`].
    pub fn forget(&mut self, now: Instant, targets: &[String]) {
        self.update(now, |mesh| mesh.forget(now, targets));
    }

    /// Anything else one can ask of the control plane: gossip on a channel of one's own, say.
    pub fn update<T>(&mut self, now: Instant, ask: impl FnOnce(&mut Mesh) -> T) -> T {
        let answer = ask(&mut self.mesh);
        self.pump(now);
        answer
    }

    /// The state of everything.
    pub fn report(&self) -> Report {
        Report {
            mesh: self.mesh.report(),
            links: self
                .connections
                .iter()
                .map(|(&id, connection)| {
                    let selector = &connection.selector;
                    let link = LinkReport {
                        peer: connection.peer,
                        encrypted: connection.encrypted,
                        in_use: selector.in_use(),
                        overlays: selector.report(),
                    };
                    (id, link)
                })
                .collect(),
            switch: self.switch.report(),
            stations: self.switch.macs().entries(),
        }
    }

    // Outputs.

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // A rush leaves no memory behind.
            self.outputs.shrink_to(OUTPUTS_KEPT);
            if std::mem::take(&mut self.table_is_stale) {
                self.publish();
            }
        }
        output
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let links = self.connections.values().filter_map(|c| c.selector.poll_timeout());
        links.chain(self.mesh.poll_timeout()).chain([self.sweep_at]).min()
    }

    // Between mesh, links and switch.

    /// Carries out what the mesh wants of the parts in here, until it wants nothing more.
    fn pump(&mut self, now: Instant) {
        while let Some(output) = self.mesh.poll_output() {
            match output {
                mesh::Output::Dial { id, address } => {
                    self.outputs.push_back(Output::Dial { id, address });
                }
                mesh::Output::Resolve { target, host } => {
                    self.outputs.push_back(Output::Resolve { target, host });
                }
                mesh::Output::Send { id, bytes } => {
                    self.outputs.push_back(Output::Send { id, bytes });
                }
                mesh::Output::Close { id } => self.outputs.push_back(Output::Close { id }),
                mesh::Output::Event(event) => self.tell(Event::Mesh(event)),
                mesh::Output::Prepare(request) => self.prepare(now, &request),
                mesh::Output::Confirm { id } => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.confirmed = true;
                        self.table_is_stale = true;
                        connection.selector.confirm(now);
                        self.handle_selector(now, id);
                    }
                }
                mesh::Output::Control { id, control } => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.selector.handle_control(now, &control);
                        self.handle_selector(now, id);
                    }
                }
                mesh::Output::Stop { id } => {
                    if self.connections.remove(&id).is_some_and(|gone| gone.confirmed) {
                        self.table_is_stale = true;
                    }
                }
                mesh::Output::RoutesChanged(routes) => {
                    self.routes = routes;
                    self.table_is_stale = true;
                }
                mesh::Output::PeersRemoved(peers) => self.switch.macs().remove_peers(&peers),
                mesh::Output::ShortIdsChanged => self.tell_short_ids(),
            }
        }
    }

    fn prepare(&mut self, now: Instant, request: &LinkRequest) {
        let id = request.id;
        let wakes = Arc::clone(&self.wakes);
        let waker = Waker::new(move || wakes.link(id));
        match Selector::prepare(now, &mut self.overlays, request, &waker) {
            Ok(selector) => {
                let connection = Connection {
                    peer: request.remote,
                    nickname: nickname(request),
                    encrypted: request.session_key.is_some(),
                    selector,
                    confirmed: false,
                };
                self.connections.insert(id, connection);
                self.mesh.link_prepared(now, id);
                self.handle_selector(now, id);
            }
            Err(reason) => self.mesh.link_failed(now, id, reason),
        }
    }

    /// Passes on what the transports of a connection have to say.
    fn handle_selector(&mut self, now: Instant, id: ConnectionId) {
        let Some(Connection { peer, nickname, selector, confirmed, .. }) =
            self.connections.get_mut(&id)
        else {
            return;
        };
        while let Some(event) = selector.poll_event() {
            match event {
                SelectorEvent::Control(control) => self.mesh.send_control(now, id, control),
                SelectorEvent::Established => self.mesh.link_established(now, id),
                SelectorEvent::Failed(reason) => self.mesh.link_failed(now, id, reason),
                SelectorEvent::InUse { from, to, reason } => {
                    self.table_is_stale |= *confirmed;
                    let (peer, nickname) = (*peer, nickname.clone());
                    let event = Event::OverlayInUse { id, peer, nickname, from, to, reason };
                    self.outputs.push_back(Output::Event(event));
                }
                SelectorEvent::Lost { name, reason } => {
                    self.table_is_stale |= *confirmed;
                    let (peer, nickname) = (*peer, nickname.clone());
                    let event = Event::OverlayLost { id, peer, nickname, name, reason };
                    self.outputs.push_back(Output::Event(event));
                }
            }
        }
    }

    fn publish(&mut self) {
        let links: Vec<NeighbourLinks> = self
            .connections
            .values()
            .filter(|connection| connection.confirmed)
            .map(|connection| NeighbourLinks {
                name: connection.peer,
                forwarders: connection.selector.forwarders(),
            })
            .collect();
        let routes = Arc::clone(&self.routes);
        self.switch.publish(ForwardingTable::new(self.switch.own(), routes, links));
        // Not before: what is derived anew must come from this table.
        self.invalidate_routes();
    }

    fn tell_short_ids(&mut self) {
        let ids = Arc::new(self.mesh.peers().short_ids().table());
        for overlay in &mut self.overlays {
            overlay.handle_short_ids(&ids);
        }
    }

    fn invalidate_routes(&mut self) {
        for overlay in &mut self.overlays {
            overlay.invalidate_routes();
        }
    }

    /// Tells of moves, disputes, conflicts and contests, if there are any and it is time.
    fn tell_station_news(&mut self, now: Instant) {
        let macs = self.switch.macs();
        let counts =
            [macs.moves(), macs.disputes(), self.switch.conflicts(), self.switch.contests()];
        let news = &mut self.station_news;
        if now < news.not_before || counts == news.counts {
            return;
        }
        let recent = self.switch.recent_events();
        let [moved, disputes, conflicts, contests] =
            std::array::from_fn(|index| counts[index] - news.counts[index]);
        *news = StationNews { counts, not_before: now + STATION_NEWS_INTERVAL };
        if let (count @ 1.., Some((mac, from, to))) = (moved, recent.moved) {
            self.tell(Event::StationsMoved { count, mac, from, to });
        }
        if let (count @ 1.., Some((mac, from, to))) = (disputes, recent.dispute) {
            self.tell(Event::StationsDisputed { count, mac, from, to });
        }
        if let (count @ 1.., Some((mac, known))) = (conflicts, recent.conflict) {
            self.tell(Event::StationConflicts { count, mac, known });
        }
        if let (count @ 1.., Some((mac, known, from))) = (contests, recent.contest) {
            self.tell(Event::StationsContested { count, mac, known, from });
        }
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// What the neighbour calls itself, for the log.
fn nickname(request: &LinkRequest) -> String {
    request.remote_features.get("NickName").cloned().unwrap_or_default()
}
