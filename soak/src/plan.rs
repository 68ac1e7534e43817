//! What a seed stands for.

use std::collections::BTreeSet;
use std::time::Duration;

use weave_core::mesh::Random;

use crate::liar::Habit;

/// Room for all peers there are, and some.
const ROOM: usize = 24;
/// Few liars flood: it takes many messages until a router has enough of them.
const FLOODS: usize = 6;

/// One story, decided by its seed before it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Honest routers; for each whether it is like one of Weave Net 2.x.
    pub legacy: Vec<bool>,
    /// Which honest routers are told to connect to which.
    pub links: Vec<(usize, usize)>,
    /// Whether honest routers connect to whom they hear of.
    pub discovery: bool,
    /// Peers that a router has room for, if that is to run out.
    pub room: Option<usize>,
    /// The liars.
    pub liars: Vec<LiarPlan>,
    /// One way, on all paths.
    pub latency: Duration,
    /// How addresses are first divided.
    pub division: Division,
    /// What goes wrong while they lie.
    pub accidents: Vec<Accident>,
    /// How long they lie while nothing goes wrong.
    pub calm: Duration,
}

/// How addresses are first divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Division {
    /// Among peers that everybody was told.
    Seeds,
    /// By a vote, before the liars come.
    Vote,
    /// By a vote in their presence.
    VoteAmongLiars,
}

/// One liar.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiarPlan {
    /// The honest routers it connects to.
    pub targets: Vec<usize>,
    /// How it lies.
    pub habits: BTreeSet<Habit>,
    /// How often, in a tenth of a second.
    pub pace: usize,
    /// Bytes per second that it can send.
    pub rate: u64,
    /// It takes part in the allocation of addresses.
    pub allocates: bool,
}

/// Something that goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accident {
    /// The router of a host is started again.
    Restart(usize),
    /// Connections between two hosts are reset.
    Reset(usize, usize),
    /// A host is cut off, for so many seconds.
    Cut(usize, u64),
    /// A clock leaps ahead.
    Leap(usize),
}

impl Plan {
    /// What this seed stands for.
    pub fn new(seed: u64) -> Self {
        let mut block = [0; 32];
        block[..8].copy_from_slice(&seed.to_be_bytes());
        block[31] = 1;
        let random = &mut Random::new(block);
        let honest = 3 + below(random, 6);
        let with_legacy = below(random, 2) == 0;
        let legacy = (0..honest).map(|_| with_legacy && below(random, 3) == 0).collect();
        let discovery = below(random, 3) > 0;
        let mut links: Vec<(usize, usize)> = (1..honest)
            .map(|host| match below(random, 3) {
                0 => (host, 0),
                1 => (host, host - 1),
                _ => (host, below(random, host)),
            })
            .collect();
        for _ in 0..below(random, honest) {
            let (a, b) = (below(random, honest), below(random, honest));
            if a != b {
                links.push((a, b));
            }
        }
        let accidents = (0..below(random, 3)).map(|_| accident(random, honest)).collect();
        let liars = (0..1 + below(random, 2)).map(|_| liar(random, honest)).collect();
        Self {
            legacy,
            links,
            discovery,
            room: (below(random, 4) == 0).then_some(ROOM),
            liars,
            latency: Duration::from_millis(1 + below(random, 40) as u64),
            division: match below(random, 6) {
                0 => Division::VoteAmongLiars,
                1 => Division::Vote,
                _ => Division::Seeds,
            },
            accidents,
            calm: Duration::from_secs(6 + below(random, 8) as u64),
        }
    }
}

fn liar(random: &mut Random, honest: usize) -> LiarPlan {
    let mut targets: Vec<usize> = (0..honest).filter(|_| below(random, 2) == 0).collect();
    if targets.is_empty() {
        targets.push(below(random, honest));
    }
    // Few habits at a time, so that one does not end what another one needs.
    let habits = (0..2 + below(random, 3)).map(|_| Habit::ALL[below(random, Habit::ALL.len())]);
    let mut habits: BTreeSet<Habit> = habits.collect();
    if below(random, FLOODS) > 0 {
        habits.remove(&Habit::Flood);
    }
    LiarPlan {
        targets,
        habits,
        pace: 1 + below(random, 3),
        rate: 20_000 << below(random, 7),
        allocates: below(random, 3) > 0,
    }
}

fn accident(random: &mut Random, honest: usize) -> Accident {
    let host = below(random, honest);
    match below(random, 4) {
        0 => Accident::Reset(host, (host + 1) % honest),
        1 => Accident::Cut(host, 2 + random.below(75)),
        2 => Accident::Leap(host),
        _ => Accident::Restart(host),
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap_or(0)
}
