//! What a process has that a node could leave: threads, file descriptors, interfaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

/// Runs a test in a thread with a network namespace of its own.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip runs").success());
        // The first runtime of a process opens what tokio keeps for good, for signals.
        drop(tokio::runtime::Runtime::new().expect("a runtime"));
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What there is at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leftovers {
    /// Names of the threads.
    threads: Vec<String>,
    /// What the descriptors are of.
    descriptors: Vec<PathBuf>,
    interfaces: BTreeSet<String>,
}

impl Leftovers {
    /// Looks.
    pub fn now() -> Self {
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        let threads = threads.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        let mut threads: Vec<_> = threads.collect();
        threads.sort();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut descriptors: Vec<_> =
            descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        // The one by which they are read.
        descriptors.retain(|path| !path.ends_with("fd"));
        descriptors.sort();
        let devices = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let devices = devices.lines().filter_map(|line| line.split_once(':'));
        let interfaces = devices.map(|(name, _)| name.trim().to_owned()).collect();
        Self { threads, descriptors, interfaces }
    }

    /// The interfaces.
    pub fn interfaces(&self) -> &BTreeSet<String> {
        &self.interfaces
    }

    /// Fails unless there is what there was, and these interfaces besides. The kernel takes a
    /// moment to clear away a thread that was joined.
    pub fn assert_unchanged(mut self, besides: &[&str]) {
        self.interfaces.extend(besides.iter().map(|&name| name.to_owned()));
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut now = Self::now();
        while now != self && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
            now = Self::now();
        }
        assert_eq!(now, self);
    }
}
