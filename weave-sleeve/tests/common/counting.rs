//! An allocator that counts.
#![allow(unsafe_code, reason = "an allocator")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

/// Number of allocations so far, of all threads but the one that waits for the tests to end: after
/// a minute it reports that a test is slow, which allocates.
pub static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Number of allocations of this thread so far.
    static OWN: Cell<u64> = const { Cell::new(0) };
}

/// Returns the number of allocations of the calling thread so far.
pub fn own_allocations() -> u64 {
    OWN.get()
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no pointers are passed.
        let is_main_thread = unsafe { libc::gettid() == libc::getpid() };
        ALLOCATIONS.fetch_add(u64::from(!is_main_thread), Ordering::Relaxed);
        OWN.set(OWN.get() + 1);
        // SAFETY: the caller keeps the rules.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules.
        unsafe { System.dealloc(pointer, layout) }
    }
}
