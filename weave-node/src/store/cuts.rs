//! The store on a disk that stops at any write: the router is killed, the power goes, or the disk
//! is full. What a router that starts from it says never contradicts what was said before.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redb::{Database, StorageBackend};
use weave_core::mesh::{PeerName, Uid};
use weave_core::time::Instant;
use weave_ipam::allocator::{Answer, Origin, Output, RequestId, Stored};
use weave_ipam::{AddressSet, Allocator, Cidr, Config, Subnet};

use super::file::DataFile;
use super::{FileStore, StateError, Store as _};

/// Disks write sectors of this size whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    Length(usize),
    Sync,
}

impl Op {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = offset + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Sync => {}
        }
    }

    /// What there is of it if it is cut in the middle: some of its sectors.
    fn torn(&self) -> Option<Self> {
        match self {
            Self::Write(offset, data) if data.len() > SECTOR => {
                let half = (data.len() / 2).next_multiple_of(SECTOR).min(data.len());
                Some(Self::Write(*offset, data[..half].to_vec()))
            }
            _ => None,
        }
    }
}

/// What an interrupted router finds of the writes since the last one that was waited for.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// All: it was killed, and the kernel went on.
    Kill,
    /// All, and a piece of the one that was under way.
    KillInWrite,
    /// None: the power went.
    PowerNone,
    /// Each second one, beginning with the first or the second.
    PowerSome(usize),
    /// The last one alone.
    PowerLast,
    /// All of them torn.
    PowerTorn,
}

const CUTS: [Cut; 7] = [
    Cut::Kill,
    Cut::KillInWrite,
    Cut::PowerNone,
    Cut::PowerSome(0),
    Cut::PowerSome(1),
    Cut::PowerLast,
    Cut::PowerTorn,
];

/// The file as it is found after a cut: `bytes` is what was waited for, `rest` what was written
/// after that, and `next` what was under way.
fn image(mut bytes: Vec<u8>, rest: &[Op], next: Option<&Op>, cut: Cut) -> Vec<u8> {
    for (number, op) in rest.iter().enumerate() {
        match cut {
            Cut::Kill | Cut::KillInWrite => op.apply(&mut bytes),
            Cut::PowerSome(first) if number % 2 == first => op.apply(&mut bytes),
            Cut::PowerLast if number + 1 == rest.len() => op.apply(&mut bytes),
            Cut::PowerTorn => op.torn().unwrap_or_else(|| op.clone()).apply(&mut bytes),
            Cut::PowerNone | Cut::PowerSome(_) | Cut::PowerLast => {}
        }
    }
    if let (Cut::KillInWrite, Some(op)) = (cut, next.and_then(Op::torn)) {
        op.apply(&mut bytes);
    }
    bytes
}

