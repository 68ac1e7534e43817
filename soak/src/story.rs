//! One story from its beginning to its end.
//!
//! ```text
//!   honest routers form a mesh ─▶ liars join ─▶ they lie, while nothing else happens
//!      ─▶ they lie of anything but honest peers: records of those have to converge
//!      ─▶ they lie while routers restart and links are lost
//!      ─▶ they are gone: the mesh has to be as if they had never been
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use weave_core::sim::{HostId, Net};

use crate::invariants::{Inspector, Invariant, Violation};
use crate::liar::{Mood, WATCHED};
use crate::plan::{Accident, Division};
use crate::watch::Watch;
use crate::world::{TICK, World};

const SECOND: Duration = Duration::from_secs(1);
/// Hosts that tell everybody something, one after the other.
const ORIGINS: usize = 3;

/// Tells the story of a seed.
///
/// # Errors
/// The first invariant that was broken.
pub fn tell(world: &mut World) -> Result<(), Violation> {
    let inspector = &mut Inspector::new(world);
    let formed = world.net.run_until(60 * SECOND, Net::converged);
    formed.map_err(|error| broken(Invariant::Forms, error))?;
    if world.plan.division == Division::Vote {
        world.divide();
        wait_for(world, inspector, 60 * SECOND, Invariant::Forms, World::is_divided)?;
    }
    world.let_liars_in();
    run(world, inspector, 5 * SECOND)?;

    set_mood(world, Mood::Lying);
    inspector.restart_counts(world);
    inspector.expect_calm(world);
    let calm = world.plan.calm;
    run(world, inspector, calm)?;

    set_mood(world, Mood::Careful);
    let converge = Inspector::records_agree;
    wait_for(world, inspector, 60 * SECOND, Invariant::RecordsConverge, converge)?;
    if is_full(world) {
        everybody_hears_once(world, inspector, "while they lie")?;
    }

    inspector.expect_accidents();
    for accident in world.plan.accidents.clone() {
        set_mood(world, Mood::Forging);
        happen(world, inspector, accident)?;
        run(world, inspector, 3 * SECOND)?;
    }

    for liar in &world.liars {
        liar.set_mood(Mood::Truthful);
        world.net.kill(liar.host());
    }
    let recovered = |world: &World| world.net.converged();
    wait_for(world, inspector, 240 * SECOND, Invariant::Recovers, recovered)?;
    everybody_hears_once(world, inspector, "after they are gone")
}

fn broken(invariant: Invariant, text: String) -> Violation {
    Violation { invariant, text }
}

fn set_mood(world: &World, mood: Mood) {
    world.liars.iter().for_each(|liar| liar.set_mood(mood));
}

fn run(world: &mut World, inspector: &mut Inspector, time: Duration) -> Result<(), Violation> {
    let end = world.net.now() + time;
    while world.net.now() < end {
        world.tick();
        inspector.look(world)?;
    }
    Ok(())
}

/// That the condition comes true in time is an invariant.
fn wait_for(
    world: &mut World,
    inspector: &mut Inspector,
    limit: Duration,
    invariant: Invariant,
    condition: impl Fn(&World) -> Result<(), String>,
) -> Result<(), Violation> {
    let end = world.net.now() + limit;
    loop {
        run(world, inspector, 5 * TICK)?;
        match condition(world) {
            Ok(()) => return Ok(()),
            Err(error) if world.net.now() >= end => {
                return Err(broken(invariant, format!("after {limit:?}: {error}")));
            }
            Err(_) => {}
        }
    }
}

fn happen(
    world: &mut World,
    inspector: &mut Inspector,
    accident: Accident,
) -> Result<(), Violation> {
    let host = |at: usize| world.honest[at];
    match accident {
        Accident::Restart(at) => {
            let host = host(at);
            world.net.kill(host);
            run(world, inspector, SECOND)?;
            world.net.start(host);
            world.take_part(host);
            inspector.restart_counts(world);
        }
        Accident::Reset(a, b) => {
            let (a, b) = (host(a), host(b));
            world.net.reset_connections(a, b);
        }
        Accident::Cut(at, seconds) => {
            let island = [host(at)];
            world.net.partition(&island);
            run(world, inspector, Duration::from_secs(seconds))?;
            world.net.heal(&island);
        }
        Accident::Leap(at) => {
            let host = host(at);
            world.net.jump_clock(host, Duration::from_secs(3600));
        }
    }
    Ok(())
}

/// Every honest router has a link to every other.
fn is_full(world: &World) -> bool {
    let pairs = world.honest.iter().flat_map(|a| world.honest.iter().map(move |b| (*a, *b)));
    pairs.into_iter().all(|(a, b)| a == b || world.connected(a, b))
}

fn everybody_hears_once(
    world: &mut World,
    inspector: &mut Inspector,
    when: &str,
) -> Result<(), Violation> {
    for (at, from) in world.honest.clone().into_iter().enumerate().take(ORIGINS) {
        let word = [
            WATCHED,
            &(world.net.now().saturating_since(weave_core::time::Instant::ORIGIN))
                .as_millis()
                .to_be_bytes(),
            &[u8::try_from(at).unwrap_or(0)],
        ]
        .concat();
        let station = [0x06, 0, 0, 0, 0, u8::try_from(at).unwrap_or(0)];
        let frame = [&[0xff; 6][..], &station, &[0x08, 0x00], &word].concat();
        let group: BTreeSet<HostId> = world.honest.iter().copied().collect();
        let before = Inspector::records(world);
        // Routes follow records in a moment.
        run(world, inspector, SECOND / 2)?;
        world.net.take_deliveries();
        Watch::broadcast(&mut world.net, from, &word);
        world.net.capture(from, &frame);
        run(world, inspector, SECOND)?;
        if Inspector::records(world) != before {
            // Somebody found out late about an earlier lie, and for a moment routes differed.
            continue;
        }
        let times = |host: HostId| world.watches[&host].times(&word);
        Inspector::heard_once(&group, from, times)
            .map_err(|text| broken(Invariant::BroadcastOnce, format!("{when}: gossip: {text}")))?;
        let delivered = world.net.take_deliveries();
        let times =
            |host: HostId| delivered.iter().filter(|d| d.host == host && d.frame == frame).count();
        Inspector::heard_once(&group, from, times)
            .map_err(|text| broken(Invariant::BroadcastOnce, format!("{when}: frames: {text}")))?;
    }
    Ok(())
}
