//! A host for a test: a network namespace of its own.

use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` in a network namespace of its own, as the host.
pub fn isolated(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            test();
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
