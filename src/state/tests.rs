//! Files as they are found.

use std::fs;

use super::*;

fn opened(prefix: &Path) -> State {
    let (state, set_aside) = State::open(prefix).unwrap();
    assert_eq!(set_aside, None);
    state
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
    let error = State::open(&prefix).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    opened(&prefix).write(VERSION, &2).unwrap();
    let error = State::open(&prefix).unwrap_err().to_string();
    assert!(error.contains("newer") && error.contains("format 2"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

/// Opens the file and says what it holds.
fn contents(prefix: &Path) -> (Option<PeerName>, Option<Vec<String>>, Option<SetAside>) {
    let (state, set_aside) = State::open(prefix).unwrap();
    (state.peer_name().unwrap(), state.direct_peers().unwrap(), set_aside)
}

#[test]
fn a_damaged_file_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
    {
        let state = opened(&prefix);
        state.set_peer_name(name).unwrap();
        state.set_direct_peers(&targets(&["a"])).unwrap();
    }
    let whole = fs::read(data_file(&prefix)).unwrap();
    let half = &whole[..whole.len() / 2];
    let mut zeroed = whole.clone();
    zeroed[..4096].fill(0);
    for (number, bytes) in
        (1..).zip([b"not a database".as_slice(), &[], &whole[..100], half, &zeroed])
    {
        fs::write(data_file(&prefix), bytes).unwrap();
        let (name, peers, set_aside) = contents(&prefix);
        assert_eq!((name, peers), (None, None));
        let set_aside = set_aside.unwrap();
        let text = set_aside.to_string();
        assert!(text.contains("lost: the name of this peer, the peers it"), "{text}");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(fs::read(&set_aside.copy).unwrap(), bytes);
        let ending = if number == 1 { "damaged".into() } else { format!("damaged-{number}") };
        assert!(set_aside.copy.to_str().unwrap().ends_with(&ending), "{text}");
        assert_eq!(contents(&prefix).2, None, "the new one is in order");
    }
}

#[test]
fn what_can_be_read_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    {
        let state = opened(&prefix);
        state.write(PEER_NAME, "no name").unwrap();
        state.set_direct_peers(&targets(&["a"])).unwrap();
    }
    let (name, peers, set_aside) = contents(&prefix);
    assert_eq!((name, peers), (None, Some(targets(&["a"]))));
    assert_eq!(set_aside.unwrap().lost, ["the name of this peer"]);
    assert_eq!(contents(&prefix), (None, Some(targets(&["a"])), None));
}

/// Whatever is wrong with the file, the router starts, and with what it knew if it says
/// nothing of damage.
#[test]
fn no_damage_keeps_a_router_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
    let before = (Some(name), Some(targets(&["a", "b:1"])));
    {
        let state = opened(&prefix);
        state.set_peer_name(name).unwrap();
        state.set_direct_peers(&targets(&["a", "b:1"])).unwrap();
    }
    let whole = fs::read(data_file(&prefix)).unwrap();
    for round in 0..48 {
        let mut bytes = whole.clone();
        // Of what is used at all, the end of the file being free.
        let place = round * 641 % bytes.len().min(32_768);
        match round % 3 {
            0 => bytes[place] ^= 0x41,
            1 => bytes[place..].iter_mut().take(64).for_each(|byte| *byte = 0xff),
            _ => bytes.truncate(place),
        }
        let copy = directory.path().join(format!("copy{round}-"));
        fs::write(data_file(&copy), bytes).unwrap();
        let (name, peers, set_aside) = contents(&copy);
        assert!(set_aside.is_some() || (name, peers) == before, "round {round}");
        fs::remove_file(data_file(&copy)).unwrap();
    }
}
