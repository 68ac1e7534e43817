//! The vectors of the ring.

use super::vectors::{
    address, bytes, entries, list, load, number, peer, peers, range, raw_ring, ring, text,
};
use crate::message::State;
use crate::ring::RingError;
use crate::{Cidr, Range, Ring, Space};

fn kind(error: &RingError) -> &'static str {
    match error {
        RingError::NotSorted(_) => "not-sorted",
        RingError::TokenRepeated(_) => "token-repeated",
        RingError::TokenOutOfRange { .. } => "token-out-of-range",
        RingError::TooMuchFree { .. } => "too-much-free",
        RingError::DifferentSeeds { .. } => "different-seeds",
        RingError::DifferentRange { .. } => "different-range",
        RingError::NewerVersionOfMine { .. } => "newer-version-of-mine",
        RingError::InconsistentEntry { .. } => "inconsistent-entry",
        RingError::EntryInMyRange { .. } => "entry-in-my-range",
        RingError::MergeResultInvalid(_) => "merge-result-invalid",
    }
}

fn space_of(ring: &Ring, used: &[u32]) -> Space {
    let mut space = Space::default();
    space.set_ranges(&ring.owned_by(ring.peer()));
    used.iter().for_each(|address| space.claim(*address).unwrap());
    space
}

#[test]
fn merges() {
    let file = load("ipam-ring.json");
    for row in list(&file["ring"]["merge"]) {
        let name = text(&row["name"]);
        let ours = ring(&row["ours"]);
        let used: Vec<u32> = list(&row["our_allocations"]).iter().map(address).collect();
        let mut space = space_of(&ours, &used);
        let state = State::decode(&bytes(&row["incoming_gossip_hex"])).unwrap();
        assert_eq!(state.ring, Some(raw_ring(&row["incoming"])), "{name}");
        assert_eq!(State::decode(&state.encode()).unwrap(), state, "{name}");

        let merged = Ring::try_from(state.ring.unwrap())
            .and_then(|theirs| ours.merge(&theirs, |range| space.is_free(range)));
        let result = &row["result"];
        let contested = merged.as_ref().ok().and_then(|merged| merged.contested.first());
        if result["error_kind"] == "merge-result-invalid" {
            // What the original refuses has but a wrong number in it.
            assert!(merged.is_ok_and(|merged| merged.contested.is_empty()), "{name}");
            continue;
        }
        let error = merged.as_ref().err().or(contested.map(|contested| &contested.error)).map(kind);
        assert_eq!(error, result["error_kind"].as_str(), "{name}: {merged:?}");
        let Ok(merged) = merged else { continue };
        if error.is_some() {
            // The original refuses all of it, we what would take away what is in use.
            let owned = merged.ring.owned_by(merged.ring.peer());
            let is_owned = |address: &u32| owned.iter().any(|range| range.contains(*address));
            assert!(used.iter().all(is_owned), "{name}");
            continue;
        }
        let mut after = merged.ring;
        assert_eq!(merged.news, result["changed"].as_bool().unwrap(), "{name}");
        assert_eq!(after.entries(), entries(&result["entries"]), "{name}");
        assert_eq!(after.seeds(), peers(&result["seeds"]), "{name}");
        // What the original dies of: the space goes with the ring.
        space.set_ranges(&after.owned_by(after.peer()));
        assert_eq!(after.check_with(&space), Ok(()), "{name}");
        assert!(used.iter().all(|address| space.used().contains(*address)), "{name}");
        if result["go_crashes_after_merge"] == true {
            continue;
        }
        after.report_free(|range| space.free_within(range));
        assert_eq!(after.entries(), entries(&result["entries_after_free_report"]), "{name}");
    }
}

#[test]
fn first_divisions() {
    let file = load("ipam-ring.json");
    for row in list(&file["ring"]["claim_for_peers"]) {
        let universe: Cidr = text(&row["universe"]).parse().unwrap();
        let mut names = peers(&row["peers"]);
        let mut divided = Ring::new(Range::of(universe), names[0]);
        divided.divide(&names);
        assert_eq!(divided.entries(), entries(&row["entries"]), "{row}");
        assert_eq!(divided.seeds(), peers(&row["seeds"]), "{row}");
        names.reverse();
        names.extend_from_within(..1);
        let mut again = Ring::new(Range::of(universe), divided.peer());
        again.divide(&names);
        assert_eq!(again, divided, "order and repetitions do not matter");
    }
}

