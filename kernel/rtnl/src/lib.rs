//! Links, addresses, routes and neighbours of Linux by rtnetlink: blocking, on one socket, without
//! a thread or a runtime.
//!
//! ```text
//!   Client ── one socket in one network namespace
//!     ├─ link      bridges, veth pairs, VXLAN devices: create, change, move, delete, list
//!     ├─ port      what a bridge does with a port
//!     ├─ address   addresses of links
//!     ├─ route     routes
//!     ├─ neighbour neighbour tables, forwarding tables of bridges and VXLAN devices
//!     └─ namespace the number that one namespace has for another
//!   Monitor ── what changes, as events
//! ```
//!
//! A [`Client`] belongs to the network namespace of the thread that opened it, and stays there
//! wherever that thread goes: open one for each namespace and keep it. Each request is one message
//! and its answer, some microseconds; nothing is cached. What exists already can be adopted:
//! adding an address or a route that is there, and deleting what is not, return `false` instead of
//! an error.
//!
//! An [`Error`] names the [`Operation`] with its interface, and the [`Cause`] by whose fault it
//! is. Lists are read again if they change meanwhile, at most
//! [`LIST_ATTEMPTS`](weave_netlink::LIST_ATTEMPTS) times; a [`Monitor`] buffers the events of one
//! datagram.
//!
//! The bytes are encoded by [`netlink_packet_route`], the exchange is that of [`weave_netlink`];
//! [`weave-odp`](https://docs.rs/weave-odp) and [`weave-xfrm`](https://docs.rs/weave-xfrm) speak
//! the other protocols of the kernel's network.
//!
//! # Example
//!
//! ```
//! use weave_rtnl::{Client, Error};
//!
//! fn main() -> Result<(), Error> {
//!     let mut client = Client::open()?;
//!     let loopback = client.link_by_name("lo")?.expect("every namespace has one");
//!     assert!(loopback.loopback && loopback.index == 1);
//!     for address in client.addresses(loopback.index)? {
//!         println!("{}/{}", address.ip, address.prefix);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A container's interface, which needs root; the pair is made here and one end moved afterwards,
//! as the runtime of a container may do it by itself:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use weave_rtnl::{Client, LinkChange, VethEnd};
//!
//! let namespace = std::fs::File::open("/run/netns/blue")?;
//! let mut client = Client::open()?;
//! client.create_bridge("br0")?;
//! client.create_veth(&VethEnd::named("port0"), &VethEnd::named("eth0"))?;
//! let [bridge, port, end] = ["br0", "port0", "eth0"].map(|name| client.link_by_name(name));
//! let (bridge, port, end) = (bridge?.unwrap(), port?.unwrap(), end?.unwrap());
//! client.change(&port, LinkChange::Controller(Some(bridge.index)))?;
//! client.change(&port, LinkChange::Up)?;
//! client.change(&end, LinkChange::Namespace(&namespace))?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod address;
mod client;
mod create;
mod error;
mod link;
mod message;
mod monitor;
mod namespace;
mod neighbour;
mod operation;
mod port;
mod route;

pub use address::Address;
pub use client::Client;
pub use create::{VethEnd, Vxlan};
pub use error::{Cause, Error};
pub use link::{Counters, Link, LinkChange, LinkId, VxlanSettings};
pub use monitor::{Event, Group, Monitor};
pub use neighbour::{FdbEntry, FdbTarget, Neighbour, Table};
pub use operation::Operation;
pub use port::PortSettings;
pub use route::Route;
pub use weave_netlink::Errno;
