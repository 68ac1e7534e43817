//! The address allocator of this router: what it says is stored, then sent and answered.
//!
//! ```text
//!   HTTP ──ask──▶ Ipam ──▶ driver task ──▶ IpamService: Allocator ──Store──▶ State (on the disk)
//!                                            ▲        └──then──▶ mesh, answers, log
//!   mesh ──────────── channel ───────────────┘
//! ```
//!
//! All of it happens on the task of the driver, one thing after the other, and waits there for the
//! disk: nothing is said that a router killed in that moment would have forgotten.

mod channel;
mod foresight;
mod probing;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use weave_core::driver::{Handle, Stopped};
use weave_core::mesh::PeerName;
use weave_core::router::Router;
use weave_core::time::Instant;
use weave_ipam::allocator::{Answer, Found, Output, Report, RequestError, RequestId, Update};
use weave_ipam::message::{CHANNEL, Holding};
use weave_ipam::{Allocator, Cidr, Config, Label, Subnet};

use crate::events::{Event, EventSender};
use crate::store::{StateError, Store};
use channel::{Everything, IpamChannel};
pub use settings::{Settings, origin};

/// Requests that wait at one time for the ring or for other peers. More clients of one host than it
/// has containers do not wait for good reasons.
pub(crate) const MAX_WAITING: usize = 256;

/// How long a disk that failed is left alone: each attempt reads all of the file.
const RETRY: Duration = Duration::from_secs(1);

/// What a request came to; the error is that there is no answer.
type Answered = Result<Result<Answer, RequestError>, NoAnswer>;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the router is stopping")]
    Stopped,
    #[error("{MAX_WAITING} requests wait for addresses already: try again later")]
    Crowded,
    #[error("no addresses are given out: {0}; it is tried again every 5 s")]
    Unstored(String),
}

impl From<Stopped> for NoAnswer {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// A holder of addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) cidrs: Vec<Cidr>,
    pub(crate) presence: Presence,
    /// What it is to those who run it, such as `default/web-0`.
    pub(crate) label: Option<Label>,
}

/// What is known of a holder's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    /// Its interface is on this host. Its addresses come back some time after that has gone.
    Here,
    /// Its interface is gone, and so are its addresses soon.
    Ended,
    /// It keeps its addresses until they are given back.
    Unwatched,
}

impl Presence {
    /// As users see it.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Ended => "ended",
            Self::Unwatched => "unwatched",
        }
    }
}

/// The allocator, for the HTTP interface. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ipam {
    service: Arc<Mutex<IpamService>>,
    handle: Handle,
    default_subnet: Subnet,
    /// For those who are not answered at once.
    places: Arc<Semaphore>,
}

/// The allocator, with those who wait for it.
pub(crate) struct IpamService {
    allocator: Allocator,
    name: PeerName,
    state: Arc<dyn Store>,
    waiting: BTreeMap<RequestId, oneshot::Sender<Answered>>,
    next: u64,
    /// What could not be stored. Until it is, nothing is said.
    unstored: Update,
    /// Why it could not be stored.
    fault: Option<String>,
    /// When that was tried last.
    tried: std::time::Instant,
    /// Addresses that may be in use somewhere on the switch, and until somebody asks, the other
    /// end.
    probes: mpsc::Sender<Ipv4Addr>,
    questions: Option<mpsc::Receiver<Ipv4Addr>>,
    /// Where changes are told that are stored.
    events: EventSender,
    /// What holders had when that was told last.
    told: BTreeMap<String, Vec<Cidr>>,
    /// Containers that ended, as told.
    ended: BTreeSet<String>,
}

/// Something for the mesh.
enum Message {
    Unicast(PeerName, Bytes),
    Broadcast,
}

impl IpamService {
    /// Begins with what was stored and found.
    pub(crate) fn open(
        config: Config,
        state: &Arc<dyn Store>,
        found: Vec<Found>,
        seed: [u8; 32],
        now: Instant,
        events: EventSender,
    ) -> Result<Arc<Mutex<Self>>, StateError> {
        let name = config.name;
        let stored = state.ipam(name, config.universe.range())?;
        let holdings = stored.holdings.iter();
        let told = holdings.map(|(holder, held)| (holder.clone(), held.cidrs.clone())).collect();
        let mut allocator = Allocator::new(config, stored, found, seed, now);
        allocator.be_careful();
        let (probes, questions) = mpsc::channel(MAX_WAITING);
        let mut service = Self {
            allocator,
            name,
            state: Arc::clone(state),
            waiting: BTreeMap::new(),
            next: 0,
            unstored: Update::default(),
            fault: state.fault(),
            tried: std::time::Instant::now(),
            probes,
            questions: Some(questions),
            events,
            told,
            ended: BTreeSet::new(),
        };
        // There is nobody to hear of it yet; new neighbours are told everything.
        service.flush_outputs();
        Ok(Arc::new(Mutex::new(service)))
    }

