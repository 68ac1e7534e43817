//! Tests that need more kernel than a container or a small machine has: they run in a virtual
//! machine whose hosts are network namespaces, with `cargo xtask vm test`.
//!
//! One file for each topology or theme; what it looks like is drawn at the top.

#![expect(clippy::print_stdout, reason = "what was measured belongs into the output of a test")]

mod datapath;
mod examples;
mod external_changes;
mod flows;
mod ipsec;
mod kernel;
mod netem;
mod odp;
mod relays;
mod sealed;
mod short_ids;
mod stations;
mod unknown_sender;

use std::time::Duration;

use anyhow::Result;
use weave_testbed::Lab;

/// Longer than anything takes that does not wait for a timer of minutes, on emulated processors.
const SOON: Duration = Duration::from_secs(60);

/// A lab whose routers run the binary under test.
fn lab() -> Result<Lab> {
    Lab::new(env!("CARGO_BIN_EXE_weave"))
}
