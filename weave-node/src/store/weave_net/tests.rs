use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use weave_ipam::message::Holding;
use weave_ipam::{Range, Ring};

use super::*;
use crate::store::file::DataFile;
use crate::store::{
    FileStore, RolledBack, StateError, Store as _, data_file, roll_back, with_suffix,
};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/state-bolt");

/// A place with the file of one of the routers.
fn after_router(number: u8) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave-net");
    let file = format!("{VECTORS}/router-{number}data.db");
    fs::copy(file, legacy_file(&prefix)).unwrap();
    (directory, prefix)
}

fn expected(number: u8) -> Value {
    let text = fs::read_to_string(format!("{VECTORS}/expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[number.to_string()].take()
}

fn universe() -> Range {
    "10.32.0.0/12".parse::<weave_ipam::Subnet>().unwrap().range()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Who has which addresses, as `GET /ip` of the original says it.
fn owned(expected: &Value) -> BTreeMap<String, Vec<String>> {
    let owned: Value = serde_json::from_str(&text(&expected["owned"])).unwrap();
    let holders = owned["owned"].as_array().unwrap().iter();
    let addresses = |holder: &Value| holder["addrs"].as_array().unwrap().iter().map(text).collect();
    holders.map(|holder| (text(&holder["containerid"]), addresses(holder))).collect()
}

fn texts(holdings: &BTreeMap<String, Holding>) -> BTreeMap<String, Vec<String>> {
    let texts = |held: &Holding| held.cidrs.iter().map(ToString::to_string).collect();
    holdings.iter().map(|(holder, held)| (holder.clone(), texts(held))).collect()
}

#[test]
fn a_first_start_goes_on_where_the_original_ended() {
    for number in 1..=3 {
        let (_directory, prefix) = after_router(number);
        let (expected, before) = (expected(number), fs::read(legacy_file(&prefix)).unwrap());
        let store = FileStore::open(&prefix).unwrap();
        let name = store.peer_name().unwrap().unwrap();
        assert_eq!(name.to_string(), expected["peer"]);
        let targets = store.direct_peers().unwrap().unwrap_or_default();
        assert_eq!(
            Value::from(targets),
            match &expected["targets"] {
                Value::Null => Value::Array(Vec::new()),
                targets => targets.clone(),
            }
        );
        let flag = store.note("peer-reclaim").unwrap();
        assert_eq!(flag.as_deref(), (number < 3).then_some("ok"));
        let stored = store.ipam(name, universe()).unwrap();
        assert_eq!(texts(&stored.holdings), owned(&expected));
        let ring = Ring::try_from(stored.ring.unwrap()).unwrap();
        let entries = ring.entries().iter().map(|entry| {
            let token = std::net::Ipv4Addr::from_bits(entry.token).to_string();
            (token, entry.peer.to_string(), u64::from(entry.version))
        });
        let wanted = expected["IPAM"]["Entries"].as_array().unwrap().iter().map(|entry| {
            (text(&entry["Token"]), text(&entry["Peer"]), entry["Version"].as_u64().unwrap())
        });
        assert_eq!(entries.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{number}");
        assert_eq!(fs::read(legacy_file(&prefix)).unwrap(), before, "the old file stays as it was");
    }
}

#[test]
fn what_is_stored_later_is_kept_as_long_as_the_original_does_not_run() {
    let (_directory, prefix) = after_router(1);
    FileStore::open(&prefix).unwrap().set_direct_peers(&["new".to_owned()]).unwrap();
    let store = FileStore::open(&prefix).unwrap();
    assert_eq!(store.direct_peers().unwrap(), Some(vec!["new".to_owned()]));
    drop(store);
    // Gone, it says nothing any more.
    fs::remove_file(legacy_file(&prefix)).unwrap();
    let store = FileStore::open(&prefix).unwrap();
    assert_eq!(store.direct_peers().unwrap(), Some(vec!["new".to_owned()]));
}

#[test]
fn what_the_original_stored_meanwhile_is_taken_over_again() {
    let (_directory, prefix) = after_router(1);
    drop(FileStore::open(&prefix).unwrap());
    fs::copy(format!("{VECTORS}/router-2data.db"), legacy_file(&prefix)).unwrap();
    let store = FileStore::open(&prefix).unwrap();
    let name = store.peer_name().unwrap().unwrap();
    assert_eq!(name.to_string(), expected(2)["peer"]);
    let stored = store.ipam(name, universe()).unwrap();
    assert_eq!(texts(&stored.holdings), owned(&expected(2)), "nothing of before is left");
}

#[test]
fn a_router_that_was_killed_while_it_took_over_does_it_again() {
    let (_directory, prefix) = after_router(1);
    // As far as it got.
    fs::write(with_suffix(&data_file(&prefix), ".new"), b"half a file").unwrap();
    let store = FileStore::open(&prefix).unwrap();
    assert_eq!(store.peer_name().unwrap().unwrap().to_string(), expected(1)["peer"]);
}

#[test]
fn a_disk_that_cannot_be_written_hides_nothing() {
    let (_directory, prefix) = after_router(2);
    let copy = DataFile::open_copy(&prefix).unwrap();
    assert_eq!(copy.peer_name().unwrap().unwrap().to_string(), expected(2)["peer"]);
    assert_eq!(texts(&copy.ipam().unwrap().holdings), owned(&expected(2)));
    assert!(!data_file(&prefix).exists());
}

#[test]
fn a_file_that_says_nothing_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    fs::write(legacy_file(&prefix), b"").unwrap();
    assert_eq!(FileStore::open(&prefix).unwrap().peer_name().unwrap(), None);
    fs::remove_file(data_file(&prefix)).unwrap();
    let nothing = weave_bolt::encode(&weave_bolt::Bucket::default(), 1).unwrap();
    fs::write(legacy_file(&prefix), nothing).unwrap();
    assert_eq!(FileStore::open(&prefix).unwrap().peer_name().unwrap(), None);
}

/// The router does not start, on one line, and makes no file that would hide this one next time.
fn refused(prefix: &Path, why: &str) {
    let error = FileStore::open(prefix).unwrap_err();
    assert!(matches!(error, StateError::Legacy { .. }) && !error.is_of_the_disk(), "{error}");
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in [why, "move it away", &legacy_file(prefix).display().to_string()] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!data_file(prefix).exists());
}

#[test]
fn a_file_that_is_not_understood_stops_the_start() {
    let (_directory, prefix) = after_router(1);
    let path = legacy_file(&prefix);
    let whole = fs::read(&path).unwrap();
    let write = |bytes: &[u8]| fs::write(&path, bytes).unwrap();

    write(&whole[..whole.len() / 2]);
    refused(&prefix, "is to have");
    write(b"SQLite format 3\0");
    refused(&prefix, "no bolt file");
    let mut state = LegacyState::decode(&whole).unwrap();
    let ring = state.ring.as_mut().unwrap();
    ring.end = ring.start;
    write(&state.encode().unwrap());
    refused(&prefix, "ring: ");

    let value = |key: &'static [u8], bytes: &[u8]| {
        let (mut root, mut top) = (weave_bolt::Bucket::default(), weave_bolt::Bucket::default());
        top.insert(key, weave_bolt::Value::Bytes(bytes));
        root.insert(b"top", weave_bolt::Value::Bucket(top));
        weave_bolt::encode(&root, 1).unwrap()
    };
    for (key, bytes, why) in [
        (&b"version"[..], &[2, 0][..], "its version is [2, 0]"),
        (b"ownedAddresses", &[1, 2], "ownedAddresses: "),
        (b"peername", b"", "peername: "),
        (b"directPeers", &[0xFF], "directPeers: "),
        (b"flag:peer-reclaim", &[0xFF], "a flag: "),
    ] {
        write(&value(key, bytes));
        refused(&prefix, why);
    }
    let mut foreign = weave_bolt::Bucket::default();
    foreign.insert(b"members", weave_bolt::Value::Bucket(weave_bolt::Bucket::default()));
    write(&weave_bolt::encode(&foreign, 1).unwrap());
    refused(&prefix, "of another program");

    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&prefix, "no file");
}

