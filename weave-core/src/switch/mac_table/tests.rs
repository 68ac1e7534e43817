use proptest::prelude::*;
use std::collections::BTreeMap;

use super::*;

const OWN: PeerName = PeerName::from_bytes([2, 0, 0, 0, 0, 1]);
const A: PeerName = PeerName::from_bytes([2, 0, 0, 0, 0, 2]);
const B: PeerName = PeerName::from_bytes([2, 0, 0, 0, 0, 3]);

fn mac(number: u32) -> MacAddress {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddress([2, 7, a, b, c, d])
}

fn at(seconds: u64) -> Instant {
    Instant::since_origin(Duration::from_secs(seconds))
}

fn receive(
    table: &MacTable,
    now: Instant,
    mac: MacAddress,
    peer: PeerName,
) -> Result<Learned, Conflict> {
    table.learn_received(now, mac, peer, OWN)
}

/// A station moves from A to B: the dispute begins and it is asked at `now`, and does not answer.
fn move_to_b(table: &MacTable, now: Instant, mac: MacAddress) {
    assert_eq!(receive(table, now, mac, B), Ok(Learned::Disputed { from: A }));
    assert_eq!(table.lookup_to_send(now, mac), None);
    assert_eq!(receive(table, now + ANSWER, mac, B), Ok(Learned::Moved { from: A }));
}

#[test]
fn a_station_is_followed_once_it_is_silent_where_it_was() {
    let table = MacTable::new(7);
    assert_eq!(receive(&table, at(0), mac(1), A), Ok(Learned::New));
    assert_eq!(receive(&table, at(0), mac(1), A), Ok(Learned::Known));
    assert_eq!(receive(&table, at(1), mac(1), B), Err(Conflict { known: A }));
    move_to_b(&table, at(2), mac(1));
    assert_eq!(table.lookup(mac(1)), Some(B));
    assert_eq!(table.lookup(mac(2)), None);
    assert_eq!((table.len(), table.moves()), (1, 1));
    // One that is found nowhere is where it says.
    table.remove_peers(&[B]);
    assert_eq!(receive(&table, at(2), mac(1), A), Ok(Learned::New));
}

#[test]
fn a_station_that_speaks_is_not_taken_by_a_frame_from_elsewhere() {
    let table = MacTable::new(7);
    for tick in 0..1000_u64 {
        let now = Instant::since_origin(Duration::from_millis(100 * tick));
        // It speaks once a second; somebody else claims it every 100 ms.
        if tick % 10 == 0 {
            assert!(receive(&table, now, mac(1), A).is_ok(), "{tick}");
        }
        assert_eq!(receive(&table, now, mac(1), B), Err(Conflict { known: A }), "{tick}");
    }
    assert_eq!(table.moves(), 0);
}

#[test]
fn a_station_that_is_claimed_while_it_is_idle_answers_where_it_is() {
    let table = MacTable::new(7);
    let later = |millis| at(100) + Duration::from_millis(millis);
    receive(&table, at(0), mac(1), A).unwrap();
    for round in 0..3 {
        let later = |millis: u64| later(10_000 * round + millis);
        assert_eq!(receive(&table, later(0), mac(1), B), Ok(Learned::Disputed { from: A }));
        // As long as nobody wants anything of it, no number of claims takes it.
        for second in 1..6 {
            let claim = receive(&table, later(1000 * second), mac(1), B);
            assert_eq!(claim, Ok(Learned::Unsettled));
            assert_eq!(table.lookup(mac(1)), None);
        }
        // To look is not to ask.
        assert_eq!(receive(&table, later(6500), mac(1), B), Ok(Learned::Unsettled));
        assert_eq!(table.lookup_to_send(later(6600), mac(1)), None);
        // Who claims it gets what is flooded, too, and may be faster.
        assert_eq!(receive(&table, later(6601), mac(1), B), Ok(Learned::Unsettled));
        assert_eq!(receive(&table, later(6602), mac(1), A), Ok(Learned::Settled));
        assert_eq!(table.lookup_to_send(later(6603), mac(1)), Some(A));
        assert_eq!(receive(&table, later(6603), mac(1), B), Err(Conflict { known: A }));
    }
    assert_eq!((table.moves(), table.disputes()), (0, 3));
    assert_eq!(table.entries(), [MacEntry { mac: mac(1), peer: A, last_seen: later(26_602) }]);
}

