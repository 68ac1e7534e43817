//! Free memory, and whose it is: that of the allocator, or again the kernel's.
//!
//! The allocator of glibc has arenas of its own for the threads, and keeps what is freed in them.
//! What many small pieces took for a moment would stay, once for each thread that it ever happens
//! in.

/// Pieces from this size on are the kernel's again as soon as they are freed. Left alone, glibc
/// begins with an eighth of that, and keeps ever larger pieces once some were freed, up to 32 MiB
/// (mallopt(3), `M_MMAP_THRESHOLD`). Nothing this large is made for each packet.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// From now on, nothing large is kept when it is freed.
pub fn keep_nothing_large() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes a number in the allocator, under the allocator's own lock.
    let _accepted = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// Gives the kernel back what is free, in the arenas of all threads. It takes some milliseconds:
/// this is for after something that took a lot.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes only what is free, under the allocator's own locks.
    let _gave_back = unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    use super::*;

    fn resident_pages() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_another_thread_freed_goes_back() {
        keep_nothing_large();
        let filled = std::thread::spawn(|| {
            let pieces: Vec<Box<[u8; 200]>> = (0..200_000).map(|_| Box::new([1; 200])).collect();
            // It is above the others, so that they are not free at the end of the arena.
            (pieces.len(), Box::new([1_u8; 200]))
        });
        let (_, _last) = filled.join().unwrap();
        let before = resident_pages();
        give_back();
        let after = resident_pages();
        assert!(after < before / 2, "of {before} pages {after} are still there");
    }
}