    /// Takes part in the gossip of the mesh.
    pub(crate) fn join(service: &Arc<Mutex<Self>>, router: &mut Router, now: Instant) {
        let channel = Box::new(IpamChannel::new(Arc::clone(service)));
        router.update(now, |mesh| mesh.add_channel(CHANNEL, channel));
    }

    /// Stores what changed, and then says what is to be said. Returns what is for the mesh.
    fn flush_outputs(&mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        while let Some(output) = self.allocator.poll_output() {
            match output {
                Output::Store(later) => self.unstored.append(later),
                other => rest.push(other),
            }
        }
        let mut messages = Vec::new();
        match self.store() {
            Stored::InOrder => {}
            Stored::Again => messages.push(Message::Broadcast),
            Stored::Failed(fault) => {
                for (_, waiting) in std::mem::take(&mut self.waiting) {
                    // Who is not there any more needs no reason.
                    let _unwanted = waiting.send(Err(NoAnswer::Unstored(fault.clone())));
                }
                // What is asked for and told in vain comes again.
                rest.retain(|output| matches!(output, Output::Event(_) | Output::Probe(_)));
            }
        }
        for output in rest {
            match output {
                Output::Store(_) => {}
                Output::Unicast { to, payload } => messages.push(Message::Unicast(to, payload)),
                Output::Broadcast => messages.push(Message::Broadcast),
                Output::Answer { request, answer } => {
                    if let Some(waiting) = self.waiting.remove(&request) {
                        // Nobody waits any more: then nobody misses the answer.
                        let _unwanted = waiting.send(Ok(answer));
                    }
                }
                // If there are too many, the allocator goes on without an answer.
                Output::Probe(address) => drop(self.probes.try_send(address)),
                Output::Event(event) => {
                    let name = self.name;
                    if event.is_warning() {
                        tracing::warn!("[allocator {name}] {event}");
                    } else {
                        tracing::info!("[allocator {name}] {event}");
                    }
                }
            }
        }
        messages
    }

    /// Stores what is not stored yet.
    fn store(&mut self) -> Stored {
        // Something else that the router stores may have failed.
        if self.fault.is_none() {
            self.fault = self.state.fault();
        }
        if self.unstored.is_empty() && self.fault.is_none() {
            return Stored::InOrder;
        }
        if let Some(fault) = &self.fault
            && self.tried.elapsed() < RETRY
        {
            return Stored::Failed(fault.clone());
        }
        self.tried = std::time::Instant::now();
        match self.state.update_ipam(&self.unstored) {
            Ok(()) => {
                let stored = std::mem::take(&mut self.unstored);
                self.tell_changes(&stored);
                match self.fault.take() {
                    None => Stored::InOrder,
                    Some(_) => {
                        tracing::info!("[allocator {}] addresses are given out again", self.name);
                        Stored::Again
                    }
                }
            }
            Err(error) => {
                let fault = error.to_string();
                if self.fault.as_ref() != Some(&fault) {
                    tracing::error!(
                        "[allocator {}] {fault}: no addresses are given out until it can; it is tried \
                         every 5 s",
                        self.name
                    );
                }
                self.fault = Some(fault.clone());
                Stored::Failed(fault)
            }
        }
    }

    /// Tells what a stored change gave to holders, and took from them.
    fn tell_changes(&mut self, update: &Update) {
        let mut before = BTreeMap::new();
        if update.clear {
            before = std::mem::take(&mut self.told);
        }
        for (holder, holding) in &update.holdings {
            let holding = holding.as_deref().and_then(|bytes| Holding::decode(bytes).ok());
            let cidrs = holding.map(|holding| holding.cidrs).unwrap_or_default();
            if let Some(had) = self.told.remove(holder) {
                before.insert(holder.clone(), had);
            }
            let had = before.entry(holder.clone()).or_default();
            for &cidr in cidrs.iter().filter(|cidr| !had.contains(cidr)) {
                self.events.send(Event::AddressGiven { holder: holder.clone(), cidr });
            }
            had.retain(|cidr| !cidrs.contains(cidr));
            if !cidrs.is_empty() {
                self.told.insert(holder.clone(), cidrs);
            }
        }
        for (holder, cidrs) in before {
            for cidr in cidrs {
                self.events.send(Event::AddressReturned { holder: holder.clone(), cidr });
            }
        }
    }

