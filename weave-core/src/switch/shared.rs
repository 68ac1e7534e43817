//! What control plane and data threads share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::counters::{SwitchReport, WorkerCounters};
use super::decision::{self, Addresses, Arrival, Decision, DropCause};
use super::mac_table::{Learned, MacTable};
use super::table::ForwardingTable;
use super::{Waker, WorkerId};
use crate::mesh::PeerName;
use crate::time::Instant;
use crate::wire::MacAddress;

/// The learning switch of one router: the published forwarding table, the stations known, and
/// what the data threads count.
///
/// The control plane publishes tables, data threads make a [`Worker`](super::Worker) each and
/// pass frames through it.
pub struct Switch {
    own: PeerName,
    table: ArcSwap<ForwardingTable>,
    macs: MacTable,
    /// Called when a station changed its peer.
    on_move: OnceLock<Waker>,
    conflicts: AtomicU64,
    contests: AtomicU64,
    /// What is worth a line in the log; written on rare paths only, and never waited for.
    recent_events: Mutex<RecentEvents>,
    workers: Mutex<Workers>,
}

/// The last of the events that are counted, as an example for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecentEvents {
    /// A station that changed its peer: address, from, to.
    pub moved: Option<(MacAddress, PeerName, PeerName)>,
    /// A station whose place came into dispute: address, where it was, where it is said to be.
    pub dispute: Option<(MacAddress, PeerName, PeerName)>,
    /// A captured frame whose source was just heard behind another peer.
    pub conflict: Option<(MacAddress, PeerName)>,
    /// A frame that another peer sent for a station that it does not have: address, where the
    /// station is, that peer.
    pub contest: Option<(MacAddress, PeerName, PeerName)>,
}

/// There are [`WorkerId::MAX`] workers already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a router cannot have more than {} data threads", WorkerId::MAX)]
pub struct TooManyWorkers;

#[derive(Default)]
struct Workers {
    /// By number; `None` where the thread has ended.
    active: Vec<Option<Arc<WorkerCounters>>>,
    /// What ended threads have counted.
    ended: SwitchReport,
}

impl Switch {
    /// A switch without routes. The seed should be random.
    pub fn new(own: PeerName, seed: u64) -> Self {
        Self {
            own,
            table: ArcSwap::from_pointee(ForwardingTable::isolated(own)),
            macs: MacTable::new(seed),
            on_move: OnceLock::new(),
            conflicts: AtomicU64::new(0),
            contests: AtomicU64::new(0),
            recent_events: Mutex::default(),
            workers: Mutex::default(),
        }
    }

    /// From now on `waker` is called when stations changed their peers: what was derived from
    /// decisions must then be forgotten. Can be set once; later calls have no effect.
    pub fn on_move(&self, waker: Waker) {
        // Whoever came first keeps it.
        let _already_set = self.on_move.set(waker);
    }

    /// The peer whose switch this is.
    pub const fn own(&self) -> PeerName {
        self.own
    }

    /// The table in force. A decision borrows from it, and so stays whole while the next one is
    /// being published.
    pub fn table(&self) -> Guard<Arc<ForwardingTable>> {
        self.table.load()
    }

    /// Replaces the table.
    pub fn publish(&self, table: ForwardingTable) {
        self.table.store(Arc::new(table));
    }

    /// The stations known.
    pub const fn macs(&self) -> &MacTable {
        &self.macs
    }

