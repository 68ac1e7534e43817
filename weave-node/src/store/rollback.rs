//! Giving the state back to Weave Net 2.x.
//!
//! ```text
//!   data.db        ──link───▶ data.db.before-rollback      as Weave Net left it
//!   data.db.new    ──rename─▶ data.db                      what we know
//!   data.redb      ──rename─▶ data.redb.rolled-back        so that our next start reads data.db
//! ```
//!
//! Killed at any moment, it leaves a whole file for Weave Net, and can be done again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::StateError;
use super::file::DataFile;
use super::paths::{data_file, sync_directory, with_suffix};
use super::weave_net::legacy_file;

/// As Weave Net makes it.
const MODE: u32 = 0o660;
/// Digits of the id of a container of Docker.
const DOCKER_ID: usize = 64;

/// What became of the state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RolledBack {
    /// Weave Net finds it in its own file.
    Written {
        /// That file.
        path: PathBuf,
        /// What was there before, if there was anything.
        backup: Option<PathBuf>,
        /// Where the state of this program is now.
        aside: PathBuf,
        /// How many addresses containers and the host have.
        addresses: usize,
    },
    /// There is no state of this program: that of Weave Net, if there is any, is the newest.
    Nothing {
        /// The file that is not there.
        path: PathBuf,
    },
}

/// Writes the state of this prefix into a new file of Weave Net 2.x, and puts ours aside.
///
/// # Errors
/// A router is running on it, or it cannot be read or written.
pub fn roll_back(prefix: &Path) -> Result<RolledBack, StateError> {
    let ours = data_file(prefix);
    match fs::symlink_metadata(&ours) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(RolledBack::Nothing { path: ours });
        }
        // Other errors come again when it is opened.
        Ok(_) | Err(_) => {}
    }
    // Nobody else can open it until this is dropped.
    let file = DataFile::open(prefix)?;
    let mut state = file.legacy_state(prefix)?;
    let addresses = state.holdings.values().map(|holding| holding.cidrs.len()).sum();
    // Weave Net takes a container that it is to be told of by Docker, and that Docker does not
    // know, for one that ended.
    for (holder, holding) in &mut state.holdings {
        holding.is_container &= is_of_docker(holder);
    }
    let path = legacy_file(prefix);
    let bytes = state.encode();
    let bytes = bytes.map_err(|error| StateError::value("state", &error))?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| StateError::access("write", &path, &error)
    };
    let new = with_suffix(&path, ".new");
    write(&new, &bytes).map_err(failed(&new))?;
    let backup = keep(&path).map_err(failed(&path))?;
    fs::rename(&new, &path).map_err(failed(&path))?;
    sync_directory(&path).map_err(failed(&path))?;
    let aside = with_suffix(&ours, ".rolled-back");
    fs::rename(&ours, &aside).map_err(failed(&ours))?;
    sync_directory(&ours).map_err(failed(&ours))?;
    drop(file);
    Ok(RolledBack::Written { path, backup, aside, addresses })
}

fn is_of_docker(holder: &str) -> bool {
    holder.len() == DOCKER_ID && holder.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a file a second name that stays when the first one is given to another.
fn keep(path: &Path) -> io::Result<Option<PathBuf>> {
    let backup = with_suffix(path, ".before-rollback");
    match fs::remove_file(&backup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::hard_link(path, &backup) {
        Ok(()) => Ok(Some(backup)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
