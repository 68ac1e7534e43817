//! What a liar must not be able to bring about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use weave_core::mesh::{ConnectionError, Event, Peer};
use weave_core::router;
use weave_core::sim::HostId;
use weave_core::time::Instant;

use crate::liar::Spent;
use crate::world::World;

/// A link between honest routers may be exchanged for another one, which takes a moment.
const EXCHANGE: Duration = Duration::from_secs(1);
/// Messages that a router deals with in a second, of one liar: an eighth of the time of a
/// processor, and what it had saved up, at the price of the cheapest message of which there are
/// many.
const MAX_DEALT_WITH: u64 = 25_000;
/// Bytes that wait for one peer: unicasts that are relayed, which are no more than all liars say,
/// and what is said while that is little.
const MAX_UNSENT: usize = 900_000;
/// From one count of what was said to the next.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Something a liar must not be able to bring about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Invariant {
    /// Before anybody lies the mesh forms.
    Forms,
    /// Connections between honest routers stay up.
    StaysConnected,
    /// Nobody holds against a neighbour what that has only passed on.
    BlamesNobodyElse,
    /// Records of honest peers become equal everywhere, and right.
    RecordsConverge,
    /// What everybody is told everybody hears once.
    BroadcastOnce,
    /// A unicast is passed on a few times at most.
    NoUnicastCircles,
    /// So is a frame.
    NoFrameCircles,
    /// No address is given to two containers of honest hosts, if none but honest hosts had it, and
    /// none that a container has is let go of.
    ///
    /// Not so for addresses that a liar was given, or told the first ring of: see
    /// [`Truth::is_honest`](crate::truth::Truth::is_honest) and
    /// [`Division`](crate::plan::Division).
    AddressesAreUnique,
    /// What honest routers say for each lie is bounded.
    WorkIsBounded,
    /// What waits to be sent is bounded.
    MemoryIsBounded,
    /// Once the liars are gone nothing is left of them.
    Recovers,
    /// No router ends by what it hears.
    NeverPanics,
}

/// An invariant was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When, and how.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.text)
    }
}

/// Looks at a world again and again.
pub struct Inspector {
    begun: Instant,
    seen_events: BTreeMap<HostId, usize>,
    /// Pairs that have to stay connected, and since when they are not.
    pairs: BTreeMap<(HostId, HostId), Option<Instant>>,
    base: Sums,
    /// Messages that a router has dealt with, at the last count.
    dealt_with: BTreeMap<HostId, u64>,
    counted_at: Instant,
}

/// What honest routers have done, and liars.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    at: Option<Instant>,
    messages: u64,
    relayed: u64,
    frames: u64,
    spent: Spent,
    overheard: u64,
}

impl Inspector {
    /// Looks at what comes from now on.
    pub fn new(world: &World) -> Self {
        let seen = world.honest.iter().map(|host| (*host, world.net.events(*host).len()));
        Self {
            begun: world.net.now(),
            seen_events: seen.collect(),
            pairs: BTreeMap::new(),
            base: Sums::of(world),
            dealt_with: BTreeMap::new(),
            counted_at: world.net.now(),
        }
    }

    /// From now on honest routers that are connected have to stay so.
    pub fn expect_calm(&mut self, world: &World) {
        for (at, a) in world.honest.iter().enumerate() {
            for b in &world.honest[at + 1..] {
                if world.connected(*a, *b) {
                    self.pairs.insert((*a, *b), None);
                }
            }
        }
        self.skip_events(world);
    }

    /// Accidents are about to happen: connections may end.
    pub fn expect_accidents(&mut self) {
        self.pairs.clear();
    }

    /// Counts work from here on.
    pub fn restart_counts(&mut self, world: &World) {
        self.base = Sums::of(world);
    }

    fn skip_events(&mut self, world: &World) {
        for host in &world.honest {
            self.seen_events.insert(*host, world.net.events(*host).len());
        }
    }

    /// What must be so at any time.
    ///
    /// # Errors
    /// What is not.
    pub fn look(&mut self, world: &mut World) -> Result<(), Violation> {
        self.addresses_are_unique(world)?;
        self.stays_connected(world)?;
        self.blames_nobody_else(world)?;
        if world.net.now().saturating_since(self.counted_at) < COUNT_INTERVAL {
            return Ok(());
        }
        self.counted_at = world.net.now();
        self.work_is_bounded(world)
    }

