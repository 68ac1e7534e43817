//! What survives a restart: the peer's name, the peers the user asked for, the addresses of
//! the host on the bridge, and the ring and the holders of addresses.
//!
//! A disk that is full or read-only stops no router. What can be read is used, from a copy in
//! memory; each change is refused with the reason, and the file is opened anew for the next one.
//! Values of the router itself that could not be stored are stored with the first change that can
//! be.

mod error;
mod file;
mod memory;
mod paths;
mod rollback;
mod weave_net;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use weave_core::mesh::PeerName;
use weave_ipam::Range;
use weave_ipam::allocator::{Stored, Update};

pub use error::StateError;
pub use file::is_expected_panic;
use file::{DIRECT_PEERS, DataFile, EXPOSED, PEER_NAME, note};
pub use memory::MemoryStore;
pub use paths::{data_file, make_directory, with_suffix};
pub use rollback::{RolledBack, roll_back};

/// What keeps the state of a node.
///
/// Each change is there, all of it or nothing, when its method returns: a node says nothing that it
/// could forget. Methods may wait for a disk; the node calls them where that holds nobody up.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns why nothing can be stored at present, if it cannot.
    fn fault(&self) -> Option<String>;

    /// Returns the name this peer had before.
    ///
    /// # Errors
    /// The store cannot be read.
    fn peer_name(&self) -> Result<Option<PeerName>, StateError>;

    /// Remembers the name of this peer.
    ///
    /// # Errors
    /// The store cannot be written.
    fn set_peer_name(&self, name: PeerName) -> Result<(), StateError>;

    /// Returns the peers the user asked for when the node ran last; `None` if it never did.
    ///
    /// # Errors
    /// The store cannot be read.
    fn direct_peers(&self) -> Result<Option<Vec<String>>, StateError>;

    /// Remembers the peers the user asks for.
    ///
    /// # Errors
    /// The store cannot be written.
    fn set_direct_peers(&self, peers: &[String]) -> Result<(), StateError>;

    /// Returns the addresses of the host on the bridge, as `10.32.0.1/12`, and whether each is
    /// masqueraded.
    ///
    /// # Errors
    /// The store cannot be read.
    fn exposed(&self) -> Result<Vec<(String, bool)>, StateError>;

    /// Remembers the addresses of the host on the bridge.
    ///
    /// # Errors
    /// The store cannot be written.
    fn set_exposed(&self, exposed: &[(String, bool)]) -> Result<(), StateError>;

    /// Returns what the address allocator of this peer stored for this range. What it stored as
    /// another peer, or for another range, is set aside.
    ///
    /// # Errors
    /// The store cannot be read.
    fn ipam(&self, name: PeerName, range: Range) -> Result<Stored, StateError>;

    /// Stores a change of what the address allocator knows: all of it or nothing.
    ///
    /// # Errors
    /// The store cannot be written.
    fn update_ipam(&self, update: &Update) -> Result<(), StateError>;
}

/// A state in a file of the embedded database redb, `<prefix>data.redb`, with one user at a time.
pub struct FileStore {
    held: Mutex<Held>,
    open: Open,
    /// The same, to be read alone.
    copy: Open,
}

type Open = Box<dyn Fn() -> Result<DataFile, StateError> + Send + Sync>;

struct Held {
    /// A copy while the file cannot be written; none if it cannot be read either.
    file: Option<DataFile>,
    /// Why nothing can be stored.
    fault: Option<String>,
    /// What could not be stored.
    missed: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("fault", &self.fault()).finish_non_exhaustive()
    }
}

