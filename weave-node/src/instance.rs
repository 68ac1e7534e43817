//! One router per state: a locked file with the process id in it.
//!
//! The kernel holds the lock as long as the process lives, so that a file that is left behind
//! means nothing, and a process id that is read under a lock held by somebody is that of the
//! router.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::store::{StateError, make_directory, with_suffix};

/// How long a router may take to stop in good order: it finishes HTTP answers for 2 s, says its
/// last words to its neighbours, and its devices are removed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the kernel may take to clear away a router that was killed: its devices and sockets.
/// It takes some 20 ms; machines that swap are slower.
const DYING_TIMEOUT: Duration = Duration::from_secs(5);
/// Too short for a person to notice, and too long to cost anything.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// For files that cannot be where they belong (FHS 3.0, section 3.15).
const RUN_DIRECTORY: &str = "/run/weave";

/// Being the router of a state.
#[derive(Debug)]
pub struct Instance {
    /// Locked.
    _file: File,
    path: PathBuf,
}

/// Why one cannot be it, or cannot be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// Another process is it; its id.
    #[error("a router is running already{}; `weave stop` stops it", running(*.0))]
    Running(Option<i32>),
    /// There is none.
    #[error(
        "no router is running with its state at {}; for one started with another --db-prefix, \
         give that",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// The directory cannot be made.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process takes no signal.
    #[error("cannot stop the router (process {pid}): {source}")]
    Signal {
        /// Its id.
        pid: i32,
        /// Why.
        source: Errno,
    },
    /// The process goes on in spite of the signal.
    #[error("the router (process {pid}) did not stop within {} s", STOP_TIMEOUT.as_secs())]
    Stubborn {
        /// Its id.
        pid: i32,
    },
}

impl InstanceError {
    fn is_of_the_disk(&self) -> bool {
        match self {
            Self::State(error) => error.is_of_the_disk(),
            Self::File { source, .. } => takes_nothing(source),
            _ => false,
        }
    }
}

