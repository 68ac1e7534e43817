//! A whole weave router as a library: a virtual Ethernet switch stretched over many hosts.
//!
//! ```text
//!           ┌───────────────────────── Node ─────────────────────────┐
//!  peers ──▶│ mesh ── addresses ── gossip        events ── HTTP      │──▶ Events, clients
//!           │   │                                                    │
//!  bridge ══│ port ══ switch ══ fast datapath, your transport, sleeve │══▶ other nodes
//!           └──────────────────── Store ─────────────────────────────┘
//! ```
//!
//! A [`Builder`] puts a [`Node`] together; each part has defaults. Several nodes can run in one
//! process: they share nothing but the memory allocator. A node needs a tokio runtime with several
//! threads, and root if it has a bridge.
//!
//! ```no_run
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use weave_node::{Bridge, FileStore, Node};
//!
//! let node = Node::builder()
//!     .nickname("edge-7")
//!     .password_file("/etc/weave/password")?
//!     .peers(["h1.example.com"])
//!     .store(FileStore::open("/var/lib/app/weave")?)
//!     .bridge(Bridge::named("weave")) // or Bridge::none()
//!     .ipam("10.32.0.0/12".parse()?)
//!     .start()
//!     .await?;
//! let mut events = node.events();
//! let places = node.gossip::<String>("places").await?;
//! places.publish(&"cellar".to_owned()).await?;
//! let address = node.ipam().allocate("job-1").await?;
//! println!("{address}, {:?}", events.next().await);
//! node.shut_down().await;
//! # Ok(())
//! # }
//! ```
//!
//! Two nodes without a host's bridge, which wait until they have found each other:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use weave_node::{Bridge, Event, MemoryStore, Node};
//!
//! let node = |address: &str| {
//!     let node = Node::builder().listen(format!("{address}:16783").parse().unwrap());
//!     node.store(MemoryStore::new()).bridge(Bridge::none())
//! };
//! let one = node("127.0.9.1").start().await?;
//! let mut events = one.events();
//! let two = node("127.0.9.2").peers(["127.0.9.1:16783"]).start().await?;
//! while events.next().await != Some(Event::PeerUp(two.name())) {}
//! two.shut_down().await;
//! one.shut_down().await;
//! # Ok(())
//! # }
//! ```
//!
//! A transport of one's own is a [`Transport`], of which [`TcpTransport`] is one, peers from
//! elsewhere are a [`PeerSource`], and what has to survive a restart is kept in a [`Store`].

#![deny(unsafe_code)]

mod addresses;
mod backoff;
mod builder;
mod control;
mod device;
mod error;
mod events;
mod fastdp;
mod gossip;
mod guessable;
mod host;
mod host_addresses;
mod http;
mod identity;
mod instance;
mod ipam;
mod link_watch;
mod listeners;
mod node;
mod number;
mod parts;
mod peer_source;
mod random;
mod reaper;
mod rollback;
mod settings;
mod status;
mod store;
mod sys;
mod targets;
mod tcp;
mod transport;

pub use addresses::{AddressError, Addresses};
pub use builder::{Builder, DEFAULT_PREFIX};
pub use device::LocalInjector;
pub use error::{NodeError, NodeErrorKind};
pub use events::{Event, Events};
pub use gossip::{Gossip, GossipFailure, MAX_PEERS, MAX_VALUE};
pub use guessable::is_guessable;
pub use host::hidden_route;
pub use host_addresses::{HostAddressError, HostAddresses};
pub use identity::derive_peer_name;
pub use instance::{
    Instance, InstanceError, in_memory, log_file, pid_file, stop_running, takes_nothing, was_killed,
};
pub use ipam::{Settings as IpamSettings, origin};
pub use node::Node;
pub use peer_source::{NextPeers, PeerSource};
pub use rollback::go_back;
pub use settings::{Bridge, Capture, Firewall, Http, host_name};
pub use store::{
    FileStore, MemoryStore, RolledBack, StateError, Store, data_file, is_expected_panic,
    make_directory, roll_back, with_suffix,
};
pub use sys::heap::keep_nothing_large;
pub use sys::local_time::LocalTime;
pub use targets::{is_ipv6, unreachable};
pub use tcp::TcpTransport;
pub use transport::{Preference, Transport, TransportContext};
/// What the interface of this crate has of `weave-host`.
pub use weave_host::{BRIDGE_NAME, Backend, HostError};
/// The crates whose types the interface of this one has.
pub use {weave_api as api, weave_core as core, weave_ipam as allocator, weave_sleeve as sleeve};

/// Version of this crate, as status pages tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