impl FileStore {
    /// Opens the file of this prefix, or makes it, with what Weave Net 2.x left in its own,
    /// `<prefix>data.db`. Where that cannot be written, it is used as far as it can be read.
    ///
    /// # Errors
    /// The file is damaged, in use, or cannot be read.
    pub fn open(prefix: impl AsRef<Path>) -> Result<Self, StateError> {
        let prefix = prefix.as_ref();
        let (file, fault) = match DataFile::open(prefix) {
            Ok(file) => (file, None),
            Err(error) if error.is_of_the_disk() => {
                let file = DataFile::open_copy(prefix)?;
                tracing::error!(
                    "{error}: the router runs with what can be read, and stores nothing until it can be \
                     written; no addresses are given out"
                );
                (file, Some(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        let (path, same) = (prefix.to_owned(), prefix.to_owned());
        let open = Box::new(move || DataFile::open(&path));
        Ok(Self::of(file, fault, open, Box::new(move || DataFile::open_copy(&same))))
    }

    /// Returns what the program that has the node noted under a name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn note(&self, name: &str) -> Result<Option<String>, StateError> {
        self.read(|file| file.read(&note(name)))
    }

    /// Keeps a note of the program that has the node: it survives a restart, and the node does not
    /// look at it. Those that programs around Weave Net 2.x make, of which there is `peer-reclaim`,
    /// are taken over from there and given back.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_note(&self, name: &str, text: &str) -> Result<(), StateError> {
        self.write(&note(name), text)
    }

    fn of(file: DataFile, fault: Option<String>, open: Open, copy: Open) -> Self {
        let held = Held { file: Some(file), fault, missed: BTreeMap::new() };
        Self { held: Mutex::new(held), open, copy }
    }

    /// Puts what is stored aside under its own name, and returns what lies aside under this one.
    fn set_aside(
        &self,
        before: Option<(PeerName, Range)>,
        name: PeerName,
        range: Range,
    ) -> Result<Stored, StateError> {
        let aside = |(peer, range): (PeerName, Range)| format!("{peer} {range}");
        let (before, wanted) = (before.map(aside), aside((name, range)));
        match self.change(|file| file.swap_ipam(before.as_deref(), &wanted)) {
            Ok(true) => {
                tracing::info!("going on with the addresses given out as {name} in {range} before");
                self.read(DataFile::ipam)
            }
            Ok(false) => Ok(Stored::default()),
            // Nothing is given out as long as nothing can be stored.
            Err(error) if error.is_of_the_disk() => Ok(Stored::default()),
            Err(error) => Err(error),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&DataFile) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let held = self.lock();
        match (&held.file, &held.fault) {
            (Some(file), _) => read(file),
            (None, fault) => Err(StateError::Closed(fault.clone().unwrap_or_default())),
        }
    }

    fn write<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), StateError> {
        let value = serde_json::to_vec(value).map_err(|error| StateError::value(key, &error))?;
        let values = [(key.to_owned(), value)].into();
        let result = self.change(|file| file.write(&values));
        if result.is_err() {
            self.lock().missed.extend(values);
        }
        result
    }

    /// Changes the file. One that failed is opened anew first: the library writes nothing more to
    /// it.
    fn change<T>(
        &self,
        change: impl FnOnce(&DataFile) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let held = &mut *self.lock();
        if held.fault.is_some() {
            let file = (self.open)()?;
            if !held.missed.is_empty() {
                file.write(&held.missed)?;
                held.missed.clear();
            }
            (held.file, held.fault) = (Some(file), None);
            tracing::info!("the state can be stored again");
        }
        let Some(file) = &held.file else {
            return Err(StateError::Closed(String::new()));
        };
        let result = change(file);
        if let Err(error) = &result {
            held.fault = Some(error.to_string());
            // While it is open, it cannot be opened again.
            held.file = None;
            held.file = (self.copy)().ok();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for FileStore {
    fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    fn peer_name(&self) -> Result<Option<PeerName>, StateError> {
        self.read(DataFile::peer_name)
    }

    fn set_peer_name(&self, name: PeerName) -> Result<(), StateError> {
        self.write(PEER_NAME, &name.to_string())
    }

    fn direct_peers(&self) -> Result<Option<Vec<String>>, StateError> {
        self.read(DataFile::direct_peers)
    }

    fn set_direct_peers(&self, peers: &[String]) -> Result<(), StateError> {
        self.write(DIRECT_PEERS, &peers)
    }

    fn exposed(&self) -> Result<Vec<(String, bool)>, StateError> {
        self.read(DataFile::exposed)
    }

    fn set_exposed(&self, exposed: &[(String, bool)]) -> Result<(), StateError> {
        self.write(EXPOSED, exposed)
    }

    fn ipam(&self, name: PeerName, range: Range) -> Result<Stored, StateError> {
        let stored = self.read(DataFile::ipam)?;
        let is_other = |ring: &weave_ipam::ring::RawRing| {
            ring.peer != name || Range::new(ring.start, ring.end) != range
        };
        let other = stored.ring.as_ref().filter(|ring| is_other(ring));
        let Some(other) = other else {
            if stored != Stored::default() {
                return Ok(stored);
            }
            return self.set_aside(None, name, range);
        };
        let before = Range::new(other.start, other.end);
        tracing::error!(
            "the addresses given out so far are those of the peer {} in the range {before}, and this is \
             {name} with the range {range}: they are set aside in the state file. To go on with them, \
             start with that name and --ipalloc-range",
            other.peer
        );
        self.set_aside(Some((other.peer, before)), name, range)
    }

    fn update_ipam(&self, update: &Update) -> Result<(), StateError> {
        self.change(|file| file.update_ipam(update))
    }
}

#[cfg(test)]
mod cuts;
#[cfg(test)]
mod tests;