/// A disk in memory that remembers what was done to it, and fails if it is told to.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    ops: Vec<Op>,
    /// This operation and all later ones fail, a write after half of it.
    fails_at: Option<usize>,
    /// After so many failures there is room again, if ever.
    failures: Option<usize>,
}

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Log { bytes, ..Log::default() })))
    }

    fn failing_at(number: usize) -> Self {
        Self(Arc::new(Mutex::new(Log { fails_at: Some(number), ..Log::default() })))
    }

    fn failing_for_a_while(number: usize, failures: usize) -> Self {
        let disk = Self::failing_at(number);
        disk.log().failures = Some(failures);
        disk
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    fn done(&self) -> usize {
        self.log().ops.len()
    }

    fn open(&self) -> Result<FileStore, StateError> {
        let disk = self.clone();
        let open = move || {
            let backend = disk.clone();
            DataFile::look(Path::new("disk"), || Database::builder().create_with_backend(backend))
        };
        let disk = self.clone();
        let copy = move || {
            let backend = Self::of(disk.log().bytes.clone());
            DataFile::look(Path::new("disk"), || Database::builder().create_with_backend(backend))
        };
        Ok(FileStore::of(open()?, None, Box::new(open), Box::new(copy)))
    }

    fn act(&self, op: Op) -> io::Result<()> {
        let mut log = self.log();
        if log.fails_at.is_some_and(|number| log.ops.len() >= number) {
            if let Some(torn) = op.torn() {
                torn.apply(&mut log.bytes);
            }
            if let Some(left) = log.failures.as_mut() {
                *left -= 1;
                if *left == 0 {
                    log.fails_at = None;
                }
            }
            return Err(io::ErrorKind::StorageFull.into());
        }
        op.apply(&mut log.bytes);
        log.ops.push(op);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.log().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let log = self.log();
        let start = usize::try_from(offset).unwrap();
        let found = log.bytes.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.act(Op::Length(usize::try_from(length).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.act(Op::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.act(Op::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

/// What is true once so many operations are done.
#[derive(Clone)]
struct Moment {
    done: usize,
    stored: Stored,
    targets: Option<Vec<String>>,
    /// What was said to those who asked.
    given: BTreeMap<String, u32>,
    /// What the other peer was told that it owns.
    others: AddressSet,
}

/// A router that keeps its state, and a peer it exchanges space with.
struct Session {
    disk: Disk,
    state: FileStore,
    ours: Allocator,
    other: Allocator,
    asked: u64,
    waiting: BTreeMap<RequestId, String>,
    now: Instant,
    moments: Vec<Moment>,
    /// A disk that fails is tried again.
    patient: bool,
}

fn name(number: u64) -> PeerName {
    PeerName::from_u64(number).unwrap()
}

fn universe() -> Subnet {
    "10.32.0.0/27".parse().unwrap()
}

fn allocator(number: u64, stored: Stored) -> Allocator {
    let config = Config {
        name: name(number),
        uid: Uid(number),
        nickname: format!("host{number}"),
        universe: universe(),
        // The third one is never there.
        origin: Origin::Seed([1, 2, 3].map(name).to_vec()),
    };
    let mut allocator = Allocator::new(config, stored, Vec::new(), [7; 32], Instant::ORIGIN);
    allocator.set_reachable([1, 2].map(name).into());
    allocator
}

fn stored(state: &FileStore) -> Result<Stored, StateError> {
    state.ipam(name(1), universe().range())
}

impl Session {
    fn begin(disk: &Disk) -> Result<Self, StateError> {
        let state = disk.open()?;
        let first = Moment {
            done: disk.done(),
            stored: Stored::default(),
            targets: None,
            given: BTreeMap::new(),
            others: AddressSet::default(),
        };
        Ok(Self {
            disk: disk.clone(),
            ours: allocator(1, stored(&state)?),
            state,
            other: allocator(2, Stored::default()),
            asked: 0,
            waiting: BTreeMap::new(),
            now: Instant::ORIGIN,
            moments: vec![first],
            patient: false,
        })
    }

    /// What happens, until the disk fails if it does.
    fn run(&mut self) -> Result<(), StateError> {
        self.settle()?;
        self.targets(&["a"])?;
        for round in 0..3 {
            for number in 0..4 {
                self.allocate(&format!("c{round}-{number}"))?;
            }
            self.claim(&format!("claim{round}"), 5 + round)?;
            self.release(&format!("c{round}-1"))?;
            // More than it has: the other one gives some, or some is given to it.
            if round == 1 {
                let ours = self.now;
                assert!(self.ours.take_over(ours, &name(3).to_string()) > 0);
                self.settle()?;
            }
            for number in 0..6 {
                self.allocate_at_other(&format!("other{round}-{number}"))?;
            }
            self.targets(&["a", &format!("b{round}")])?;
        }
        for number in 0..6 {
            self.allocate(&format!("late{number}"))?;
        }
        Ok(())
    }

    fn fails(&self, error: StateError) -> Result<(), StateError> {
        assert!(self.state.fault().is_some());
        if self.patient { Ok(()) } else { Err(error) }
    }

    fn moment(&mut self) {
        let last = self.moments.last().unwrap();
        let mut others = self.other.space().free().clone();
        self.other.space().used().iter().for_each(|range| others.insert(range));
        let moment = Moment { done: self.disk.done(), others, ..last.clone() };
        self.moments.push(moment);
    }

    fn now_true(&mut self, change: impl FnOnce(&mut Moment)) {
        self.moment();
        change(self.moments.last_mut().unwrap());
    }

    fn targets(&mut self, targets: &[&str]) -> Result<(), StateError> {
        let targets: Vec<String> = targets.iter().map(|text| (*text).to_owned()).collect();
        while let Err(error) = self.state.set_direct_peers(&targets) {
            self.fails(error)?;
        }
        self.now_true(|moment| moment.targets = Some(targets));
        Ok(())
    }

    fn ask(&mut self, holder: &str) -> RequestId {
        self.asked += 1;
        self.waiting.insert(RequestId(self.asked), holder.to_owned());
        RequestId(self.asked)
    }

    fn allocate(&mut self, holder: &str) -> Result<(), StateError> {
        let request = self.ask(holder);
        self.ours.allocate(self.now, request, holder, universe(), false);
        self.settle()
    }

    fn claim(&mut self, holder: &str, place: u32) -> Result<(), StateError> {
        let request = self.ask(holder);
        let address = universe().range().start + place;
        let cidr = Cidr::new(address.into(), 27).unwrap();
        self.ours.claim(self.now, request, holder, cidr, false, false);
        self.settle()
    }

    fn release(&mut self, holder: &str) -> Result<(), StateError> {
        // Whoever gives it back no longer relies on it, stored or not.
        self.now_true(|moment| {
            moment.given.remove(holder);
        });
        self.ours.release_all(self.now, holder).unwrap();
        self.settle()
    }

    fn allocate_at_other(&mut self, holder: &str) -> Result<(), StateError> {
        // Answers at the other one are not looked at.
        self.other.allocate(self.now, RequestId(0), holder, universe(), false);
        self.other_speaks();
        self.settle()?;
        self.now += Duration::from_secs(5);
        self.ours.handle_timeout(self.now);
        self.other.handle_timeout(self.now);
        self.other_speaks();
        self.settle()
    }

    /// Does what our allocator wants, in the order of the router.
    fn settle(&mut self) -> Result<(), StateError> {
        while let Some(output) = self.ours.poll_output() {
            match output {
                Output::Store(update) => {
                    while let Err(error) = self.state.update_ipam(&update) {
                        self.fails(error)?;
                    }
                    let stored = stored(&self.state)?;
                    self.now_true(|moment| moment.stored = stored);
                }
                Output::Unicast { to, payload } if to == name(2) => {
                    self.other.handle_unicast(self.now, name(1), &payload).unwrap();
                }
                Output::Broadcast => {
                    let state = self.ours.state(0).encode();
                    self.other.handle_gossip(self.now, Some(name(1)), &state).unwrap();
                }
                Output::Answer { request, answer } => {
                    let holder = self.waiting.remove(&request).unwrap();
                    let held = self.ours.holders().find(|(who, _)| **who == holder);
                    if let Ok(Answer::Allocated(_) | Answer::Claimed) = answer {
                        let address = held.unwrap().1[0].address().to_bits();
                        self.now_true(|moment| {
                            moment.given.insert(holder, address);
                        });
                    }
                }
                Output::Unicast { .. } | Output::Probe(_) | Output::Event(_) => {}
            }
            self.other_speaks();
            self.moment();
        }
        Ok(())
    }

    fn other_speaks(&mut self) {
        while let Some(output) = self.other.poll_output() {
            match output {
                Output::Unicast { to, payload } if to == name(1) => {
                    self.ours.handle_unicast(self.now, name(2), &payload).unwrap();
                }
                Output::Broadcast => {
                    let state = self.other.state(0).encode();
                    self.ours.handle_gossip(self.now, Some(name(2)), &state).unwrap();
                }
                _ => {}
            }
        }
    }
}

/// A router finds this on its disk after `done` operations; `moments` is what happened.
fn check(bytes: Vec<u8>, done: usize, moments: &[Moment], cut: &str) {
    let next = moments.partition_point(|moment| moment.done <= done);
    let Some(last) = next.checked_sub(1).map(|last| &moments[last]) else {
        // The file does not have its name yet.
        return;
    };
    let context = format!("operation {done}, {cut}");
    let state = Disk::of(bytes).open();
    let state = state.unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = stored(&state).unwrap_or_else(|error| panic!("{context}: {error}"));
    let targets = state.direct_peers().unwrap();
    let after = moments.get(next).unwrap_or(last);
    assert!(found == last.stored || found == after.stored, "{context}: neither before nor after");
    assert!(targets == last.targets || targets == after.targets, "{context}: {targets:?}");

    // Whatever was begun was seeded before, so that nothing is divided anew.
    if found.ring.is_none() {
        return;
    }
    let mut allocator = allocator(1, found);
    for (holder, address) in &last.given {
        let held = allocator.holders().find(|(who, _)| who == holder);
        let held =
            held.is_some_and(|(_, cidrs)| cidrs.iter().any(|c| c.address().to_bits() == *address));
        assert!(held, "{context}: {holder} lost {}", Ipv4Addr::from_bits(*address));
    }
    for number in 0..u64::from(universe().range().size()) {
        let holder = format!("new{number}");
        allocator.allocate(Instant::ORIGIN, RequestId(number), &holder, universe(), false);
    }
    while let Some(output) = allocator.poll_output() {
        let Output::Answer { answer: Ok(Answer::Allocated(cidr)), .. } = output else { continue };
        let address = cidr.address().to_bits();
        let twice = last.given.values().any(|given| *given == address);
        assert!(!twice, "{context}: {cidr} is given out twice");
        assert!(!last.others.contains(address), "{context}: {cidr} is of the other peer");
    }
}

#[test]
fn whatever_is_cut_leaves_the_state_before_or_after() {
    let disk = Disk::default();
    let mut session = Session::begin(&disk).unwrap();
    session.run().unwrap();
    let ops = disk.log().ops.clone();
    assert!(session.moments.iter().any(|moment| moment.given.len() > 10), "little was given out");
    let (mut synced, mut since) = (Vec::new(), 0);
    for at in 0..=ops.len() {
        let mut seen = Vec::new();
        for cut in CUTS {
            let bytes = image(synced.clone(), &ops[since..at], ops.get(at), cut);
            if !seen.contains(&bytes) {
                check(bytes.clone(), at, &session.moments, &format!("{cut:?}"));
                seen.push(bytes);
            }
        }
        if let Some(Op::Sync) = ops.get(at) {
            ops[since..at].iter().for_each(|op| op.apply(&mut synced));
            since = at;
        }
    }
}

/// The router says nothing any more, and the next one goes on from what was said.
#[test]
fn a_disk_that_fails_keeps_what_was_said() {
    let (done, moments) = {
        let disk = Disk::default();
        let mut session = Session::begin(&disk).unwrap();
        session.run().unwrap();
        (disk.done(), session.moments)
    };
    // What closing the file writes is not looked at.
    for at in 0..done {
        let disk = Disk::failing_at(at);
        let error = match Session::begin(&disk) {
            Err(error) => error,
            Ok(mut session) => session.run().unwrap_err(),
        };
        let text = error.to_string();
        assert!(matches!(error, StateError::Access { .. }), "operation {at}: {text}");
        assert_eq!(text.lines().count(), 1);
        check(disk.log().bytes.clone(), at, &moments, "the disk is full");
    }
}

/// The router waits until there is room, and goes on from there as if nothing had been.
#[test]
fn a_disk_that_was_full_is_used_again() {
    let (begun, done, whole) = {
        let disk = Disk::default();
        let mut session = Session::begin(&disk).unwrap();
        let begun = disk.done();
        session.run().unwrap();
        (begun, disk.done(), session.moments.pop().unwrap())
    };
    for at in begun..done {
        let disk = Disk::failing_for_a_while(at, 1 + at % 9);
        let mut session = Session::begin(&disk).unwrap();
        session.patient = true;
        session.run().unwrap_or_else(|error| panic!("operation {at}: {error}"));
        assert_eq!(session.state.fault(), None, "operation {at}");
        let last = session.moments.pop().unwrap();
        assert!(last.given == whole.given && last.stored == whole.stored, "operation {at}");
        check(disk.log().bytes.clone(), usize::MAX, &[last], "after it was full");
    }
}
