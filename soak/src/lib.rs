//! Whole routers with address allocation, in virtual time, with members among them that lie.
//!
//! Each seed is a story: so many honest routers, how they are connected, who lies and how, what
//! goes wrong meanwhile ([`plan`]). While it is told, and when it is over, things are looked at
//! that no member may be able to bring about among honest routers ([`invariants`]). A seed tells
//! the same story each time.
//!
//! ```text
//!   cargo xtask soak --seeds 2000      as in `cargo xtask test`
//!   cargo xtask soak --seed 17         one again: its plan, and the last lies if it fails
//! ```

pub mod encounter;
pub mod framing;
pub mod invariants;
pub mod ipam;
pub mod legacy;
pub mod liar;
pub mod plan;
pub mod records;
pub mod story;
pub mod truth;
pub mod watch;
pub mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use invariants::{Invariant, Violation};
use liar::Liar;
use world::World;

/// A story that must not end as it did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Tells it again.
    pub seed: u64,
    /// What is wrong.
    pub violation: Violation,
    /// What was to happen.
    pub plan: plan::Plan,
    /// The last lies of each liar.
    pub lies: Vec<Vec<String>>,
}

/// Tells the story of a seed.
///
/// # Errors
/// What a liar brought about.
pub fn run(seed: u64) -> Result<(), Box<Failure>> {
    let mut world = World::new(seed);
    let story = AssertUnwindSafe(|| story::tell(&mut world));
    let told = catch_unwind(story).unwrap_or_else(|_| {
        let text = "see the message of the panic above".to_owned();
        Err(Violation { invariant: Invariant::NeverPanics, text })
    });
    told.map_err(|violation| {
        let lies = world.liars.iter().map(Liar::log).collect();
        Box::new(Failure { seed, violation, plan: world.plan.clone(), lies })
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        writeln!(f, "{:#?}", self.plan)?;
        for (liar, lies) in self.lies.iter().enumerate() {
            writeln!(f, "the last lies of liar {liar}:")?;
            lies.iter().try_for_each(|lie| writeln!(f, "  {lie}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_the_same_story_each_time() {
        let tell = |seed| {
            let mut world = World::new(seed);
            let result = story::tell(&mut world);
            (result, world.net.traffic(), world.liars.iter().map(Liar::log).collect::<Vec<_>>())
        };
        assert_eq!(tell(3), tell(3));
    }
}
