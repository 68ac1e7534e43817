//! Whole-system tests: the real binary on hosts that are network namespaces. They need root and run with
//! `cargo nextest run -p weave --profile system --cargo-profile system`.

mod command;
mod testbed;