#[test]
fn damage_that_comes_later_stops_the_start_as_well() {
    let (_directory, prefix) = after_router(1);
    drop(FileStore::open(&prefix).unwrap());
    // Nobody can tell whether the original has run.
    fs::write(legacy_file(&prefix), b"damaged").unwrap();
    let error = FileStore::open(&prefix).unwrap_err();
    assert!(matches!(error, StateError::Legacy { .. }), "{error}");
}

#[test]
fn the_original_gets_back_what_it_had_and_what_came_to_it() {
    for number in 1..=3 {
        let (_directory, prefix) = after_router(number);
        let old = fs::read(legacy_file(&prefix)).unwrap();
        let before = LegacyState::decode(&old).unwrap();
        let store = FileStore::open(&prefix).unwrap();
        let docker = "ab".repeat(32);
        let cidrs = vec!["10.32.0.99/12".parse().unwrap()];
        let holding = Holding { is_container: true, cidrs, label: None };
        let holders = [docker.clone(), "1z141z3".to_owned()];
        let holdings = holders.map(|holder| (holder, Some(holding.encode())));
        let update =
            weave_ipam::allocator::Update { holdings: holdings.into(), ..Default::default() };
        store.update_ipam(&update).unwrap();
        let error = roll_back(&prefix).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
        assert_eq!(fs::read(legacy_file(&prefix)).unwrap(), old);
        drop(store);

        let rolled_back = roll_back(&prefix).unwrap();
        let backup = with_suffix(&legacy_file(&prefix), ".before-rollback");
        let aside = with_suffix(&data_file(&prefix), ".rolled-back");
        let addresses = before.holdings.values().map(|held| held.cidrs.len()).sum::<usize>() + 2;
        assert_eq!(
            rolled_back,
            RolledBack::Written {
                path: legacy_file(&prefix),
                backup: Some(backup.clone()),
                aside: aside.clone(),
                addresses,
            }
        );
        assert_eq!(fs::read(backup).unwrap(), old);
        let mut after = LegacyState::decode(&fs::read(legacy_file(&prefix)).unwrap()).unwrap();
        assert_eq!(after.transaction, before.transaction + 1);
        assert_eq!(after.holdings.remove(&docker), Some(holding.clone()));
        let kept = Holding { is_container: false, ..holding };
        assert_eq!(after.holdings.remove("1z141z3"), Some(kept), "Docker does not know it");
        after.transaction = before.transaction;
        assert_eq!(after, before);
        assert!(!data_file(&prefix).exists() && aside.exists());
        assert_eq!(roll_back(&prefix).unwrap(), RolledBack::Nothing { path: data_file(&prefix) });
    }
}

