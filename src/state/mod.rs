//! What survives a restart: the peer's name, the peers the user asked for, the addresses of
//! the host on the bridge, and the ring and the holders of addresses.
//!
//! One redb file, `<prefix>data.redb`. Each change is one transaction that is on the disk when
//! the call returns, so that a killed process or a power cut leaves the old state or the new.

mod error;

use std::fs;
use std::io;
use std::panic::{self, UnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use weave_core::mesh::PeerName;
use weave_ipam::Ring;
use weave_ipam::allocator::{Stored, Update};
use weave_ipam::message::{Holding, decode_ring};

pub(crate) use error::StateError;

/// Values are JSON.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("top");
/// The allocator's, in the encoding of its own messages: by holder, and the ring under no name.
const IPAM: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ipam");
/// Not the name of any holder.
const RING: &str = "";
const VERSION: &str = "version";
const PEER_NAME: &str = "peerName";
const DIRECT_PEERS: &str = "directPeers";
const EXPOSED: &str = "exposed";
/// What this program writes. A change that an older program would misread takes a new number.
const CURRENT_VERSION: u64 = 1;

/// The open file. Nobody else can open it meanwhile.
#[derive(Debug)]
pub(crate) struct State {
    database: Database,
    path: PathBuf,
}

/// The file that belongs to a prefix.
pub(crate) fn data_file(prefix: &Path) -> PathBuf {
    with_suffix(prefix, "data.redb")
}

/// The prefix with a text at its end: `/var/lib/weave/weave` and `.log`.
pub(crate) fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Makes the directory that files of this prefix lie in.
pub(crate) fn make_directory(prefix: &Path) -> Result<(), StateError> {
    match prefix.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => fs::create_dir_all(directory)
            .map_err(|source| StateError::Directory { path: directory.to_owned(), source }),
        _ => Ok(()),
    }
}

/// Runs `work`. A panic is not told by itself: the caller has something better to say.
fn quietly<T>(work: impl FnOnce() -> T + UnwindSafe) -> thread::Result<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(work);
    panic::set_hook(hook);
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

impl State {
    /// Opens the file of this prefix, or makes it.
    ///
    /// One that is damaged is refused: a router that forgot which addresses it gave out might give them
    /// out again.
    pub(crate) fn open(prefix: &Path) -> Result<Self, StateError> {
        make_directory(prefix)?;
        let path = &data_file(prefix);
        let failed = |error: io::Error| StateError::Access {
            action: "open",
            path: path.clone(),
            what: error.to_string(),
        };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path)?,
            Ok(metadata) if metadata.is_file() && metadata.len() == 0 => {
                let what = "it is empty".to_owned();
                return Err(StateError::Damaged { path: path.clone(), what });
            }
            // Other errors come again when it is opened.
            Ok(_) | Err(_) => {}
        }
        let file = fs::File::options().read(true).write(true).open(path).map_err(failed)?;
        let file = FileBackend::new(file).map_err(|error| StateError::open(path, error))?;
        // What is opened is mended and written to. Whatever is refused shall stay as it is.
        let copy = copy(&file).map_err(failed)?;
        Self::look(path, || Database::builder().create_with_backend(copy))?.read_all()?;
        Self::look(path, || Database::builder().create_with_backend(file))
    }

    /// Whether all of it can be read.
    fn read_all(&self) -> Result<(), StateError> {
        self.peer_name()?;
        self.direct_peers()?;
        self.exposed()?;
        self.ipam().map(drop)
    }

    /// A new file appears whole: whoever is killed while it is made leaves none of that name.
    fn create(path: &Path) -> Result<(), StateError> {
        let failed = |action| {
            move |error: io::Error| StateError::Access {
                action,
                path: path.to_owned(),
                what: error.to_string(),
            }
        };
        let new = with_suffix(path, ".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("make")(error));
            }
            _ => {}
        }
        drop(Self::look(&new, || Database::create(&new))?);
        fs::rename(&new, path).map_err(failed("make"))?;
        // The name is on the disk before anybody relies on what is in the file.
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = fs::File::open(directory.unwrap_or(Path::new(".")));
        directory.and_then(|directory| directory.sync_all()).map_err(failed("make"))
    }

    /// Opens a database, and looks whether all of it is in order.
    fn look(
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
            None => state.write(VERSION, &CURRENT_VERSION)?,
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
    pub(crate) fn peer_name(&self) -> Result<Option<PeerName>, StateError> {
        match self.read::<String>(PEER_NAME)? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error| self.damaged(PEER_NAME, error)),
        }
    }

    /// Remembers the name of this peer.
    pub(crate) fn set_peer_name(&self, name: PeerName) -> Result<(), StateError> {
        self.write(PEER_NAME, &name.to_string())
    }

    /// The peers the user asked for when the router ran last; `None` if it never did.
    pub(crate) fn direct_peers(&self) -> Result<Option<Vec<String>>, StateError> {
        self.read(DIRECT_PEERS)
    }

    /// Remembers the peers the user asks for.
    pub(crate) fn set_direct_peers(&self, peers: &[String]) -> Result<(), StateError> {
        self.write(DIRECT_PEERS, &peers)
    }

    /// The addresses of the host on the bridge, as `10.32.0.1/12`, and whether each is
    /// masqueraded.
    pub(crate) fn exposed(&self) -> Result<Vec<(String, bool)>, StateError> {
        Ok(self.read(EXPOSED)?.unwrap_or_default())
    }

    /// Remembers the addresses of the host on the bridge.
    pub(crate) fn set_exposed(&self, exposed: &[(String, bool)]) -> Result<(), StateError> {
        self.write(EXPOSED, exposed)
    }

    /// What the address allocator stored.
    pub(crate) fn ipam(&self) -> Result<Stored, StateError> {
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
    pub(crate) fn update_ipam(&self, update: &Update) -> Result<(), StateError> {
        let attempt = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            if update.clear {
                transaction.delete_table(IPAM)?;
            }
            {
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

    fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
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

    fn write<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), StateError> {
        let value = serde_json::to_vec(value).map_err(|error| self.damaged(key, error))?;
        let attempt = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction.open_table(TABLE)?.insert(key, value.as_slice())?;
            transaction.commit()?;
            Ok(())
        };
        attempt().map_err(|error| StateError::write(&self.path, error))
    }

    fn damaged(&self, key: &str, error: impl std::fmt::Display) -> StateError {
        StateError::Damaged { path: self.path.clone(), what: format!("{key}: {error}") }
    }
}

#[cfg(test)]
mod cuts;
#[cfg(test)]
mod tests;