    /// Tells which containers ended since this was told last.
    fn tell_ended(&mut self) {
        let containers = self.allocator.containers().filter(|name| self.allocator.has_ended(name));
        let ended: BTreeSet<String> = containers.map(ToOwned::to_owned).collect();
        for holder in ended.difference(&self.ended) {
            self.events.send(Event::ContainerEnded(holder.clone()));
        }
        self.ended = ended;
    }

    /// Whether all that is known is stored, so that something can be said.
    fn is_mute(&self) -> bool {
        self.fault.is_some()
    }
}

/// What became of the changes.
enum Stored {
    InOrder,
    /// After they could not be for a while.
    Again,
    Failed(String),
}

fn lock(service: &Mutex<IpamService>) -> MutexGuard<'_, IpamService> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with the allocator, and with the mesh what that wants.
fn act<T>(
    service: &Arc<Mutex<IpamService>>,
    router: &mut Router,
    now: Instant,
    act: impl FnOnce(&mut IpamService, Instant) -> T,
) -> T {
    let targets = router.mesh().targets().count();
    let (result, messages) = {
        let mut service = lock(service);
        service.allocator.set_targets(targets);
        let result = act(&mut service, now);
        (result, service.flush_outputs())
    };
    for message in messages {
        router.update(now, |mesh| match message {
            Message::Unicast(to, payload) => mesh.unicast(now, CHANNEL, to, payload),
            Message::Broadcast => mesh.broadcast(now, CHANNEL, Everything::of(service)),
        });
    }
    result
}

impl Ipam {
    pub(crate) fn new(
        service: Arc<Mutex<IpamService>>,
        handle: Handle,
        default_subnet: Subnet,
    ) -> Self {
        Self { service, handle, default_subnet, places: Arc::new(Semaphore::new(MAX_WAITING)) }
    }

    /// Where addresses come from if no subnet is named.
    pub(crate) const fn default_subnet(&self) -> Subnet {
        self.default_subnet
    }

    /// The state of the allocator.
    pub(crate) fn report(&self) -> Report {
        lock(&self.service).allocator.report()
    }

    /// What a holder has in a subnet.
    pub(crate) fn held(&self, holder: &str, subnet: Subnet) -> Vec<Cidr> {
        lock(&self.service).allocator.held(holder, subnet)
    }

    /// All holders and what they have.
    pub(crate) fn holders(&self) -> Vec<Holder> {
        let allocator = &lock(&self.service).allocator;
        let holder = |(name, cidrs): (&str, &[Cidr])| Holder {
            name: name.to_owned(),
            cidrs: cidrs.to_vec(),
            label: allocator.label(name).cloned(),
            presence: match (allocator.is_container(name), allocator.has_ended(name)) {
                (false, _) => Presence::Unwatched,
                (true, false) => Presence::Here,
                (true, true) => Presence::Ended,
            },
        };
        allocator.holders().map(holder).collect()
    }

    /// See [`Allocator::allocate`]. Waits as long as it takes; who drops the future gets nothing.
    pub(crate) async fn allocate(
        &self,
        holder: String,
        subnet: Subnet,
        is_container: bool,
        label: Option<Label>,
    ) -> Answered {
        self.ask(move |allocator, now, request| {
            if let Some(label) = label {
                allocator.describe(now, &holder, label);
            }
            allocator.allocate(now, request, &holder, subnet, is_container);
        })
        .await
    }

    /// See [`Allocator::claim`].
    pub(crate) async fn claim(
        &self,
        holder: String,
        cidr: Cidr,
        is_container: bool,
        lenient: bool,
        label: Option<Label>,
    ) -> Answered {
        self.ask(move |allocator, now, request| {
            if let Some(label) = label {
                allocator.describe(now, &holder, label);
            }
            allocator.claim(now, request, &holder, cidr, is_container, lenient);
        })
        .await
    }

    /// Waits until there is a ring.
    pub(crate) async fn prime(&self) -> Answered {
        self.ask(|allocator, now, request| allocator.prime(now, request)).await
    }

