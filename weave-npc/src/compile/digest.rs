//! Names of what is made, from what it is.

use sha2::{Digest, Sha256};

/// Returns 128 bits of a hash, so that nobody finds two objects whose names meet.
pub(super) fn digest(value: &impl std::fmt::Debug) -> String {
    // What is printed for debugging has all fields, with texts quoted: no two values print alike.
    let hash = Sha256::digest(format!("{value:?}"));
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