fn running(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// Where a launched router logs to, unless told otherwise.
pub fn log_file(prefix: &Path) -> PathBuf {
    with_suffix(prefix, ".log")
}

/// The locked file with the process id.
pub fn pid_file(prefix: &Path) -> PathBuf {
    with_suffix(prefix, ".pid")
}

/// Where such a file lies if it cannot be written where it belongs: in memory, by the path of the
/// other place. It goes with the next start of the machine.
pub fn in_memory(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = absolute.to_string_lossy().replace(['/', '%'], "%");
    Path::new(RUN_DIRECTORY).join(name)
}

/// Whether a place takes no files.
pub fn takes_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

impl Instance {
    /// Becomes the router of this state.
    ///
    /// # Errors
    /// Another process is, or the file cannot be written.
    pub fn acquire(prefix: &Path) -> Result<Self, InstanceError> {
        let path = pid_file(prefix);
        let made = make_directory(prefix).map_err(InstanceError::from);
        match made.and_then(|()| Self::acquire_at(path.clone())) {
            Err(error) if error.is_of_the_disk() => {
                let elsewhere = in_memory(&path);
                make_directory(&elsewhere)?;
                tracing::warn!("{error}: the process id is in {}", elsewhere.display());
                let instance = Self::acquire_at(elsewhere)?;
                // What could not be written would say that there is no router.
                let _ = fs::remove_file(&path);
                Ok(instance)
            }
            result => result,
        }
    }

    fn acquire_at(path: PathBuf) -> Result<Self, InstanceError> {
        let failed = |source| InstanceError::File { path: path.clone(), source };
        let deadline = Instant::now() + DYING_TIMEOUT;
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    // Written by a router that was killed.
                    wait_until_cleared(&mut file, deadline);
                    file.set_len(0).map_err(failed)?;
                    file.rewind().map_err(failed)?;
                    writeln!(file, "{}", std::process::id()).map_err(failed)?;
                    return Ok(Self { _file: file, path });
                }
                // It was removed between our opening and our locking it.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = pid(&mut file);
                    let ends = !is_at(&file, &path) || holder.is_some_and(is_dying);
                    if Instant::now() > deadline || !ends {
                        return Err(InstanceError::Running(holder));
                    }
                    sleep(POLL_INTERVAL);
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Stays the router of this state until the very end of the process, so that `weave stop`
    /// waits for that. The file is gone from now on.
    pub fn leave(self) {
        let _ = fs::remove_file(&self.path);
        std::mem::forget(self);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // While it is locked: who opened it before will find that it is no longer there.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(ours), Ok(there)) if id(&ours) == id(&there))
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
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let sigkill = 1_u64 << (Signal::SIGKILL as u32 - 1);
    let pending = |mask: &str| u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & sigkill != 0;
    let masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    masks.into_iter().any(pending) || !status.contains("VmSize:")
}

/// Whether a killed process still has addresses and devices: the kernel closes what it had open,
/// one after the other, before its last thread becomes a zombie.
fn holds_something(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let ended = |thread: fs::DirEntry| {
        fs::read_to_string(thread.path().join("status"))
            .map_or(true, |status| status.contains("State:\tZ") || status.contains("State:\tX"))
    };
    is_dying(pid) && !threads.flatten().all(ended)
}

/// Waits until a router that was killed has nothing any more.
fn wait_until_cleared(file: &mut File, deadline: Instant) {
    while pid(file).is_some_and(holds_something) && Instant::now() < deadline {
        sleep(POLL_INTERVAL);
    }
}

/// Whether the router of this state was killed. Until the kernel has cleared it away, its sockets
/// still take connections, which nobody answers.
pub fn was_killed(prefix: &Path) -> bool {
    let path = pid_file(prefix);
    let file = File::open(&path).or_else(|_| File::open(in_memory(&path)));
    let Ok(mut file) = file else { return false };
    match file.try_lock() {
        Ok(()) => true,
        Err(_) => pid(&mut file).is_some_and(is_dying),
    }
}

/// Stops the router of this state in good order and waits until it has ended.
///
/// # Errors
/// There is none, or it does not stop.
pub fn stop_running(prefix: &Path) -> Result<(), InstanceError> {
    let path = pid_file(prefix);
    match stop_at(path.clone(), prefix) {
        Err(InstanceError::NotRunning(_)) => stop_at(in_memory(&path), prefix),
        result => result,
    }
}

fn stop_at(path: PathBuf, prefix: &Path) -> Result<(), InstanceError> {
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
            Ok(()) if signalled.is_some() => {
                // It may have been killed before that.
                wait_until_cleared(&mut file, deadline);
                return Ok(());
            }
            Ok(()) => {
                // What a killed router left; we hold the lock.
                wait_until_cleared(&mut file, Instant::now() + DYING_TIMEOUT);
                if is_at(&file, &path) {
                    let _ = fs::remove_file(&path);
                }
                return Err(InstanceError::NotRunning(prefix.to_owned()));
            }
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
            assert!(!was_killed(&prefix));
            let own = format!("a router is running already (process {})", std::process::id());
            assert!(error.starts_with(&own), "{error}");
        }
    }

    #[test]
    fn left_overs_of_a_killed_router_mean_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("weave");
        std::fs::write(pid_file(&prefix), "1\n").unwrap();
        assert!(was_killed(&prefix));
        assert!(matches!(stop_running(&prefix), Err(InstanceError::NotRunning(_))));
        assert!(!pid_file(&prefix).exists());
        assert!(!was_killed(&prefix));
        // That process is gone: nothing to wait for, and nothing is left.
        std::fs::write(pid_file(&prefix), format!("{}\n", i32::MAX)).unwrap();
        drop(Instance::acquire(&prefix).unwrap());
        assert!(!pid_file(&prefix).exists());
        let nothing = directory.path().join("nothing");
        assert!(matches!(stop_running(&nothing), Err(InstanceError::NotRunning(_))));
    }
}
