//! The file that the state lies in.
//!
//! One redb file, `<prefix>data.redb`. Each change is one transaction that is on the disk when
//! the call returns, so that a killed process or a power cut leaves the old state or the new.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{UnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError,
};
use serde::de::DeserializeOwned;
use weave_core::mesh::PeerName;
use weave_ipam::Ring;
use weave_ipam::allocator::{Stored, Update};
use weave_ipam::message::{Holding, decode_ring, encode_raw_ring};

use super::StateError;
use super::paths::{data_file, make_directory, sync_directory, with_suffix};
use super::weave_net::{self, FLAGS, LegacyState};

/// Values are JSON.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("top");
/// The allocator's, in the encoding of its own messages: by holder, and the ring under no name.
const IPAM: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ipam");
/// The same for other peers and ranges, by these, [`SEPARATOR`] and the key.
const ASIDE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ipamAside");
/// Not in the name of a peer or a range.
const SEPARATOR: char = '\n';
/// Not the name of any holder.
const RING: &str = "";
pub(super) const VERSION: &str = "version";
pub(super) const PEER_NAME: &str = "peerName";
pub(super) const DIRECT_PEERS: &str = "directPeers";
pub(super) const EXPOSED: &str = "exposed";
/// The transaction of the file of Weave Net 2.x that was taken over.
const TAKEN_OVER: &str = "takenOver";
/// What this program writes. A change that an older program would misread takes a new number.
const CURRENT_VERSION: u64 = 1;

/// The open file. Nobody else can open it meanwhile, unless it is a copy in memory.
#[derive(Debug)]
pub(super) struct DataFile {
    database: Database,
    path: PathBuf,
}

/// The key of a note, which is none of the node's own.
pub(super) fn note(name: &str) -> String {
    format!("note:{name}")
}