#[test]
fn a_dispute_is_about_two_places() {
    let table = MacTable::new(7);
    let c = PeerName::from_bytes([2, 0, 0, 0, 0, 9]);
    receive(&table, at(0), mac(1), A).unwrap();
    receive(&table, at(10), mac(1), B).unwrap();
    assert_eq!(receive(&table, at(10), mac(1), c), Ok(Learned::Unsettled));
    assert_eq!(table.entries()[0].peer, A, "until it is settled");
    // The first one that is heard after the time to answer has it.
    assert_eq!(table.lookup_to_send(at(11), mac(1)), None);
    assert_eq!(table.lookup_to_send(at(12), mac(1)), None);
    assert_eq!(receive(&table, at(12), mac(1), c), Ok(Learned::Moved { from: A }));
    assert_eq!(receive(&table, at(12), mac(1), B), Err(Conflict { known: c }));
    assert_eq!(receive(&table, at(12), mac(1), A), Ok(Learned::Moved { from: c }));
    // It ends with the peer that the station was behind.
    receive(&table, at(20), mac(1), B).unwrap();
    table.remove_peers(&[A]);
    assert_eq!((table.len(), receive(&table, at(20), mac(1), B)), (0, Ok(Learned::New)));
    // What is captured here is no hearsay.
    assert_eq!(receive(&table, at(30), mac(1), A), Ok(Learned::Disputed { from: B }));
    assert_eq!(table.learn_captured(at(31), mac(1), OWN), Err(Conflict { known: B }));
    assert_eq!(table.learn_captured(at(33), mac(1), OWN), Ok(Learned::Moved { from: B }));
    assert_eq!(table.lookup_to_send(at(33), mac(1)), Some(OWN));
}

#[test]
fn a_station_that_was_taken_while_it_was_idle_is_back_with_its_next_frame() {
    let table = MacTable::new(7);
    let later = |millis| at(101) + Duration::from_millis(millis);
    receive(&table, at(0), mac(1), A).unwrap();
    move_to_b(&table, at(100), mac(1));
    assert_eq!(receive(&table, later(1), mac(1), B), Ok(Learned::Known));
    assert_eq!(receive(&table, later(2), mac(1), A), Ok(Learned::Moved { from: B }));
    // That does not work the other way round.
    for millis in [3, 500, 1999] {
        assert_eq!(receive(&table, later(millis), mac(1), B), Err(Conflict { known: A }));
    }
    // A third one has no part in it.
    let own = PeerName::from_bytes([2, 0, 0, 0, 0, 9]);
    assert_eq!(receive(&table, later(1999), mac(1), own), Err(Conflict { known: A }));
}

#[test]
fn a_station_that_is_attached_here_is_never_taken_from_outside() {
    let table = MacTable::new(7);
    table.learn_captured(at(0), mac(1), OWN).unwrap();
    table.learn_captured(at(0), mac(2), OWN).unwrap();
    table.attach([mac(1), mac(3)].into());
    // It does not have to speak.
    assert_eq!(receive(&table, at(300), mac(1), A), Err(Conflict { known: OWN }));
    assert_eq!(receive(&table, at(300), mac(2), A), Ok(Learned::Disputed { from: OWN }));
    assert_eq!(table.lookup_to_send(at(300), mac(2)), None);
    assert_eq!(receive(&table, at(301), mac(2), A), Ok(Learned::Moved { from: OWN }));
    // One that is found attached after it was taken is back at once.
    assert_eq!(table.learn_captured(at(302), mac(2), OWN), Err(Conflict { known: A }));
    table.attach([mac(1), mac(2), mac(3)].into());
    assert_eq!(table.learn_captured(at(302), mac(2), OWN), Ok(Learned::Moved { from: A }));
    // And so is one while that is in dispute.
    table.attach([mac(1), mac(3)].into());
    receive(&table, at(310), mac(2), A).unwrap();
    table.attach([mac(1), mac(2), mac(3)].into());
    assert_eq!(receive(&table, at(310), mac(2), A), Err(Conflict { known: OWN }));
    assert_eq!(table.learn_captured(at(310), mac(2), OWN), Ok(Learned::Settled));
    // It may have been forgotten meanwhile.
    table.sweep(at(1000));
    assert_eq!(receive(&table, at(1000), mac(1), A), Err(Conflict { known: OWN }));
    table.learn_captured(at(1000), mac(1), OWN).unwrap();
    // A container cannot take the address of a station elsewhere by having it.
    table.attach([mac(1)].into());
    receive(&table, at(1000), mac(3), A).unwrap();
    table.attach([mac(1), mac(3)].into());
    assert_eq!(table.learn_captured(at(1001), mac(3), OWN), Err(Conflict { known: A }));
    receive(&table, at(1001), mac(3), A).unwrap();
    assert_eq!(table.lookup(mac(3)), Some(A));
    // Once it is detached, it may be elsewhere.
    table.attach([].into());
    assert_eq!(receive(&table, at(1004), mac(1), B), Ok(Learned::Disputed { from: OWN }));
}

