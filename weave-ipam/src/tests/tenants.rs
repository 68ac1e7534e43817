//! Containers that end without a word.

use std::time::Duration;

use weave_core::mesh::{PeerName, Uid};
use weave_core::time::Instant;

use crate::allocator::{
    Answer, DEATH_GRACE, Origin, Output, RequestError, RequestId, Stored, TICK,
};
use crate::{Allocator, Config};

fn allocator() -> Allocator {
    let name = PeerName::from_u64(1).unwrap();
    let config = Config {
        name,
        uid: Uid(1),
        nickname: "host1".to_owned(),
        universe: "10.32.0.0/29".parse().unwrap(),
        origin: Origin::Seed(vec![name]),
    };
    Allocator::new(config, Stored::default(), Vec::new(), [1; 32], Instant::ORIGIN)
}

fn allocate(allocator: &mut Allocator, now: Instant, holder: &str, is_container: bool) {
    let universe = "10.32.0.0/29".parse().unwrap();
    allocator.allocate(
        now,
        RequestId(now.saturating_since(Instant::ORIGIN).as_secs()),
        holder,
        universe,
        is_container,
    );
}

fn holders(allocator: &Allocator) -> Vec<&str> {
    allocator.holders().map(|(holder, _)| holder).collect()
}

/// Looks every 5 s, as the router does; these are there.
fn pass(allocator: &mut Allocator, from: Instant, time: Duration, there: &[&str]) -> Instant {
    let mut now = from;
    while now < from + time {
        now += TICK;
        allocator.look_after(now, |holder| there.contains(&holder));
        allocator.handle_timeout(now);
    }
    now
}

#[test]
fn what_the_dead_had_is_given_out_again() {
    let mut allocator = allocator();
    let now = Instant::ORIGIN;
    assert_eq!(allocator.containers().count(), 0);
    allocate(&mut allocator, now, "gone", true);
    allocate(&mut allocator, now, "there", true);
    allocate(&mut allocator, now, "cni", false);
    assert_eq!(allocator.containers().collect::<Vec<_>>(), ["gone", "there"]);
    let now = pass(&mut allocator, now, DEATH_GRACE, &["there"]);
    assert_eq!(holders(&allocator), ["cni", "gone", "there"]);
    let now = pass(&mut allocator, now, TICK * 2, &["there"]);
    assert_eq!(holders(&allocator), ["cni", "there"]);
    let expired = |output: &Output| matches!(output, Output::Event(event) if event.to_string().contains("gone"));
    assert!(std::iter::from_fn(|| allocator.poll_output()).any(|output| expired(&output)));
    allocate(&mut allocator, now, "next", true);
    assert_eq!(
        allocator.held("next", "10.32.0.0/29".parse().unwrap())[0].to_string(),
        "10.32.0.1/29"
    );
}

#[test]
fn who_comes_back_in_time_keeps_what_he_had() {
    let mut allocator = allocator();
    let mut now = Instant::ORIGIN;
    allocate(&mut allocator, now, "c", true);
    for _ in 0..3 {
        now = pass(&mut allocator, now, DEATH_GRACE / 2, &[]);
        now = pass(&mut allocator, now, TICK, &["c"]);
    }
    assert_eq!(holders(&allocator), ["c"]);
}

/// A container of two addresses has no interface until it has both.
#[test]
fn who_waits_for_more_keeps_what_he_has() {
    let mut allocator = allocator();
    let mut now = Instant::ORIGIN;
    allocate(&mut allocator, now, "c", true);
    for number in 0..5 {
        now += Duration::from_secs(1);
        allocate(&mut allocator, now, &format!("other{number}"), false);
    }
    // There is no address left.
    let request = RequestId(77);
    let other = "10.32.0.4/30".parse().unwrap();
    allocator.allocate(now, request, "c", other, true);
    now = pass(&mut allocator, now, DEATH_GRACE * 3, &[]);
    assert!(holders(&allocator).contains(&"c"));
    while allocator.poll_output().is_some() {}
    // Whoever hung up waits no longer.
    allocator.cancel(request);
    pass(&mut allocator, now, DEATH_GRACE * 2, &[]);
    assert!(!holders(&allocator).contains(&"c"));
    while let Some(output) = allocator.poll_output() {
        let answered = matches!(
            output,
            Output::Answer { answer: Ok(Answer::Allocated(_)) | Err(RequestError::Cancelled), .. }
        );
        assert!(!answered);
    }
}
