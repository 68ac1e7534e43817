//! The mesh of a story, and what happens in a tenth of a second of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weave_core::mesh::{PeerName, Random};
use weave_core::sim::{HostId, Net, Quality};
use weave_core::time::Instant;
use weave_ipam::allocator::Origin;

use crate::ipam::Tenants;
use crate::legacy::Legacy;
use crate::liar::{Liar, Spent, Surroundings};
use crate::plan::{Division, Plan};
use crate::truth::Truth;
use crate::watch::Watch;

/// From one look at everything to the next.
pub const TICK: Duration = Duration::from_millis(100);
/// Frames that a host sends in all: many more than the invariants allow.
const FRAMES: u64 = 200_000;
/// Who is out of reach for longer than this may be gone when what a liar says arrives: the slowest
/// of them takes 20 seconds to say all it may.
const AWAY: Duration = Duration::from_secs(8);

/// Honest routers, and liars among them.
pub struct World {
    /// All hosts and the network.
    pub net: Net,
    /// What its seed stands for.
    pub plan: Plan,
    /// The hosts that keep to the rules.
    pub honest: Vec<HostId>,
    /// The others.
    pub liars: Vec<Liar>,
    /// Addresses that containers of honest hosts have.
    pub given: BTreeMap<u32, String>,
    /// Whose addresses are.
    pub truth: Truth,
    /// What honest hosts heard.
    pub watches: BTreeMap<HostId, Watch>,
    tenants: BTreeMap<HostId, Tenants>,
    legacies: BTreeMap<HostId, Legacy>,
    /// When an honest host had a route to another one last.
    in_reach: BTreeMap<(HostId, HostId), Instant>,
    random: Random,
}

impl World {
    /// All routers have just started, and the honest ones are told to connect.
    pub fn new(seed: u64) -> Self {
        let plan = Plan::new(seed);
        let mut net = Net::new(seed);
        net.set_frame_limit(FRAMES);
        net.set_quality(Quality { latency: plan.latency, ..Quality::default() });
        let discovery = plan.discovery;
        let add = |net: &mut Net| net.add_host_with(move |config| config.discovery = discovery);
        let honest: Vec<HostId> = plan.legacy.iter().map(|_| add(&mut net)).collect();
        let mut block = [0; 32];
        block[..8].copy_from_slice(&seed.to_be_bytes());
        block[31] = 2;
        let mut world = Self {
            honest,
            liars: Vec::new(),
            given: BTreeMap::new(),
            truth: Truth::default(),
            watches: BTreeMap::new(),
            tenants: BTreeMap::new(),
            legacies: BTreeMap::new(),
            in_reach: BTreeMap::new(),
            random: Random::new(block),
            net,
            plan,
        };
        for at in 0..world.honest.len() {
            let host = world.honest[at];
            if world.plan.legacy[at] {
                let legacy = Legacy::new(world.net.name(host));
                world.net.set_tap(host, Box::new(legacy.clone()));
                world.legacies.insert(host, legacy);
            }
            world.watches.insert(host, Watch::default());
            world.tenants.insert(host, Tenants::default());
            world.take_part(host);
        }
        world
    }

    /// The router of an honest host runs (again): it takes part in the channels, and connects.
    pub fn take_part(&mut self, host: HostId) {
        if let Some(room) = self.plan.room {
            self.net.ask(host, |router, now| {
                router.update(now, |mesh| mesh.set_room(room, room * room));
            });
        }
        self.watches[&host].start(&mut self.net, host);
        let origin = self.origin();
        let seed = self.random.block();
        self.tenants[&host].start(&mut self.net, host, origin, seed);
        let links = self.plan.links.clone();
        for (from, to) in links {
            if self.honest[from] == host {
                self.net.connect(host, self.honest[to]);
            }
        }
    }

    fn origin(&self) -> Origin {
        match self.plan.division {
            Division::Seeds => Origin::Seed(self.honest_names()),
            Division::Vote | Division::VoteAmongLiars => {
                Origin::Consensus { peers: Some(self.honest.len()) }
            }
        }
    }

    /// What honest routers are called.
    pub fn honest_names(&self) -> Vec<PeerName> {
        self.honest.iter().map(|host| self.net.name(*host)).collect()
    }

    /// The liars come, truthful as yet.
    pub fn let_liars_in(&mut self) {
        let names = self.honest_names();
        for plan in self.plan.liars.clone() {
            let host = self.net.add_host();
            let quality = Quality { rate: plan.rate, ..self.net.path(host, host) };
            self.honest.iter().for_each(|honest| self.net.set_path(host, *honest, quality));
            let seed = self.random.block();
            let liar = Liar::new(&mut self.net, host, names.clone(), plan.habits, seed);
            if plan.allocates {
                let seed = self.random.block();
                Tenants::default().start(&mut self.net, host, Origin::Observer, seed);
            }
            for target in plan.targets {
                self.net.connect(host, self.honest[target]);
            }
            self.liars.push(liar);
        }
    }

