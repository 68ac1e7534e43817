//! Why the state cannot be read or kept.

use std::io;
use std::path::{Path, PathBuf};

use redb::{DatabaseError, StorageError};

/// What went wrong with the state file.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory of the file cannot be made.
    #[error("cannot make directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another router has the file open.
    #[error("{} is in use by another router", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote the file.
    #[error(
        "{} was written by a newer weave (format {found}, this one knows {known}): use that \
         version, or another --db-prefix", path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this program knows.
        known: u64,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged ({what}), and nothing was changed: put a copy of it back, or move it away \
         (`weave reset` removes it) to start without what it says: the name of this peer, the peers \
         it was told to connect to, its own addresses, and those it gave out", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file of Weave Net 2.x is there and none of ours, and it cannot be understood.
    #[error(
        "{}, the state of Weave Net 2.x, cannot be taken over ({what}), and nothing was changed: put \
         a good copy of it back, or move it away to start without what it says: the name of this \
         peer, its part of the addresses, and which of them are in use", path.display()
    )]
    Legacy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The system refused.
    #[error("cannot {action} {}: {what}", path.display())]
    Access {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        what: String,
        /// Its kind.
        kind: io::ErrorKind,
    },
    /// The file is closed after an earlier failure.
    #[error("the state is closed: {0}")]
    Closed(String),
}

impl StateError {
    /// Whether it is for want of room, or since nothing may be written: what is there can be used.
    pub fn is_of_the_disk(&self) -> bool {
        let kind = match self {
            Self::Directory { source, .. } => source.kind(),
            Self::Access { kind, .. } => *kind,
            Self::Closed(_) => return true,
            Self::InUse { .. }
            | Self::Version { .. }
            | Self::Damaged { .. }
            | Self::Legacy { .. } => return false,
        };
        matches!(
            kind,
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem
        )
    }

    /// A value that cannot be written down.
    pub(super) fn value(key: &str, error: &impl ToString) -> Self {
        let what = format!("{key}: {}", error.to_string());
        Self::Closed(what)
    }

    /// The system refuses.
    pub(super) fn access(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Access { action, path: path.to_owned(), what: error.to_string(), kind: error.kind() }
    }

    pub(super) fn open(path: &Path, error: DatabaseError) -> Self {
        let path = path.to_owned();
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse { path },
            DatabaseError::UpgradeRequired(version) => {
                let what = format!("file format {version}, which is too old");
                Self::Damaged { path, what }
            }
            DatabaseError::Storage(StorageError::Io(error)) if !looks_damaged(&error) => {
                Self::access("open", &path, &error)
            }
            other => Self::Damaged { path, what: one_line(&other) },
        }
    }

    pub(super) fn read(path: &Path, error: redb::Error) -> Self {
        Self::of_library("read", path, error)
    }

    pub(super) fn write(path: &Path, error: redb::Error) -> Self {
        Self::of_library("write", path, error)
    }

    fn of_library(action: &'static str, path: &Path, error: redb::Error) -> Self {
        let path = path.to_owned();
        match error {
            redb::Error::Io(error) => Self::access(action, &path, &error),
            redb::Error::Corrupted(what) => Self::Damaged { path, what },
            other => {
                let kind = io::ErrorKind::Other;
                Self::Access { action, path, what: one_line(&other), kind }
            }
        }
    }
}

/// A file that is no database, or is shorter than it says.
fn looks_damaged(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        // The last is how the library says it of a copy in memory.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
    )
}

fn one_line(error: &impl ToString) -> String {
    error.to_string().lines().collect::<Vec<_>>().join(" ")
}