#[test]
fn a_frame_that_the_bridge_sends_back_does_not_move_its_station() {
    let table = MacTable::new(7);
    for tick in 0..100 {
        let now = at(tick);
        receive(&table, now, mac(1), A).unwrap();
        let echo = now + Duration::from_millis(2);
        assert_eq!(table.learn_captured(echo, mac(1), OWN), Err(Conflict { known: A }));
        assert_eq!(table.lookup(mac(1)), Some(A));
    }
    assert_eq!(table.moves(), 0);
}

#[test]
fn a_container_that_moved_here_is_heard_after_a_few_seconds() {
    let table = MacTable::new(7);
    receive(&table, at(10), mac(1), A).unwrap();
    assert!(table.learn_captured(at(12), mac(1), OWN).is_err());
    assert_eq!(table.learn_captured(at(13), mac(1), OWN), Ok(Learned::Moved { from: A }));
    assert_eq!(table.learn_captured(at(13), mac(1), OWN), Ok(Learned::Known));
    // And back again, at once.
    assert_eq!(receive(&table, at(13), mac(1), A), Ok(Learned::Moved { from: OWN }));
}

#[test]
fn sightings_refresh_to_the_second_and_old_entries_are_swept() {
    let table = MacTable::new(7);
    receive(&table, at(0), mac(1), A).unwrap();
    receive(&table, at(0), mac(2), A).unwrap();
    receive(&table, at(0) + Duration::from_millis(900), mac(1), A).unwrap();
    assert_eq!(table.entries()[0].last_seen, at(0));
    receive(&table, at(1), mac(1), A).unwrap();
    assert_eq!(table.entries()[0].last_seen, at(1));
    table.sweep(at(600));
    assert_eq!(table.len(), 2, "ten minutes old is not yet too old");
    table.sweep(at(601));
    assert_eq!(table.entries(), [MacEntry { mac: mac(1), peer: A, last_seen: at(1) }]);
    assert_eq!(table.len(), 1);
}

#[test]
fn stations_leave_with_their_peer() {
    let table = MacTable::new(7);
    for number in 0..1000 {
        receive(&table, at(0), mac(number), if number % 3 == 0 { A } else { B }).unwrap();
    }
    table.remove_peers(&[A]);
    assert_eq!(table.len(), 666);
    assert!(table.entries().iter().all(|entry| entry.peer == B));
    assert_eq!(receive(&table, at(0), mac(0), B), Ok(Learned::New));
}

#[test]
fn a_flood_of_invented_addresses_displaces_its_own() {
    let table = MacTable::new(7);
    for number in 0..5_000 {
        receive(&table, at(0), mac(number), A).unwrap();
    }
    for number in 0..300_000 {
        receive(&table, at(1), mac(1_000_000 + number), B).unwrap();
    }
    let honest = (0..5_000).filter(|&number| table.lookup(mac(number)) == Some(A)).count();
    assert!(honest > 4_950, "{honest} of 5000 left");
    assert!(table.len() <= MacTable::CAPACITY);
    assert_eq!(table.len(), table.entries().len());
    assert!(table.evictions() > 200_000);
}

