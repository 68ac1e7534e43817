//! The bytes of the file, as one transaction left them.
//!
//! Weave Net may have it open, and locked for itself alone. Its transactions write pages that
//! nobody uses and then a meta page; so what was read is in order if the newest transaction is the
//! same afterwards.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use super::values::LegacyState;
use crate::store::error::StateError;
use crate::store::paths::with_suffix;

/// Room for both meta pages, whatever their size is.
const METAS: u64 = 128 << 10;
/// How often a file is read that changes meanwhile. Weave Net writes when the ring or a container
/// changes.
const ATTEMPTS: usize = 10;

/// Returns the path of the state file that Weave Net has for a prefix.
pub(crate) fn legacy_file(prefix: &Path) -> PathBuf {
    with_suffix(prefix, "data.db")
}

/// Reads the state that Weave Net left for this prefix; none if there is no file, or an empty one.
pub(crate) fn read(prefix: &Path) -> Result<Option<LegacyState>, StateError> {
    let path = &legacy_file(prefix);
    let Some(mut file) = open(path)? else { return Ok(None) };
    for _ in 0..ATTEMPTS {
        let bytes = read_start(&mut file, weave_bolt::MAX_FILE as u64 + 1, path)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let again = read_start(&mut file, METAS, path)?;
        let newest = |bytes: &[u8]| weave_bolt::newest_transaction(bytes);
        if newest(&bytes) == newest(&again) {
            let state = LegacyState::decode(&bytes);
            return state.map(Some).map_err(|what| refuse(path, what));
        }
    }
    Err(refuse(path, "it changes all the time: is Weave Net still running?".to_owned()))
}

/// Returns the number of the newest transaction; none if there is no file, or an empty one.
pub(crate) fn newest_transaction(prefix: &Path) -> Result<Option<u64>, StateError> {
    let path = &legacy_file(prefix);
    let Some(mut file) = open(path)? else { return Ok(None) };
    match read_start(&mut file, METAS, path)?.as_slice() {
        [] => Ok(None),
        bytes => {
            let newest = weave_bolt::newest_transaction(bytes);
            newest.map(Some).map_err(|error| refuse(path, error.to_string()))
        }
    }
}

fn open(path: &Path) -> Result<Option<File>, StateError> {
    let failed = |error: &io::Error| StateError::access("read", path, error);
    // A queue would wait for its other end.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(refuse(path, "it is no file".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    }
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

fn read_start(file: &mut File, length: u64, path: &Path) -> Result<Vec<u8>, StateError> {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(length).read_to_end(&mut bytes));
    read.map_err(|error| StateError::access("read", path, &error))?;
    Ok(bytes)
}

fn refuse(path: &Path, what: String) -> StateError {
    StateError::Legacy { path: path.to_owned(), what }
}
