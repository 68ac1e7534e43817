//! A weave router as the pod network of a Kubernetes cluster: `weave kube` and its commands.
//!
//! ```text
//!  environment ──▶ Settings ──▶ arguments of the router ─┐
//!                     │                                  ▼
//!  API server ──▶ Companion ── prepare ──▶ Builder ──▶ Node
//!                     └─────── accompany ◀── addresses, host ┘
//! ```
//!
//! The router is that of `weave router`; this crate says how it is started on a node of a cluster, and what
//! goes on beside it: which peers there are, who divides the addresses first, whose addresses come
//! back. Whatever the API server does, frames go on.

mod annotations;
mod api;
mod command;
mod companion;
mod environment;
mod error;
mod expose;
#[cfg(test)]
mod fake;
mod follow;
mod manifest;
mod membership;
mod node;
mod nodes;
mod plugin;
mod reclaim;
mod rollback;
mod settings;
mod state;
mod upkeep;
mod watching;

pub use command::{Kube, Launch, runs_router};
pub use companion::Companion;
pub use error::CommandError;
pub use settings::{Expose, Settings};

#[cfg(test)]
mod tests;
