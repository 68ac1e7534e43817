//! Tests of the pod network on a real Kubernetes cluster, by `cargo xtask cluster test`.
//!
//! They see the product as a user does: an image, a manifest, pods. The command gives them
//! `kubectl`, `KUBECONFIG` and, when the cluster is one of [`weave_testbed::cluster`], its name in
//! `WEAVE_CLUSTER`; those below `machines` need that, since they end nodes and daemons or ask a
//! host outside. All share one cluster, one after the other, each in a Kubernetes namespace of
//! its own.
#![expect(clippy::print_stdout, reason = "what was measured, and what a failed test left")]

mod dns;
mod kubernetes;
mod machines;
mod network;
mod pods;
mod rollout;
mod scale;
mod services;
mod space;
mod stream;

use std::time::Duration;

/// Longer than two busy processors take to start some pods.
const SOON: Duration = Duration::from_secs(120);