#[test]
fn a_rollback_that_was_killed_half_way_is_done_again() {
    let (_directory, prefix) = after_router(1);
    FileStore::open(&prefix).unwrap().set_direct_peers(&["new".to_owned()]).unwrap();
    roll_back(&prefix).unwrap();
    // Before the last step: both files are there, and say the same.
    fs::rename(with_suffix(&data_file(&prefix), ".rolled-back"), data_file(&prefix)).unwrap();
    let store = FileStore::open(&prefix).unwrap();
    assert_eq!(store.direct_peers().unwrap(), Some(vec!["new".to_owned()]));
    drop(store);
    assert!(matches!(roll_back(&prefix), Ok(RolledBack::Written { .. })));
    // And the next start of ours takes it over.
    let store = FileStore::open(&prefix).unwrap();
    assert_eq!(store.direct_peers().unwrap(), Some(vec!["new".to_owned()]));
}

#[test]
fn a_host_that_never_ran_the_original_can_go_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("weave");
    FileStore::open(&prefix).unwrap().set_peer_name("7a:9f:eb:b6:0c:6e".parse().unwrap()).unwrap();
    let rolled_back = roll_back(&prefix).unwrap();
    assert!(matches!(rolled_back, RolledBack::Written { backup: None, addresses: 0, .. }));
    let store = FileStore::open(&prefix).unwrap();
    assert_eq!(store.peer_name().unwrap().unwrap().to_string(), "7a:9f:eb:b6:0c:6e");
}
