//! What a router is told at its start.

use std::net::IpAddr;
use std::path::PathBuf;

use weave_core::mesh::{Password, PeerName, Subnet};
use weave_host::Backend;
use weave_sleeve::native::Capabilities;

use crate::ipam;
use weave_api::Address;

/// The settings of one router, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address to listen on.
    pub host: IpAddr,
    /// TCP and UDP port of the mesh; VXLAN uses the next one.
    pub port: u16,
    /// Name of this peer; the one of before, or one made from the machine, if none.
    pub name: Option<PeerName>,
    /// What people call this peer.
    pub nickname: String,
    /// Encrypts, if there is one.
    pub password: Option<Password>,
    /// Networks between whose hosts nothing is encrypted.
    pub trusted_subnets: Vec<Subnet>,
    /// Most connections.
    pub connection_limit: Option<usize>,
    /// Whether to connect to peers that others know.
    pub discovery: bool,
    /// Whom to connect to.
    pub peers: Peers,
    /// Name of the bridge.
    pub weave_bridge: String,
    /// The largest packet of a container; automatic if none.
    pub mtu: Option<u32>,
    /// The bridge of Docker, to be kept apart.
    pub docker_bridge: Option<String>,
    /// Whether containers may reach the ports of the mesh.
    pub mesh_open_to_containers: bool,
    /// Whether the kernel may be told to forward packets.
    pub no_ip_forward: bool,
    /// Where firewall rules are kept; where the host has its own if none.
    pub firewall: Option<Backend>,
    /// Whether the kernel may carry frames.
    pub fastdp: bool,
    /// Whether there is to be a bridge beside a datapath.
    pub bridged: bool,
    /// How frames get from the bridge to the router.
    pub capture: Capture,
    /// Where to write what passes the port, as pcap.
    pub capture_file: Option<PathBuf>,
    /// Of the packet socket, in bytes.
    pub capture_buffer: usize,
    /// What the sleeve may do with routers like this one.
    pub abilities: Capabilities,
    /// The allocator of addresses, if there is to be one.
    pub ipam: Option<ipam::Settings>,
    /// Where the process tree of the host is mounted.
    pub proc_path: PathBuf,
    /// Where HTTP for control is.
    pub http_address: Option<Address>,
    /// Where HTTP for status and metrics is.
    pub status_address: Option<Address>,
    /// Where HTTP for metrics alone is.
    pub metrics_address: Option<Address>,
    /// Names, besides those of this host, by which it may be asked.
    pub http_allowed_hosts: Vec<String>,
    /// Prefix of the files of the state.
    pub db_prefix: PathBuf,
    /// Where the file system of the host is mounted.
    pub host_root: PathBuf,
}

/// Whom to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peers {
    /// These; if there are none, those of before.
    Given(Vec<String>),
    /// Those of before.
    Resume,
}

/// How frames get from the bridge to the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture {
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
