//! Files as they are found.

use std::fs;

use super::file::VERSION;
use super::*;

fn opened(prefix: &Path) -> FileStore {
    FileStore::open(prefix).unwrap()
}

fn targets(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("deep/er/weave");
    let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
    {
        let state = opened(&prefix);
        assert_eq!(state.peer_name().unwrap(), None);
        assert_eq!(state.direct_peers().unwrap(), None);
        state.set_peer_name(name).unwrap();
        state.set_direct_peers(&targets(&["a", "b:1"])).unwrap();
        state.set_direct_peers(&targets(&["b:1"])).unwrap();
    }
    let state = opened(&prefix);
    assert_eq!(state.peer_name().unwrap(), Some(name));
    assert_eq!(state.direct_peers().unwrap(), Some(targets(&["b:1"])));
    assert!(directory.path().join("deep/er/weavedata.redb").exists());
}

#[test]
fn notes_of_the_program_are_kept_apart_from_what_the_node_stores() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    {
        let state = opened(&prefix);
        assert_eq!(state.note("peerName").unwrap(), None);
        state.set_note("peerName", "mine").unwrap();
        state.set_note("peerName", "mine, again").unwrap();
        assert_eq!(state.peer_name().unwrap(), None);
    }
    assert_eq!(opened(&prefix).note("peerName").unwrap().as_deref(), Some("mine, again"));
}

/// The file as the kernel has it at any moment of a process that is killed then.
#[test]
fn a_killed_process_loses_nothing_that_was_said() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    let state = opened(&prefix);
    for round in 0..5 {
        let said = targets(&[&format!("host{round}")]);
        state.set_direct_peers(&said).unwrap();
        let copy = directory.path().join(format!("copy{round}-"));
        fs::copy(data_file(&prefix), data_file(&copy)).unwrap();
        let reopened = opened(&copy);
        assert_eq!(reopened.direct_peers().unwrap(), Some(said));
    }
}

#[test]
fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    let _first = opened(&prefix);
    let error = FileStore::open(&prefix).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    opened(&prefix).write(VERSION, &2).unwrap();
    let error = FileStore::open(&prefix).unwrap_err().to_string();
    assert!(error.contains("newer") && error.contains("format 2"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

/// The file is refused on one line, and left as it is.
fn refused(prefix: &Path) {
    let before = fs::read(data_file(prefix)).unwrap();
    let error = FileStore::open(prefix).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    let (text, name) = (error.to_string(), data_file(prefix).display().to_string());
    assert!(text.starts_with(&format!("{name} is damaged (")), "{text}");
    for part in ["those it gave out", "move it away", "`weave reset`"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(fs::read(data_file(prefix)).unwrap() == before, "{text}: it was changed");
    let files = fs::read_dir(prefix.parent().unwrap()).unwrap();
    assert_eq!(files.count(), 1, "{text}: it was copied");
}

#[test]
fn a_damaged_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    opened(&prefix).set_direct_peers(&targets(&["a"])).unwrap();
    let whole = fs::read(data_file(&prefix)).unwrap();
    let half = &whole[..whole.len() / 2];
    let mut zeroed = whole.clone();
    zeroed[..4096].fill(0);
    for bytes in [b"not a database".as_slice(), &[], &whole[..100], half, &zeroed] {
        fs::write(data_file(&prefix), bytes).unwrap();
        refused(&prefix);
        refused(&prefix);
    }
    fs::write(data_file(&prefix), whole).unwrap();
    assert_eq!(opened(&prefix).direct_peers().unwrap(), Some(targets(&["a"])));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    for (key, good) in [(PEER_NAME, "00:00:00:00:00:01"), (DIRECT_PEERS, ""), (EXPOSED, "")] {
        opened(&prefix).write(key, "no sense").unwrap();
        refused(&prefix);
        fs::remove_file(data_file(&prefix)).unwrap();
        if !good.is_empty() {
            opened(&prefix).write(key, good).unwrap();
            opened(&prefix);
            fs::remove_file(data_file(&prefix)).unwrap();
        }
    }
    let ring = Some(b"no ring".to_vec());
    opened(&prefix).update_ipam(&Update { ring, ..Update::default() }).unwrap();
    refused(&prefix);
}

/// A router was killed while it made its first file.
#[test]
fn what_was_never_finished_is_not_missed() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    for half_made in [b"".as_slice(), b"half"] {
        fs::write(with_suffix(&data_file(&prefix), ".new"), half_made).unwrap();
        assert_eq!(opened(&prefix).peer_name().unwrap(), None);
        fs::remove_file(data_file(&prefix)).unwrap();
    }
}

/// Whatever is wrong with the file, the router knows all that it knew, or does not start.
#[test]
fn no_damage_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
    {
        let state = opened(&prefix);
        state.set_peer_name(name).unwrap();
        state.set_direct_peers(&targets(&["a", "b:1"])).unwrap();
    }
    let whole = fs::read(data_file(&prefix)).unwrap();
    let mut count = 0;
    for round in 0..48 {
        let mut bytes = whole.clone();
        // Of what is used at all, the end of the file being free.
        let place = round * 641 % bytes.len().min(32_768);
        match round % 3 {
            0 => bytes[place] ^= 0x41,
            1 => bytes[place..].iter_mut().take(64).for_each(|byte| *byte = 0xff),
            _ => bytes.truncate(place),
        }
        fs::write(data_file(&prefix), bytes).unwrap();
        match FileStore::open(&prefix) {
            Ok(state) => {
                assert_eq!(state.peer_name().unwrap(), Some(name), "round {round}");
                assert_eq!(state.direct_peers().unwrap(), Some(targets(&["a", "b:1"])));
            }
            Err(_) => {
                refused(&prefix);
                count += 1;
            }
        }
    }
    assert!(count > 16, "only {count} were refused");
}

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

