//! Where the files of a state lie.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::StateError;

/// Returns the path of the state file of a prefix.
pub fn data_file(prefix: &Path) -> PathBuf {
    with_suffix(prefix, "data.redb")
}

/// Returns the prefix with a text at its end: `/var/lib/weave/weave` and `.log`.
pub fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Makes the directory that files of this prefix lie in.
///
/// # Errors
/// The system refuses.
pub fn make_directory(prefix: &Path) -> Result<(), StateError> {
    match prefix.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => fs::create_dir_all(directory)
            .map_err(|source| StateError::Directory { path: directory.to_owned(), source }),
        _ => Ok(()),
    }
}

/// Makes sure that the name of a file is on the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all())
}