#[test]
fn threads_see_only_homes_that_were_set() {
    let table = MacTable::new(7);
    // So many addresses that places change hands all the time; each may have two homes only.
    let home = |number: u32, flip: bool| {
        PeerName::from_u64(u64::from(number) * 2 + u64::from(flip) + 1).expect("small number")
    };
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let table = &table;
            scope.spawn(move || {
                for round in 0..60_000u32 {
                    let number = round.wrapping_mul(2_654_435_761).wrapping_add(thread) % 90_000;
                    let flip = round % 7 == thread;
                    let _ = receive(table, at(u64::from(round)), mac(number), home(number, flip));
                    let probe = round.wrapping_mul(40_503) % 90_000;
                    if let Some(found) = table.lookup(mac(probe)) {
                        assert!(found == home(probe, false) || found == home(probe, true));
                    }
                }
            });
        }
    });
    assert_eq!(table.len(), table.entries().len());
}

/// What the table should know of a station.
#[derive(Clone, Copy)]
struct Place {
    /// Where it is; while that is in dispute, where it was.
    home: PeerName,
    former: Option<PeerName>,
    seen: Instant,
    /// Whether it is in dispute, and since when it has been asked.
    dispute: Option<Option<Instant>>,
}

/// What the table should do with a frame.
fn expected(
    known: Option<Place>,
    now: Instant,
    is_captured: bool,
    peer: PeerName,
) -> (Result<Learned, Conflict>, Place) {
    let here = Place { home: peer, former: None, seen: now, dispute: None };
    let Some(place) = known else { return (Ok(Learned::New), here) };
    let silent = now.saturating_since(place.seen) >= if is_captured { QUIET } else { SETTLED };
    let moved =
        (Ok(Learned::Moved { from: place.home }), Place { former: Some(place.home), ..here });
    let refused = (Err(Conflict { known: place.home }), place);
    let refreshed = Place {
        seen: if now.saturating_since(place.seen) >= REFRESH { now } else { place.seen },
        ..place
    };
    let is_back = place.former == Some(peer);
    match place.dispute {
        None if place.home == peer => (Ok(Learned::Known), refreshed),
        None if is_back && (silent || !is_captured) => (moved.0, here),
        None if !silent => refused,
        None if !is_captured && peer != OWN => {
            let dispute = Some(None);
            let former = Some(place.home);
            let place = Place { dispute, former, seen: now, ..place };
            (Ok(Learned::Disputed { from: place.home }), place)
        }
        None => moved,
        Some(_) if is_captured && !silent => refused,
        Some(_) if is_back => (Ok(Learned::Settled), here),
        Some(_) if peer == OWN => moved,
        Some(Some(asked)) if now.saturating_since(asked) >= ANSWER => moved,
        Some(_) => (Ok(Learned::Unsettled), refreshed),
    }
}

proptest! {
    /// Below the size at which buckets overflow the table is a map.
    #[test]
    fn behaves_like_a_map(operations in prop::collection::vec((0u8..5, 0u32..10, 0u64..3, 0u64..5), 0..300)) {
        let table = MacTable::new(99);
        let mut model: BTreeMap<MacAddress, Place> = BTreeMap::new();
        let mut now = at(0);
        for (kind, number, peer, wait) in operations {
            now += Duration::from_millis(wait * 700);
            let (mac, peer) = (mac(number), [OWN, A, B][usize::try_from(peer).unwrap()]);
            let known = model.get(&mac).copied();
            match kind {
                0 | 1 => {
                    let outcome = if kind == 0 {
                        table.learn_captured(now, mac, OWN)
                    } else {
                        receive(&table, now, mac, peer)
                    };
                    let peer = if kind == 0 { OWN } else { peer };
                    let (expected, place) = expected(known, now, kind == 0, peer);
                    prop_assert_eq!(outcome, expected);
                    model.insert(mac, place);
                }
                2 => {
                    table.remove_peers(&[peer]);
                    model.retain(|_, place| place.home != peer);
                }
                3 => {
                    let home = known.filter(|place| place.dispute.is_none());
                    prop_assert_eq!(table.lookup(mac), home.map(|place| place.home));
                }
                _ => {
                    let home = known.filter(|place| place.dispute.is_none());
                    prop_assert_eq!(table.lookup_to_send(now, mac), home.map(|place| place.home));
                    if let Some(Place { dispute: Some(asked @ None), .. }) = model.get_mut(&mac) {
                        *asked = Some(now);
                    }
                }
            }
        }
        prop_assert_eq!(table.len(), model.len());
    }
}
