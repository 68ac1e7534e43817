//! The clock of the threads of an engine.

use std::sync::Arc;

use weave_core::time::Instant;

/// A clock that any thread can read.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;
