//! Waiting for a condition with a deadline. Whole-system tests run in real time; they never wait
//! longer than the condition needs.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Short beside what is waited for, and long enough to leave the processor to that.
const INTERVAL: Duration = Duration::from_millis(50);

/// Waits until `condition` holds; an error names `what` after `limit`.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    try_until(what, limit, || if condition() { Ok(()) } else { bail!("not yet") })
}

/// Tries `attempt` until it succeeds; after `limit` its last error is the error.
pub fn try_until<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                bail!("{what}: not within {} s; last: {error:#}", limit.as_secs_f32())
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}
