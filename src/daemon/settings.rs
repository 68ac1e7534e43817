//! What a router is told at its start.

use std::net::IpAddr;
use std::path::PathBuf;

use weave_core::mesh::{Password, PeerName, Subnet};
use weave_host::Backend;
use weave_sleeve::native::Capabilities;

use crate::http::Address;
use crate::ipam;

/// The settings of one router, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) name: Option<PeerName>,
    pub(crate) nickname: String,
    pub(crate) password: Option<Password>,
    pub(crate) trusted_subnets: Vec<Subnet>,
    pub(crate) connection_limit: Option<usize>,
    pub(crate) discovery: bool,
    pub(crate) peers: Peers,
    pub(crate) weave_bridge: String,
    /// The largest packet of a container; automatic if none.
    pub(crate) mtu: Option<u32>,
    /// The bridge of Docker, to be kept apart.
    pub(crate) docker_bridge: Option<String>,
    /// Whether containers may reach the ports of the mesh.
    pub(crate) mesh_open_to_containers: bool,
    /// Whether the kernel may be told to forward packets.
    pub(crate) no_ip_forward: bool,
    /// Where firewall rules are kept; where the host has its own if none.
    pub(crate) firewall: Option<Backend>,
    /// Whether the kernel may carry frames.
    pub(crate) fastdp: bool,
    /// Whether there is to be a bridge beside a datapath.
    pub(crate) bridged: bool,
    pub(crate) capture: Capture,
    /// Where to write what passes the port, as pcap.
    pub(crate) capture_file: Option<PathBuf>,
    /// Of the packet socket, in bytes.
    pub(crate) capture_buffer: usize,
    /// What the sleeve may do with routers like this one.
    pub(crate) abilities: Capabilities,
    /// The allocator of addresses, if there is to be one.
    pub(crate) ipam: Option<ipam::Settings>,
    /// Where the process tree of the host is mounted.
    pub(crate) proc_path: PathBuf,
    pub(crate) http_address: Option<Address>,
    pub(crate) status_address: Option<Address>,
    pub(crate) metrics_address: Option<Address>,
    /// Names, besides those of this host, by which it may be asked.
    pub(crate) http_allowed_hosts: Vec<String>,
    pub(crate) db_prefix: PathBuf,
    pub(crate) host_root: PathBuf,
}

/// Which formats the sleeve may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum SleeveFormat {
    /// That of this router with those that know it, else that of Weave Net.
    Native,
    /// That of Weave Net with all.
    Legacy,
}

/// Whom to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Peers {
    /// These; if there are none, those of before.
    Given(Vec<String>),
    /// Those of before.
    Resume,
}

/// How frames get from the bridge to the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Capture {
    /// A datapath where the kernel has Open vSwitch, else a TAP device; where it has none either, a
    /// veth pair.
    Auto,
    /// A TAP device.
    Tap,
    /// Packet sockets on a veth pair.
    Pcap,
    /// A datapath of the kernel's Open vSwitch, which carries most frames by itself.
    Datapath,
    /// Not at all: this router only passes frames on for others.
    None,
}

/// Data threads of a router. More than that many processors are better left to containers: one of
/// them moves several gigabits a second.
const MAX_DATA_THREADS: usize = 4;

/// As many as there are processors, up to that.
pub(super) fn data_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(MAX_DATA_THREADS))
}
