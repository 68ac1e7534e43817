//! Whole-system tests: the real binary on hosts that are network namespaces. They need root and run
//! with `cargo nextest run -p weave --profile system --cargo-profile system`.
//!
//! One file for each topology or theme; what it looks like is drawn at the top.

mod cleanup;
mod closed_ports;
mod cni;
mod cni_lost;
mod cni_multi;
mod cni_pods;
mod command;
mod devices;
mod examples;
mod expose;
mod fastdp;
mod flood;
mod frames;
mod http;
mod identity;
mod ipam;
mod liar;
mod line;
mod lossy_path;
mod lost_state;
mod mixed;
mod nonstandard_paths;
mod passwords;
mod ports;
mod refusals;
mod restart;
mod ring;
mod rollout;
mod runtimes;
mod secrecy;
mod stations;
mod storage;
mod tcp;
mod testbed;
mod throughput;
mod two_hosts;
mod underlay;

use std::time::Duration;

use anyhow::Result;
use weave_testbed::Lab;

/// Longer than anything takes that does not wait for a timer of minutes: an update that was lost
/// while a mesh forms comes again with the gossip of every 30 s.
const SOON: Duration = Duration::from_secs(45);

/// A lab whose routers run the binary under test.
fn lab() -> Result<Lab> {
    Lab::new(env!("CARGO_BIN_EXE_weave"))
}
