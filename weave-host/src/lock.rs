//! One change of the host's devices at a time.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use crate::error::HostError;

/// Held while interfaces are made or removed, so that nobody takes another's half-made ones
/// for left-overs. The kernel releases it when the process ends, however that happens.
#[derive(Debug)]
pub(crate) struct HostLock {
    _file: File,
}

impl HostLock {
    /// Waits for the lock.
    pub(crate) fn acquire() -> Result<Self, HostError> {
        // The folder is the host's also for a router in a container, since the plugin is outside.
        let directory = Path::new("/run/weave");
        let path = directory.join("devices.lock");
        let failed =
            |source| HostError::kernel(format!("lock {}", path.display()), "file locks", source);
        fs::create_dir_all(directory).map_err(failed)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(Self { _file: file })
    }
}