    /// See [`Allocator::release_all`].
    pub(crate) async fn release_all(
        &self,
        holder: String,
    ) -> Result<Result<(), RequestError>, Stopped> {
        self.with(move |allocator, now| allocator.release_all(now, &holder)).await
    }

    /// See [`Allocator::release`].
    pub(crate) async fn release(
        &self,
        holder: String,
        address: Ipv4Addr,
    ) -> Result<Result<(), RequestError>, Stopped> {
        self.with(move |allocator, now| allocator.release(now, &holder, address)).await
    }

    /// See [`Allocator::take_over`]; none if the peer is in reach. Its containers have what it
    /// owns, and it would not give that up.
    pub(crate) async fn take_over(&self, peer: String) -> Result<Option<u32>, Stopped> {
        self.with(move |allocator, now| {
            (!allocator.reaches(&peer)).then(|| allocator.take_over(now, &peer))
        })
        .await
    }

    /// See [`Allocator::give_in`].
    pub(crate) async fn give_in(&self, peer: String) -> Result<bool, Stopped> {
        self.with(move |allocator, now| allocator.give_in(now, &peer)).await
    }

    /// Asks on this bridge for addresses that may be in use, from now on.
    pub(crate) fn ask_on(
        &self,
        bridge: Option<String>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let questions = lock(&self.service).questions.take()?;
        Some(probing::ask(self.clone(), bridge, questions))
    }

    /// See [`Allocator::handle_probed`].
    async fn probed(&self, address: Ipv4Addr, in_use: bool) -> Result<(), Stopped> {
        self.with(move |allocator, now| allocator.handle_probed(now, address, in_use)).await
    }

    /// Whether a network namespace has addresses.
    pub(crate) fn has_containers(&self) -> bool {
        lock(&self.service).allocator.containers().next().is_some()
    }

    /// Whether one has that is none of these.
    pub(crate) fn has_containers_beside(&self, there: &BTreeSet<String>) -> bool {
        lock(&self.service).allocator.containers().any(|holder| !there.contains(holder))
    }

    /// See [`Allocator::look_after`]; these are there.
    pub(crate) async fn reap(&self, there: BTreeSet<String>) -> Result<(), Stopped> {
        let service = Arc::clone(&self.service);
        self.with(move |allocator, now| allocator.look_after(now, |holder| there.contains(holder)))
            .await?;
        lock(&service).tell_ended();
        Ok(())
    }

    /// See [`Allocator::shut_down`].
    pub(crate) async fn shut_down(&self) -> Result<(), Stopped> {
        self.with(|allocator, now| allocator.shut_down(now)).await
    }

    /// The number of targets changed, by which the quorum goes.
    pub(crate) async fn targets_changed(&self) -> Result<(), Stopped> {
        self.with(|_, _| ()).await
    }

    async fn with<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Allocator, Instant) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let service = Arc::clone(&self.service);
        self.handle
            .with(move |router, now| {
                act(&service, router, now, |service, now| ask(&mut service.allocator, now))
            })
            .await
    }

    async fn ask(
        &self,
        ask: impl FnOnce(&mut Allocator, Instant, RequestId) + Send + 'static,
    ) -> Answered {
        let (answer, mut answered) = oneshot::channel();
        let request = {
            let mut service = lock(&self.service);
            if service.is_mute()
                && let Stored::Failed(fault) = service.store()
            {
                // Before anything is taken that could not be kept.
                return Err(NoAnswer::Unstored(fault));
            }
            service.next += 1;
            let request = RequestId(service.next);
            service.waiting.insert(request, answer);
            request
        };
        let _cancelled = Cancel { service: &self.service, request };
        self.with(move |allocator, now| ask(allocator, now, request)).await?;
        // However many there are: who need not wait is not refused.
        match answered.try_recv() {
            Ok(answer) => return answer,
            Err(TryRecvError::Closed) => return Err(NoAnswer::Stopped),
            Err(TryRecvError::Empty) => {}
        }
        let _place = self.places.try_acquire().map_err(|_| NoAnswer::Crowded)?;
        answered.await.unwrap_or(Err(NoAnswer::Stopped))
    }
}

/// Cancels a request when nobody waits for its answer any more.
struct Cancel<'a> {
    service: &'a Mutex<IpamService>,
    request: RequestId,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        let mut service = lock(self.service);
        service.waiting.remove(&self.request);
        service.allocator.cancel(self.request);
    }
}