    /// Where a frame captured on the local bridge goes, by this table.
    ///
    /// # Errors
    /// Nowhere; why.
    pub fn captured<'t>(
        &self,
        table: &'t ForwardingTable,
        now: Instant,
        addresses: Addresses,
    ) -> Result<Decision<'t>, DropCause> {
        let decision = decision::captured(table, &self.macs, now, addresses);
        match decision {
            Ok(decision) => self.note_move(decision.learned, addresses, self.own),
            Err(DropCause::Conflict) => {
                self.conflicts.fetch_add(1, Ordering::Relaxed);
                if let (Ok(mut recent_events), Some(known)) =
                    (self.recent_events.try_lock(), self.macs.lookup(addresses.source))
                {
                    recent_events.conflict = Some((addresses.source, known));
                }
            }
            Err(_) => {}
        }
        decision
    }

    /// Where a frame received from a neighbour goes, by this table.
    ///
    /// # Errors
    /// Nowhere; why.
    pub fn received<'t>(
        &self,
        table: &'t ForwardingTable,
        now: Instant,
        arrival: Arrival,
        addresses: Addresses,
    ) -> Result<Decision<'t>, DropCause> {
        let decision = decision::received(table, &self.macs, now, arrival, addresses);
        match decision {
            Ok(decision) => self.note_move(decision.learned, addresses, arrival.source),
            Err(DropCause::Contested) => self.note_contest(addresses.source, arrival.source),
            Err(_) => {}
        }
        decision
    }

    /// Decides as [`Self::captured`] would for further frames with these addresses, without
    /// learning.
    ///
    /// # Errors
    /// Fails with the reason for which such frames are dropped.
    pub fn peek_captured<'t>(
        &self,
        table: &'t ForwardingTable,
        addresses: Addresses,
    ) -> Result<Decision<'t>, DropCause> {
        decision::peek_captured(table, &self.macs, addresses)
    }

    /// Decides as [`Self::received`] would for further frames like this one, without learning.
    ///
    /// # Errors
    /// Fails with the reason for which such frames are dropped.
    pub fn peek_received<'t>(
        &self,
        table: &'t ForwardingTable,
        arrival: Arrival,
        addresses: Addresses,
    ) -> Result<Decision<'t>, DropCause> {
        decision::peek_received(table, &self.macs, arrival, addresses)
    }

    /// Learns that a station is behind a peer, which may be this one, from frames that the kernel
    /// has carried and the router has not seen. Returns whether that is where the station is; if
    /// not, the kernel has learnt what it should forget.
    pub fn refresh_station(&self, now: Instant, station: MacAddress, peer: PeerName) -> bool {
        let learned = if peer == self.own {
            self.macs.learn_captured(now, station, peer)
        } else {
            self.macs.learn_received(now, station, peer, self.own)
        };
        let addresses = Addresses { source: station, destination: MacAddress::ZERO };
        match learned {
            Ok(learned) => {
                self.note_move(learned, addresses, peer);
                learned.is_certain()
            }
            Err(_) if peer == self.own => false,
            Err(_) => {
                self.note_contest(station, peer);
                false
            }
        }
    }

    /// Frames captured so far whose source was just heard behind another peer.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Frames that other peers have sent so far for stations that are not theirs.
    pub fn contests(&self) -> u64 {
        self.contests.load(Ordering::Relaxed)
    }

    /// The last move, the last conflict and the last contest.
    pub fn recent_events(&self) -> RecentEvents {
        *self.recent_events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sums over all data threads.
    pub fn report(&self) -> SwitchReport {
        let workers = self.workers();
        let mut report = workers.ended.clone();
        for counters in workers.active.iter().flatten() {
            counters.add_to(&mut report);
        }
        report.stations = self.macs.len();
        report.moves = self.macs.moves();
        report.disputes = self.macs.disputes();
        report.contests = self.contests();
        report.evictions = self.macs.evictions();
        report
    }

    pub(super) fn register(&self) -> Result<(WorkerId, Arc<WorkerCounters>), TooManyWorkers> {
        let mut workers = self.workers();
        let free = workers.active.iter().position(Option::is_none);
        let number = free.unwrap_or(workers.active.len());
        let id = WorkerId::new(number).ok_or(TooManyWorkers)?;
        let counters = Arc::new(WorkerCounters::default());
        match workers.active.get_mut(number) {
            Some(place) => *place = Some(counters.clone()),
            None => workers.active.push(Some(counters.clone())),
        }
        Ok((id, counters))
    }

    pub(super) fn unregister(&self, id: WorkerId) {
        let mut workers = self.workers();
        let counters = workers.active.get_mut(id.get()).and_then(Option::take);
        if let Some(counters) = counters {
            counters.add_to(&mut workers.ended);
        }
    }

    fn note_contest(&self, station: MacAddress, from: PeerName) {
        self.contests.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut recent_events) = self.recent_events.try_lock() {
            let known = self.macs.lookup(station).unwrap_or(self.own);
            recent_events.contest = Some((station, known, from));
        }
    }

    fn note_move(&self, learned: Learned, addresses: Addresses, to: PeerName) {
        let station = addresses.source;
        let note = |recent: &mut RecentEvents| match learned {
            Learned::Moved { from } => recent.moved = Some((station, from, to)),
            Learned::Disputed { from } => recent.dispute = Some((station, from, to)),
            Learned::Known | Learned::New | Learned::Unsettled | Learned::Settled => {}
        };
        if let Learned::Moved { .. } | Learned::Disputed { .. } | Learned::Settled = learned {
            if let Ok(mut recent_events) = self.recent_events.try_lock() {
                note(&mut recent_events);
            }
            if let Some(waker) = self.on_move.get() {
                waker.wake();
            }
        }
    }

    /// Counters that a panic left half added are no reason to stop.
    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch")
            .field("own", &self.own)
            .field("table", &*self.table())
            .field("stations", &self.macs.len())
            .finish_non_exhaustive()
    }
}