#[test]
fn grants() {
    let file = load("ipam-ring.json");
    for row in list(&file["ring"]["grant"]) {
        let mut ring = ring(&row["before"]);
        ring.grant(range(row), peer(&row["to"]));
        assert_eq!(ring.entries(), entries(&row["entries_after"]), "{}", row["name"]);
    }
}

#[test]
fn transfers() {
    let file = load("ipam-ring.json");
    for row in list(&file["ring"]["transfer"]) {
        let mut ring = ring(&row["before"]);
        let gained = ring.transfer(peer(&row["from"]), peer(&row["to"]));
        let expected: Vec<Range> = list(&row["new_ranges"]).iter().map(range).collect();
        assert_eq!(gained, expected, "{}", row["name"]);
        assert_eq!(ring.entries(), entries(&row["entries_after"]), "{}", row["name"]);
    }
}

#[test]
fn ranges_and_owners() {
    let file = load("ipam-ring.json");
    for row in list(&file["ring"]["ranges"]) {
        let ring = ring(&row["ring"]);
        let owned: Vec<Range> = list(&row["owned_ranges_of_ring_peer"]).iter().map(range).collect();
        assert_eq!(ring.owned_by(ring.peer()), owned, "{}", row["name"]);
        for (x, owner) in row["owner_of"].as_object().unwrap() {
            let x = address(&x.as_str().into());
            assert_eq!(ring.owner(x), Some(peer(owner)), "{}", row["name"]);
        }
        let mut shown: Vec<_> = ring
            .ranges()
            .into_iter()
            .map(|(range, entry)| (range.start, range.size(), entry.peer, entry.version))
            .collect();
        let mut expected: Vec<_> = list(&row["status_ranges"])
            .iter()
            .map(|e| {
                (address(&e["start"]), number(&e["size"]), peer(&e["peer"]), number(&e["version"]))
            })
            .collect();
        shown.sort_unstable();
        expected.sort_unstable();
        assert_eq!(shown, expected, "{}", row["name"]);
    }
}

#[test]
fn free_addresses_are_reported() {
    let file = load("ipam-ring.json");
    for row in list(&file["ring"]["report_free"]) {
        let mut ring = ring(&row["before"]);
        let free = row["free_by_range_start"].as_object().unwrap();
        let free_within = |range: Range| {
            if range.is_empty() {
                return 0;
            }
            let start = std::net::Ipv4Addr::from_bits(range.start).to_string();
            number(&free[&start])
        };
        assert_eq!(
            ring.report_free(free_within),
            row["changed"].as_bool().unwrap(),
            "{}",
            row["name"]
        );
        assert_eq!(ring.entries(), entries(&row["entries_after"]), "{}", row["name"]);
    }
}

#[test]
fn donors() {
    let file = load("ipam-ring.json");
    for row in list(&file["ring"]["choose_peers"]) {
        let donors = ring(&row["ring"]).donors(range(row));
        let mut expected = peers(&row["candidates_any_order"]);
        expected.sort_unstable();
        let names: Vec<_> = donors.into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(names, expected, "{}", row["name"]);
    }
}

/// Nothing of a ring from outside is believed.
#[test]
fn rings_that_make_no_sense_are_refused() {
    let file = load("ipam-ring.json");
    let good = raw_ring(&file["ring"]["merge"][0]["incoming"]);
    for (start, end) in [(0, 0), (u32::MAX, 0), (0, u32::MAX), (5, 5)] {
        let theirs = crate::ring::RawRing { start, end, ..good.clone() };
        let ours = ring(&file["ring"]["merge"][0]["incoming"]);
        let merged = Ring::try_from(theirs).and_then(|theirs| ours.merge(&theirs, |_| true));
        assert!(merged.is_err());
    }
}