    fn violation(&self, world: &World, invariant: Invariant, text: &str) -> Violation {
        let at = world.net.now().saturating_since(self.begun);
        Violation { invariant, text: format!("after {:.1} s: {text}", at.as_secs_f64()) }
    }

    fn addresses_are_unique(&self, world: &mut World) -> Result<(), Violation> {
        for (holder, address) in world.take_given() {
            if let Some(other) = world.given.insert(address, holder.clone())
                && other != holder
                && world.truth.is_honest(address)
            {
                let address = std::net::Ipv4Addr::from_bits(address);
                let text = format!("{address} was given to {other} and to {holder}");
                return Err(self.violation(world, Invariant::AddressesAreUnique, &text));
            }
        }
        for (host, tenants) in world.tenants() {
            if let Some((holder, address)) = tenants.lost() {
                let address = std::net::Ipv4Addr::from_bits(address);
                let text = format!("{host:?} let go of {address}, which {holder} has");
                return Err(self.violation(world, Invariant::AddressesAreUnique, &text));
            }
        }
        Ok(())
    }

    fn stays_connected(&mut self, world: &World) -> Result<(), Violation> {
        let now = world.net.now();
        for ((a, b), since) in &mut self.pairs {
            if world.connected(*a, *b) {
                *since = None;
                continue;
            }
            let lasts = now.saturating_since(*since.get_or_insert(now));
            if lasts > EXCHANGE {
                let text = format!("{a:?} and {b:?} are not connected any more");
                return Err(self.violation(world, Invariant::StaysConnected, &text));
            }
        }
        Ok(())
    }

    fn blames_nobody_else(&mut self, world: &World) -> Result<(), Violation> {
        let names = world.honest_names();
        for host in &world.honest {
            let events = world.net.events(*host);
            let seen = self.seen_events.insert(*host, events.len()).unwrap_or(0);
            for event in events.get(seen..).unwrap_or_default() {
                let router::Event::Mesh(Event::ConnectionEnded {
                    peer: Some(peer),
                    address,
                    error,
                    ..
                }) = event
                else {
                    continue;
                };
                let honest = names.contains(peer)
                    && world.honest.iter().any(|h| world.net.address(*h).ip() == address.ip());
                if honest && is_blame(error, !self.pairs.is_empty()) {
                    let text = format!("{host:?} ends its connection to {peer}: {error}");
                    return Err(self.violation(world, Invariant::BlamesNobodyElse, &text));
                }
            }
        }
        Ok(())
    }

    fn work_is_bounded(&mut self, world: &World) -> Result<(), Violation> {
        let now = Sums::of(world);
        let seconds = self.base.at.map_or(0, |at| world.net.now().saturating_since(at).as_secs());
        let hosts = world.honest.len() as u64;
        let spent = |of: fn(&Spent) -> u64| of(&now.spent) - of(&self.base.spent);
        // What the routers of liars say, changed or not.
        let overheard = now.overheard.saturating_sub(self.base.overheard);

        let relayed = now.relayed.saturating_sub(self.base.relayed);
        let unicasts = spent(|spent| spent.unicasts) + overheard;
        if relayed > 2_000 + 40 * seconds + 2 * hosts * unicasts {
            let text = format!("{relayed} unicasts passed on for {unicasts}");
            return Err(self.violation(world, Invariant::NoUnicastCircles, &text));
        }
        let frames = now.frames.saturating_sub(self.base.frames);
        let sent = spent(|spent| spent.frames);
        if frames > 1_000 + 40 * seconds + 4 * hosts * sent {
            let text = format!("{frames} frames sent for {sent}");
            return Err(self.violation(world, Invariant::NoFrameCircles, &text));
        }
        let messages = now.messages.saturating_sub(self.base.messages);
        let said = spent(|spent| spent.messages) + overheard;
        if messages > 10_000 + 100 * hosts * (1 + seconds) + 8 * hosts * said {
            let text = format!("{messages} messages from honest routers for {said}");
            return Err(self.violation(world, Invariant::WorkIsBounded, &text));
        }
        for host in &world.honest {
            let Some(router) = world.net.router(*host) else { continue };
            let report = router.mesh().report();
            let received = report.counters.messages_received;
            let before = self.dealt_with.insert(*host, received).unwrap_or(received);
            let dealt_with = received.saturating_sub(before);
            if dealt_with > MAX_DEALT_WITH * world.liars.len().max(1) as u64 {
                let text = format!("{host:?} deals with {dealt_with} messages in a second");
                return Err(self.violation(world, Invariant::WorkIsBounded, &text));
            }
            let unsent = report.connections.iter().map(|c| c.unsent).max().unwrap_or(0);
            if unsent > MAX_UNSENT {
                let text = format!("{unsent} bytes wait for one peer at {host:?}");
                return Err(self.violation(world, Invariant::MemoryIsBounded, &text));
            }
        }
        Ok(())
    }