thread_local! {
    /// A panic in this thread is caught, and told of in better words.
    static EXPECTS_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether a panic of the current thread is caught here and becomes an error with a better
/// text: a panic hook need not print it. The hook is the process's, so a library sets none.
pub fn is_expected_panic() -> bool {
    EXPECTS_PANIC.get()
}

/// Runs `work`, and catches a panic in it.
fn quietly<T>(work: impl FnOnce() -> T + UnwindSafe) -> thread::Result<T> {
    EXPECTS_PANIC.set(true);
    let result = catch_unwind(work);
    EXPECTS_PANIC.set(false);
    result
}

/// Its bytes, in memory.
fn copy(file: &FileBackend) -> io::Result<InMemoryBackend> {
    let length = file.len()?;
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read(0, &mut bytes)?;
    let copy = InMemoryBackend::new();
    copy.set_len(length)?;
    StorageBackend::write(&copy, 0, &bytes)?;
    Ok(copy)
}

impl DataFile {
    /// Opens the file of this prefix, or makes it.
    ///
    /// One that is damaged is refused: a router that forgot which addresses it gave out might give
    /// them out again.
    pub(super) fn open(prefix: &Path) -> Result<Self, StateError> {
        make_directory(prefix)?;
        let path = &data_file(prefix);
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(prefix, path)?,
            // Other errors come again when it is opened.
            Ok(_) | Err(_) => {}
        }
        let file = fs::File::options().read(true).write(true).open(path);
        let file = file.map_err(|error| StateError::access("open", path, &error))?;
        let file = FileBackend::new(file).map_err(|error| StateError::open(path, error))?;
        // What is opened is mended and written to. Whatever is refused shall stay as it is.
        Self::copy_of(path, &file)?;
        let file = Self::look(path, || Database::builder().create_with_backend(file))?;
        file.follow(prefix)?;
        Ok(file)
    }

    /// A copy of the file of this prefix as it can be read, or of none if there is none. What is
    /// written to it is lost.
    pub(super) fn open_copy(prefix: &Path) -> Result<Self, StateError> {
        let path = &data_file(prefix);
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let empty = InMemoryBackend::new();
                let copy = Self::look(path, || Database::builder().create_with_backend(empty))?;
                if let Some(state) = weave_net::read(prefix)? {
                    copy.take_over(&state)?;
                }
                return Ok(copy);
            }
            Err(error) => return Err(StateError::access("open", path, &error)),
        };
        let file = FileBackend::new(file).map_err(|error| StateError::open(path, error))?;
        Self::copy_of(path, &file)
    }

    /// A copy in memory, of which all was read.
    fn copy_of(path: &Path, file: &FileBackend) -> Result<Self, StateError> {
        let failed = |error: io::Error| StateError::access("open", path, &error);
        if file.len().map_err(failed)? == 0 {
            let what = "it is empty".to_owned();
            return Err(StateError::Damaged { path: path.to_owned(), what });
        }
        let copy = copy(file).map_err(failed)?;
        let copy = Self::look(path, || Database::builder().create_with_backend(copy))?;
        copy.read_all()?;
        Ok(copy)
    }

    /// Whether all of it can be read.
    fn read_all(&self) -> Result<(), StateError> {
        self.peer_name()?;
        self.direct_peers()?;
        self.exposed()?;
        self.ipam().map(drop)
    }

    /// A new file appears whole, with what Weave Net left for this prefix: whoever is killed while
    /// it is made leaves none of that name.
    fn create(prefix: &Path, path: &Path) -> Result<(), StateError> {
        let legacy = weave_net::read(prefix)?;
        let failed = |action| move |error: io::Error| StateError::access(action, path, &error);
        let new = with_suffix(path, ".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("make")(error));
            }
            _ => {}
        }
        let file = Self::look(&new, || Database::create(&new))?;
        if let Some(legacy) = &legacy {
            file.take_over(legacy)?;
        }
        drop(file);
        fs::rename(&new, path).map_err(failed("make"))?;
        // The name is on the disk before anybody relies on what is in the file.
        sync_directory(path).map_err(failed("make"))
    }

    /// Takes the state of Weave Net over once more if that has changed it since.
    fn follow(&self, prefix: &Path) -> Result<(), StateError> {
        let Some(taken_over) = self.read::<u64>(TAKEN_OVER)? else { return Ok(()) };
        match weave_net::newest_transaction(prefix)? {
            Some(newest) if newest != taken_over => {}
            Some(_) | None => return Ok(()),
        }
        let Some(state) = weave_net::read(prefix)? else { return Ok(()) };
        tracing::warn!(
            "Weave Net 2.x has run since its state was taken over: it is taken over again, in place \
             of what was given out before that"
        );
        self.take_over(&state)
    }

    /// Stores what Weave Net knew in place of what there is: all of it or nothing.
    fn take_over(&self, state: &LegacyState) -> Result<(), StateError> {
        let LegacyState { transaction, peer_name, direct_peers, ring, holdings, flags } = state;
        let mut values = BTreeMap::new();
        let mut put = |key: &str, value: serde_json::Result<Vec<u8>>| -> Result<(), StateError> {
            let value = value.map_err(|error| StateError::value(key, &error))?;
            values.insert(key.to_owned(), value);
            Ok(())
        };
        put(TAKEN_OVER, serde_json::to_vec(transaction))?;
        for (name, text) in flags {
            put(&note(name), serde_json::to_vec(text))?;
        }
        if let Some(name) = peer_name {
            put(PEER_NAME, serde_json::to_vec(&name.to_string()))?;
        }
        if let Some(targets) = direct_peers {
            put(DIRECT_PEERS, serde_json::to_vec(targets))?;
        }
        let holding = |(holder, held): (&String, &Holding)| (holder.clone(), Some(held.encode()));
        let ipam = Update {
            clear: true,
            ring: ring.as_ref().map(encode_raw_ring),
            holdings: holdings.iter().map(holding).collect(),
        };
        self.change(&values, &ipam)?;
        let addresses: usize = holdings.values().map(|holding| holding.cidrs.len()).sum();
        let name = peer_name.map_or_else(|| "a peer without a name".to_owned(), |n| n.to_string());
        tracing::info!(
            "the state of Weave Net 2.x is taken over: {name}, {addresses} addresses of {} holders, \
             {} targets",
            holdings.len(),
            direct_peers.as_ref().map_or(0, Vec::len)
        );
        Ok(())
    }

    /// What Weave Net would know in our place. From now on a file of Weave Net for this prefix that
    /// is another than the one that is there, as the one to be made of this is, is taken over.
    pub(super) fn legacy_state(&self, prefix: &Path) -> Result<LegacyState, StateError> {
        let Stored { ring, holdings } = self.ipam()?;
        let present = weave_net::newest_transaction(prefix)?.unwrap_or(1);
        let value = present.to_string().into_bytes();
        self.write(&[(TAKEN_OVER.to_owned(), value)].into())?;
        let mut flags = BTreeMap::new();
        for name in FLAGS {
            let text = self.read::<String>(&note(name))?;
            flags.extend(text.map(|text| (name.to_owned(), text)));
        }
        Ok(LegacyState {
            transaction: present.saturating_add(1),
            peer_name: self.peer_name()?,
            direct_peers: self.direct_peers()?,
            ring,
            holdings,
            flags,
        })
    }

    /// Opens a database, and looks whether all of it is in order.
    pub(super) fn look(
        path: &Path,
        open: impl FnOnce() -> Result<Database, DatabaseError> + UnwindSafe,
    ) -> Result<Self, StateError> {
        let open = || {
            let mut database = open().map_err(|error| StateError::open(path, error))?;
            // Without this look, damage shows when something is read or written, or never.
            match database.check_integrity() {
                Ok(true) => Ok(database),
                // It would go on from an older state.
                Ok(false) => {
                    let what = "what was written last is not in order".to_owned();
                    Err(StateError::Damaged { path: path.to_owned(), what })
                }
                Err(error) => Err(StateError::open(path, error)),
            }
        };
        let senseless = |_| {
            let what = "it makes no sense".to_owned();
            Err(StateError::Damaged { path: path.to_owned(), what })
        };
        // The library takes some of what it reads at its word.
        let database = quietly(open).unwrap_or_else(senseless)?;
        let state = Self { database, path: path.to_owned() };
        match state.read::<u64>(VERSION)? {
            None => {
                let version = CURRENT_VERSION.to_string().into_bytes();
                state.write(&[(VERSION.to_owned(), version)].into())?;
            }
            Some(CURRENT_VERSION) => {}
            Some(found) => {
                return Err(StateError::Version {
                    path: state.path,
                    found,
                    known: CURRENT_VERSION,
                });
            }
        }
        Ok(state)
    }

    /// The name this peer had before.
    pub(super) fn peer_name(&self) -> Result<Option<PeerName>, StateError> {
        match self.read::<String>(PEER_NAME)? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error| self.damaged(PEER_NAME, error)),
        }
    }

    /// The peers the user asked for when the router ran last; `None` if it never did.
    pub(super) fn direct_peers(&self) -> Result<Option<Vec<String>>, StateError> {
        self.read(DIRECT_PEERS)
    }

    /// The addresses of the host on the bridge, as `10.32.0.1/12`, and whether each is
    /// masqueraded.
    pub(super) fn exposed(&self) -> Result<Vec<(String, bool)>, StateError> {
        Ok(self.read(EXPOSED)?.unwrap_or_default())
    }

    /// What the address allocator stored.
    pub(super) fn ipam(&self) -> Result<Stored, StateError> {
        let failed = |error: redb::Error| StateError::read(&self.path, error);
        let transaction = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let table = match transaction.open_table(IPAM) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Stored::default()),
            Err(error) => return Err(failed(error.into())),
        };
        let mut stored = Stored::default();
        for row in table.iter().map_err(|error| failed(error.into()))? {
            let (holder, value) = row.map_err(|error| failed(error.into()))?;
            match holder.value() {
                RING => {
                    let ring = decode_ring(value.value());
                    let ring = ring.map_err(|error| self.damaged("ipam", error))?;
                    Ring::try_from(ring.clone()).map_err(|error| self.damaged("ipam", error))?;
                    stored.ring = Some(ring);
                }
                holder => {
                    let holding = Holding::decode(value.value());
                    let holding = holding.map_err(|error| self.damaged("ipam", error))?;
                    stored.holdings.insert(holder.to_owned(), holding);
                }
            }
        }
        Ok(stored)
    }

    /// Stores a change of what the address allocator knows: all of it or nothing.
    pub(super) fn update_ipam(&self, update: &Update) -> Result<(), StateError> {
        self.change(&BTreeMap::new(), update)
    }

    /// Values by their keys, and what the allocator knows: all of it or nothing.
    fn change(
        &self,
        values: &BTreeMap<String, Vec<u8>>,
        update: &Update,
    ) -> Result<(), StateError> {
        let attempt = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            if !values.is_empty() {
                let mut table = transaction.open_table(TABLE)?;
                for (key, value) in values {
                    table.insert(key.as_str(), value.as_slice())?;
                }
            }
            if update.clear {
                transaction.delete_table(IPAM)?;
            }
            if values.is_empty() || !update.is_empty() {
                let mut table = transaction.open_table(IPAM)?;
                if let Some(ring) = &update.ring {
                    table.insert(RING, ring.as_slice())?;
                }
                for (holder, holding) in &update.holdings {
                    match holding {
                        Some(holding) => table.insert(holder.as_str(), holding.as_slice())?,
                        None => table.remove(holder.as_str())?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        };
        attempt().map_err(|error| StateError::write(&self.path, error))
    }

    /// Takes what is stored of another peer or range out of the way, if there is any, and puts back
    /// what was under this name. Says whether there was anything.
    pub(super) fn swap_ipam(&self, before: Option<&str>, wanted: &str) -> Result<bool, StateError> {
        let rows = |table: &redb::Table<'_, &str, &[u8]>| -> Result<_, redb::Error> {
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(rows)
        };
        let attempt = || -> Result<bool, redb::Error> {
            let transaction = self.database.begin_write()?;
            let found = {
                let mut current = transaction.open_table(IPAM)?;
                let mut aside = transaction.open_table(ASIDE)?;
                let prefix = format!("{wanted}{SEPARATOR}");
                let back: Vec<_> = rows(&aside)?
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value)))
                    .collect();
                if before.is_none() && back.is_empty() {
                    return Ok(false);
                }
                for (key, value) in rows(&current)? {
                    current.remove(key.as_str())?;
                    if let Some(before) = before {
                        let key = format!("{before}{SEPARATOR}{key}");
                        aside.insert(key.as_str(), value.as_slice())?;
                    }
                }
                for (key, value) in &back {
                    aside.remove(format!("{prefix}{key}").as_str())?;
                    current.insert(key.as_str(), value.as_slice())?;
                }
                !back.is_empty()
            };
            transaction.commit()?;
            Ok(found)
        };
        attempt().map_err(|error| StateError::write(&self.path, error))
    }

    pub(super) fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
        let failed = |error: redb::Error| StateError::read(&self.path, error);
        let transaction = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let table = match transaction.open_table(TABLE) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let Some(value) = table.get(key).map_err(|error| failed(error.into()))? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(value.value());
        value.map(Some).map_err(|error| self.damaged(key, error))
    }

    /// Stores values by their keys: all of them or none.
    pub(super) fn write(&self, values: &BTreeMap<String, Vec<u8>>) -> Result<(), StateError> {
        self.change(values, &Update::default())
    }

    fn damaged(&self, key: &str, error: impl std::fmt::Display) -> StateError {
        StateError::Damaged { path: self.path.clone(), what: format!("{key}: {error}") }
    }
}
