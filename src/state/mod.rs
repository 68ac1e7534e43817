//! What survives a restart: the peer's name and the peers the user asked for.
//!
//! One redb file, `<prefix>data.redb`. Each change is one transaction that is on the disk when
//! the call returns, so that a killed process or a power cut leaves the old state or the new.

mod error;

use std::fs;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use weave_core::mesh::PeerName;

pub(crate) use error::StateError;

/// Values are JSON.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("top");
const VERSION: &str = "version";
const PEER_NAME: &str = "peerName";
const DIRECT_PEERS: &str = "directPeers";
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

impl State {
    /// Opens the file of this prefix, or makes it.
    pub(crate) fn open(prefix: &Path) -> Result<Self, StateError> {
        make_directory(prefix)?;
        let path = data_file(prefix);
        let database = Database::create(&path).map_err(|error| StateError::open(&path, error))?;
        let state = Self { database, path };
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
mod tests {
    use std::fs;

    use super::*;

    fn targets(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("deep/er/weave");
        let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
        {
            let state = State::open(&prefix).unwrap();
            assert_eq!(state.peer_name().unwrap(), None);
            assert_eq!(state.direct_peers().unwrap(), None);
            state.set_peer_name(name).unwrap();
            state.set_direct_peers(&targets(&["a", "b:1"])).unwrap();
            state.set_direct_peers(&targets(&["b:1"])).unwrap();
        }
        let state = State::open(&prefix).unwrap();
        assert_eq!(state.peer_name().unwrap(), Some(name));
        assert_eq!(state.direct_peers().unwrap(), Some(targets(&["b:1"])));
        assert!(directory.path().join("deep/er/weavedata.redb").exists());
    }

    /// The file as the kernel has it at any moment of a process that is killed then.
    #[test]
    fn a_killed_process_loses_nothing_that_was_said() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("weave");
        let state = State::open(&prefix).unwrap();
        for round in 0..5 {
            let said = targets(&[&format!("host{round}")]);
            state.set_direct_peers(&said).unwrap();
            let copy = directory.path().join(format!("copy{round}-"));
            fs::copy(data_file(&prefix), data_file(&copy)).unwrap();
            let reopened = State::open(&copy).unwrap();
            assert_eq!(reopened.direct_peers().unwrap(), Some(said));
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("weave");
        let _first = State::open(&prefix).unwrap();
        let error = State::open(&prefix).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_file_of_a_newer_program_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("weave");
        State::open(&prefix).unwrap().write(VERSION, &2).unwrap();
        let error = State::open(&prefix).unwrap_err().to_string();
        assert!(error.contains("newer") && error.contains("format 2"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn damage_is_an_error_of_one_line_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("weave");
        State::open(&prefix).unwrap().set_direct_peers(&targets(&["a"])).unwrap();
        let whole = fs::read(data_file(&prefix)).unwrap();
        let half = &whole[..whole.len() / 2];
        let mut zeroed = whole.clone();
        zeroed[..4096].fill(0);
        for bytes in [b"not a database".as_slice(), &whole[..100], half, &zeroed] {
            fs::write(data_file(&prefix), bytes).unwrap();
            let error = State::open(&prefix).unwrap_err().to_string();
            assert!(error.contains("damaged") && error.contains("move it away"), "{error}");
            assert_eq!(error.lines().count(), 1);
        }

        fs::remove_file(data_file(&prefix)).unwrap();
        let state = State::open(&prefix).unwrap();
        state.write(PEER_NAME, "no name").unwrap();
        assert!(matches!(state.peer_name(), Err(StateError::Damaged { .. })));
    }
}
