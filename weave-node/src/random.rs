//! Random numbers of the kernel.

use anyhow::{Context as _, Result};
use rand::TryRng as _;
use rand::rngs::SysRng;

const CONTEXT: &str = "the kernel has no random numbers";

/// For a generator of somebody else.
pub(super) fn seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).context(CONTEXT)?;
    Ok(seed)
}

/// One number.
pub(super) fn random() -> Result<u64> {
    SysRng.try_next_u64().context(CONTEXT)
}