    /// Whether all honest peers of a group know each other's records as they are.
    ///
    /// # Errors
    /// What is not so.
    pub fn records_agree(world: &World) -> Result<(), String> {
        for group in world.groups() {
            for owner in &group {
                let Some(router) = world.net.router(*owner) else { continue };
                let right = router.mesh().peers().own();
                for other in group.iter().filter(|other| *other != owner) {
                    let Some(router) = world.net.router(*other) else { continue };
                    match router.mesh().peers().get(right.name) {
                        Some(known) if known == right => {}
                        Some(known) => {
                            return Err(format!(
                                "{other:?} has version {} of {owner:?}, whose is {}; equal links: \
                                 {}",
                                known.version,
                                right.version,
                                known.connections == right.connections
                            ));
                        }
                        None => return Err(format!("{other:?} does not know {owner:?}")),
                    }
                }
            }
        }
        Ok(())
    }

    /// What honest hosts know of honest peers.
    pub fn records(world: &World) -> Vec<Peer> {
        let names = world.honest_names();
        let routers = world.honest.iter().filter_map(|host| world.net.router(*host));
        let known = routers.flat_map(|router| {
            let peers = router.mesh().peers();
            names.iter().filter_map(|name| peers.get(*name).cloned())
        });
        known.collect()
    }

    /// Whether those honest hosts heard something once, and the others of the group not at all.
    ///
    /// # Errors
    /// Who did not.
    pub fn heard_once(
        group: &BTreeSet<HostId>,
        from: HostId,
        times: impl Fn(HostId) -> usize,
    ) -> Result<(), String> {
        for host in group {
            let (times, expected) = (times(*host), usize::from(*host != from));
            if times != expected {
                return Err(format!("{host:?} got {times} copies of what {from:?} told everybody"));
            }
        }
        Ok(())
    }
}

impl Sums {
    fn of(world: &World) -> Self {
        let mut sums = Self { at: Some(world.net.now()), spent: world.spent(), ..Self::default() };
        for host in &world.honest {
            sums.frames += world.net.frames_sent(*host);
            let Some(router) = world.net.router(*host) else { continue };
            let counters = router.mesh().report().counters;
            sums.messages += counters.messages_sent;
            sums.relayed += counters.unicasts_relayed;
        }
        for liar in &world.liars {
            let Some(router) = world.net.router(liar.host()) else { continue };
            sums.overheard += router.mesh().report().counters.messages_sent;
        }
        sums
    }
}

/// Whether one honest router ended its connection to another one since that passed on a lie.
const fn is_blame(error: &ConnectionError, calm: bool) -> bool {
    match error {
        ConnectionError::Handshake(_)
        | ConnectionError::Malformed(_)
        | ConnectionError::Gossip { .. }
        | ConnectionError::Backlog(_)
        | ConnectionError::Reassembly { .. }
        | ConnectionError::NameCollision { .. }
        | ConnectionError::Register(_)
        | ConnectionError::CrowdedOut => true,
        ConnectionError::ReadTimeout(_)
        | ConnectionError::WriteStall(_)
        | ConnectionError::Link(_)
        | ConnectionError::NameTaken(_)
        | ConnectionError::Superseded(_) => calm,
        _ => false,
    }
}
