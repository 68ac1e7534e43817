//! Hosts made of network namespaces, on one machine, with real routers on them.
//!
//! ```text
//!  Container c1        Host h1                 Wire              Host h2        Container c2
//! +-----------+    +---------------------+   (a veth pair,   +---------------------+   +-----------+
//! |      eth  |----| bridge weave        |    MTU settable)  |        bridge weave |---|  eth      |
//! | 10.32.0.1 |    |   |                 |                   |                 |   |   | 10.32.0.2 |
//! +-----------+    | router process  ----|===================|----  router process |   +-----------+
//!                  +---------------------+   192.168.1.0/24  +---------------------+
//! ```
//!
//! Each box is a network namespace, each router is the real binary in a process of its own.
//! Everything a [`Lab`] made is gone when it is dropped, also after a panic; what a killed test
//! process left behind is removed by the next [`Lab`]. Names contain the process id, so tests can
//! run in parallel.
#![deny(unsafe_code)]

mod capture;
pub mod cluster;
pub mod cni;
mod container;
pub mod engines;
mod http;
mod lab;
mod namespace;
mod numbered;
mod process;
pub mod raw;
mod router;
pub mod stream;
mod wait;

pub use capture::{Capture, Captured};
pub use container::{Container, Ping};
pub use http::Response;
pub use lab::{Host, Lab, Wire, clean_up_on_signals};
pub use namespace::{Namespace, run};
pub use numbered::{Delivery, Numbered};
pub use router::{Router, RouterOptions};
pub use wait::{eventually, try_until};