/// A ring of one peer, with a holder of the address after the first.
fn allocations(peer: PeerName, universe: &str) -> (Range, Update) {
    let subnet: weave_ipam::Subnet = universe.parse().unwrap();
    let mut ring = weave_ipam::Ring::new(subnet.range(), peer);
    ring.divide(&[peer]);
    let first = subnet.range().start + 1;
    let address = weave_ipam::Cidr::new(first.into(), subnet.cidr().prefix()).unwrap();
    let holding = weave_ipam::message::Holding { cidrs: vec![address], ..Default::default() };
    let holdings = [("c1".to_owned(), Some(holding.encode()))].into();
    let ring = Some(weave_ipam::message::encode_ring(&ring));
    (subnet.range(), Update { ring, holdings, ..Update::default() })
}

/// A mistyped range, or a mistyped name, costs nothing.
#[test]
fn allocations_of_another_range_are_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    let (range, update) = allocations(name(1), "10.32.0.0/12");
    let (mistyped, other) = allocations(name(1), "10.3.0.0/16");
    opened(&prefix).update_ipam(&update).unwrap();
    let before = opened(&prefix).ipam(name(1), range).unwrap();
    assert_eq!(before.holdings.len(), 1);
    for (peer, place) in [(name(1), mistyped), (name(2), range)] {
        for _ in 0..2 {
            assert_eq!(opened(&prefix).ipam(peer, place).unwrap(), Stored::default());
        }
    }
    // What is given out there does not touch it.
    opened(&prefix).update_ipam(&other).unwrap();
    assert_eq!(opened(&prefix).ipam(name(1), range).unwrap(), before);
    assert_eq!(opened(&prefix).ipam(name(1), range).unwrap(), before);
    let there = opened(&prefix).ipam(name(1), mistyped).unwrap();
    assert!(there != before && there.holdings.len() == 1);
    assert_eq!(opened(&prefix).ipam(name(1), range).unwrap(), before);
}

/// A router that starts goes on reading after a write that failed.
#[test]
fn what_can_be_read_is_read_after_a_write_that_failed() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    let (range, update) = allocations(name(1), "10.32.0.0/12");
    let state = opened(&prefix);
    state.update_ipam(&update).unwrap();
    state.set_direct_peers(&targets(&["a"])).unwrap();
    let failed = state.change(|_| Err::<(), _>(StateError::Closed("full".to_owned())));
    assert!(failed.is_err() && state.fault().is_some());
    assert_eq!(state.direct_peers().unwrap(), Some(targets(&["a"])));
    assert_eq!(state.ipam(name(1), range).unwrap().holdings.len(), 1);
    state.set_direct_peers(&targets(&["b"])).unwrap();
    assert_eq!(state.fault(), None);
    drop(state);
    assert_eq!(opened(&prefix).direct_peers().unwrap(), Some(targets(&["b"])));
}