    /// Honest routers vote on the first division of addresses.
    pub fn divide(&mut self) {
        for (host, tenants) in &self.tenants {
            tenants.prime(&mut self.net, *host);
        }
    }

    /// Whether they have.
    ///
    /// # Errors
    /// Who has not.
    pub fn is_divided(&self) -> Result<(), String> {
        let without = self.tenants.iter().find(|(_, tenants)| !tenants.is_divided());
        without.map_or(Ok(()), |(host, _)| Err(format!("{host:?} knows no ring")))
    }

    /// The allocators of honest hosts.
    pub const fn tenants(&self) -> &BTreeMap<HostId, Tenants> {
        &self.tenants
    }

    /// What liars have to know so as not to do what nothing can be done against.
    fn look_around(&mut self) {
        let mut surroundings = Surroundings { is_full: true, ..Surroundings::default() };
        let now = self.net.now();
        for a in &self.honest {
            for b in self.honest.iter().filter(|b| *b != a) {
                let (name_a, name_b) = (self.net.name(*a), self.net.name(*b));
                let routes = self.net.router(*a).map(|router| router.mesh().routes());
                let reaches = routes.is_some_and(|routes| routes.unicast_all(name_b).is_some());
                let at = self.in_reach.entry((*a, *b)).or_insert(now);
                if reaches {
                    *at = now;
                }
                surroundings.somebody_is_away |= now.saturating_since(*at) > AWAY;
                if self.connected(*a, *b) {
                    surroundings.adjacent.insert((name_a, name_b));
                } else {
                    surroundings.is_full = false;
                }
            }
        }
        self.liars.iter().for_each(|liar| liar.set_surroundings(surroundings.clone()));
    }

    /// A tenth of a second passes, in which liars lie and containers come and go.
    pub fn tick(&mut self) {
        self.look_around();
        for (liar, plan) in self.liars.iter().zip(&self.plan.liars) {
            (0..plan.pace).for_each(|_| liar.act(&mut self.net));
        }
        if self.below(5) == 0 {
            let at = self.below(self.honest.len());
            let host = self.honest[at];
            let tenants = self.tenants[&host].clone();
            if self.below(3) > 0 {
                tenants.allocate(&mut self.net, host);
            } else if let Some(holder) = tenants.release(&mut self.net, host) {
                self.given.retain(|_, name| *name != holder);
            }
        }
        for (host, legacy) in &self.legacies {
            legacy.echo(&mut self.net, *host);
        }
        self.net.run_for(TICK);
        if self.plan.division == Division::VoteAmongLiars {
            return;
        }
        let tenants = self.honest.iter().map(|host| (self.net.name(*host), &self.tenants[host]));
        self.truth.look(&tenants.collect());
    }

    /// Addresses that containers were told since the last look.
    pub fn take_given(&self) -> Vec<(String, u32)> {
        self.tenants.values().flat_map(Tenants::take_given).collect()
    }

    /// What the liars have said of their own accord.
    pub fn spent(&self) -> Spent {
        let mut sum = Spent::default();
        for spent in self.liars.iter().map(Liar::spent) {
            sum.messages += spent.messages;
            sum.bytes += spent.bytes;
            sum.unicasts += spent.unicasts;
            sum.frames += spent.frames;
        }
        sum
    }

    /// Honest hosts in groups that are connected without the help of liars.
    pub fn groups(&self) -> Vec<BTreeSet<HostId>> {
        let mut groups: Vec<BTreeSet<HostId>> = Vec::new();
        let mut rest: BTreeSet<HostId> = self.honest.iter().copied().collect();
        while let Some(first) = rest.pop_first() {
            let mut group = BTreeSet::from([first]);
            let mut fresh = vec![first];
            while let Some(host) = fresh.pop() {
                for other in rest.clone() {
                    if self.connected(host, other) {
                        rest.remove(&other);
                        group.insert(other);
                        fresh.push(other);
                    }
                }
            }
            groups.push(group);
        }
        groups
    }

    /// Whether frames get from one to the other directly, as both see it.
    pub fn connected(&self, a: HostId, b: HostId) -> bool {
        let lists = |from: HostId, to: HostId| {
            let to = self.net.name(to);
            let own = self.net.router(from).map(|router| router.mesh().peers().own());
            own.and_then(|own| own.connection(to)).is_some_and(|link| link.established)
        };
        lists(a, b) && lists(b, a)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap_or(0)
    }
}
