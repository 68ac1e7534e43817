//! One router per state: a locked file with the process id in it.
//!
//! The kernel holds the lock as long as the process lives, so that a file that is left behind
//! means nothing, and a process id that is read under a lock held by somebody is that of the
//! router.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::state::{StateError, make_directory, with_suffix};

/// How long a router may take to stop in good order.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the kernel may take to clear away a router that was killed: its devices and sockets.
const DYING_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Being the router of a state.
#[derive(Debug)]
pub(crate) struct Instance {
    file: File,
}

/// Why one cannot be it, or cannot be stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    #[error("a router is running already{}; `weave stop` stops it", running(*.0))]
    Running(Option<i32>),
    #[error(
        "no router is running with its state at {}; for one started with another --db-prefix, \
         give that",
        .0.display()
    )]
    NotRunning(PathBuf),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot use {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot stop the router (process {pid}): {source}")]
    Signal { pid: i32, source: Errno },
    #[error("the router (process {pid}) did not stop within {} s", STOP_TIMEOUT.as_secs())]
    Stubborn { pid: i32 },
}

fn running(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// Where a launched router logs to, unless told otherwise.
pub(crate) fn log_file(prefix: &Path) -> PathBuf {
    with_suffix(prefix, ".log")
}

/// The locked file with the process id.
pub(crate) fn pid_file(prefix: &Path) -> PathBuf {
    with_suffix(prefix, ".pid")
}

impl Instance {
    /// Becomes the router of this state.
    pub(crate) fn acquire(prefix: &Path) -> Result<Self, InstanceError> {
        make_directory(prefix)?;
        let path = pid_file(prefix);
        let failed = |source| InstanceError::File { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let deadline = Instant::now() + DYING_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let holder = pid(&mut file);
                    if Instant::now() > deadline || !holder.is_some_and(is_dying) {
                        return Err(InstanceError::Running(holder));
                    }
                    sleep(POLL_INTERVAL);
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { file })
    }

    /// Stays the router of this state until the very end of the process, so that `weave stop`
    /// waits for that.
    pub(super) fn keep(self) {
        // The file stays, too: if it were removed, two processes could lock two of one name.
        let _ = self.file.set_len(0);
        std::mem::forget(self.file);
    }
}

fn pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether a process has been killed but still holds what it had open: SIGKILL is pending, or its
/// memory is gone already, and with it the name of its program (proc(5): `exe`).
fn is_dying(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let sigkill = 1_u64 << (Signal::SIGKILL as u32 - 1);
    let pending = |mask: &str| u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & sigkill != 0;
    let masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    masks.into_iter().any(pending) || !status.contains("VmSize:")
}

/// Stops the router of this state in good order and waits until it has ended.
pub(crate) fn stop_running(prefix: &Path) -> Result<(), InstanceError> {
    let path = pid_file(prefix);
    let failed = |source| InstanceError::File { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(InstanceError::NotRunning(prefix.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    let mut signalled = None;
    let deadline = Instant::now() + STOP_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) if signalled.is_some() => return Ok(()),
            Ok(()) => return Err(InstanceError::NotRunning(prefix.to_owned())),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if Instant::now() > deadline {
            return Err(match signalled {
                Some(pid) => InstanceError::Stubborn { pid },
                None => InstanceError::Running(None),
            });
        }
        // A router that has just locked the file has not written its id yet.
        if signalled.is_none()
            && let Some(pid) = pid(&mut file)
        {
            match kill(Pid::from_raw(pid), Signal::SIGTERM) {
                // Gone meanwhile: then the lock is free.
                Ok(()) | Err(Errno::ESRCH) => signalled = Some(pid),
                Err(source) => return Err(InstanceError::Signal { pid, source }),
            }
        }
        sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_any_number_after_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("new/weave");
        for _ in 0..2 {
            let _first = Instance::acquire(&prefix).unwrap();
            let error = Instance::acquire(&prefix).unwrap_err().to_string();
            let own = format!("a router is running already (process {})", std::process::id());
            assert!(error.starts_with(&own), "{error}");
        }
    }

    #[test]
    fn left_overs_of_a_killed_router_mean_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("weave");
        std::fs::write(pid_file(&prefix), "1\n").unwrap();
        assert!(matches!(stop_running(&prefix), Err(InstanceError::NotRunning(_))));
        Instance::acquire(&prefix).unwrap();
        let nothing = directory.path().join("nothing");
        assert!(matches!(stop_running(&nothing), Err(InstanceError::NotRunning(_))));
    }
}
