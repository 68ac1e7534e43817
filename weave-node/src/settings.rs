//! What a node is told at its start, apart for each part.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use weave_core::Cidr;
use weave_core::mesh::{DEFAULT_CONNECTION_LIMIT, DEFAULT_PORT, Password, PeerName};
use weave_host::Backend;
use weave_sleeve::port::Port;

use weave_api::Address;

/// The mesh of a node: its own address and name, and whom it believes.
#[derive(Clone, Debug)]
pub(crate) struct MeshSettings {
    /// Where to listen, by TCP and UDP.
    pub(crate) listen: SocketAddr,
    pub(crate) name: Option<PeerName>,
    pub(crate) nickname: String,
    pub(crate) password: Option<Password>,
    pub(crate) trusted_subnets: Vec<Cidr>,
    pub(crate) connection_limit: Option<usize>,
    pub(crate) discovery: bool,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], DEFAULT_PORT).into(),
            name: None,
            nickname: host_name(),
            password: None,
            trusted_subnets: Vec::new(),
            connection_limit: Some(DEFAULT_CONNECTION_LIMIT),
            discovery: true,
        }
    }
}

impl MeshSettings {
    /// The UDP port of the fast datapath: the next one. None after 65535.
    pub(crate) const fn vxlan_port(&self) -> Option<u16> {
        self.listen.port().checked_add(1)
    }
}

/// Returns what this host is called, or `localhost`.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The local end of a node: the bridge that containers are attached to, or what is there in its
/// place.
///
/// ```
/// use weave_node::{Bridge, Capture, Firewall};
///
/// let bridge = Bridge::named("weave").mtu(1400).capture(Capture::Tap);
/// let bridge = bridge.firewall(Firewall::default().ip_forward(false));
/// ```
#[derive(Debug)]
pub struct Bridge {
    pub(crate) name: String,
    /// Whether the node looks at this host at all: at its bridge, its containers and its ids.
    pub(crate) on_host: bool,
    pub(crate) mtu: Option<u32>,
    pub(crate) capture: Capture,
    pub(crate) capture_file: Option<PathBuf>,
    pub(crate) capture_buffer: usize,
    pub(crate) fastdp: bool,
    pub(crate) bridged: bool,
    pub(crate) proc_path: PathBuf,
    pub(crate) host_root: PathBuf,
    pub(crate) firewall: Firewall,
    pub(crate) port: OwnPort,
}

/// A port of the embedder's own, taken when the devices are set up.
#[derive(Default)]
pub(crate) struct OwnPort(pub(crate) Option<Box<dyn Port>>);

impl std::fmt::Debug for OwnPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OwnPort").field(&self.0.is_some()).finish()
    }
}

/// Memory of a packet socket for frames that wait, in bytes.
const CAPTURE_BUFFER: usize = 8 << 20;

impl Bridge {
    /// Returns a bridge of this name on this host. It is made if it is not there, and stays when
    /// the node ends.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            on_host: true,
            mtu: None,
            capture: Capture::Auto,
            capture_file: None,
            capture_buffer: CAPTURE_BUFFER,
            fastdp: true,
            bridged: true,
            proc_path: "/proc".into(),
            host_root: "/".into(),
            firewall: Firewall::default(),
            port: OwnPort::default(),
        }
    }

    /// Returns no bridge: the node passes frames on for others, and changes nothing on this host.
    pub fn none() -> Self {
        let named = Self::named(weave_host::BRIDGE_NAME);
        Self { on_host: false, capture: Capture::None, ..named }
    }

    /// Returns a port of one's own in place of a bridge: frames are captured from it and injected
    /// into it.
    pub fn port(port: impl Port + 'static) -> Self {
        Self { port: OwnPort(Some(Box::new(port))), ..Self::none() }
    }

    /// Sets the largest packet of a container; by default it follows from the network below.
    #[must_use]
    pub fn mtu(self, bytes: u32) -> Self {
        Self { mtu: Some(bytes), ..self }
    }

    /// Sets how frames get from the bridge to the node.
    #[must_use]
    pub fn capture(self, capture: Capture) -> Self {
        Self { capture, ..self }
    }

    /// Writes what passes between bridge and node to a file, in pcap format.
    #[must_use]
    pub fn capture_file(self, path: impl Into<PathBuf>) -> Self {
        Self { capture_file: Some(path.into()), ..self }
    }

    /// Sets the memory for frames that wait in a packet socket, in bytes.
    #[must_use]
    pub fn capture_buffer(self, bytes: usize) -> Self {
        Self { capture_buffer: bytes, ..self }
    }

    /// Sets whether the kernel may carry frames by itself, in VXLAN; it may by default.
    #[must_use]
    pub fn fast_datapath(self, on: bool) -> Self {
        Self { fastdp: on, ..self }
    }

    /// Sets whether there is a bridge beside a datapath of Open vSwitch; there is by default.
    #[must_use]
    pub fn beside_datapath(self, on: bool) -> Self {
        Self { bridged: on, ..self }
    }

    /// Sets where the process tree of the host is mounted, and where its file system is.
    #[must_use]
    pub fn host_paths(self, proc: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        Self { proc_path: proc.into(), host_root: root.into(), ..self }
    }

    /// Sets the firewall rules that go with the bridge.
    #[must_use]
    pub fn firewall(self, firewall: Firewall) -> Self {
        Self { firewall, ..self }
    }

    /// Whether there is a bridge that frames are captured from.
    pub(crate) fn is_there(&self) -> bool {
        self.capture != Capture::None
    }
}

/// The firewall rules that go with a bridge, and forwarding.
#[derive(Clone, Debug)]
pub struct Firewall {
    pub(crate) backend: Option<Backend>,
    pub(crate) docker_bridge: Option<String>,
    pub(crate) mesh_open_to_containers: bool,
    pub(crate) ip_forward: bool,
    pub(crate) closed: BTreeSet<u16>,
}

impl Default for Firewall {
    /// Rules where the host has its own, the mesh closed to containers, and forwarding.
    fn default() -> Self {
        Self {
            backend: None,
            docker_bridge: None,
            mesh_open_to_containers: false,
            ip_forward: true,
            closed: BTreeSet::new(),
        }
    }
}

impl Firewall {
    /// Sets where rules are kept; [`Backend::None`] for no rules.
    #[must_use]
    pub fn backend(self, backend: Backend) -> Self {
        Self { backend: Some(backend), ..self }
    }

    /// Keeps the bridge of Docker apart from this one.
    #[must_use]
    pub fn docker_bridge(self, name: impl Into<String>) -> Self {
        Self { docker_bridge: Some(name.into()), ..self }
    }

    /// Sets whether containers may reach the ports of the mesh, here and on other hosts.
    #[must_use]
    pub fn mesh_open_to_containers(self, open: bool) -> Self {
        Self { mesh_open_to_containers: open, ..self }
    }

    /// Closes another TCP port to containers like those of the mesh: that of a transport.
    #[must_use]
    pub fn close(mut self, port: u16) -> Self {
        self.closed.insert(port);
        self
    }

    /// Sets whether the kernel may be told to forward packets when the host gets an address.
    #[must_use]
    pub fn ip_forward(self, on: bool) -> Self {
        Self { ip_forward: on, ..self }
    }
}

/// Where a node answers HTTP: nowhere by default.
#[derive(Clone, Debug, Default)]
pub struct Http {
    pub(crate) control: Option<Address>,
    pub(crate) status: Option<Address>,
    pub(crate) metrics: Option<Address>,
    pub(crate) allowed_hosts: Vec<String>,
}

impl Http {
    /// Sets the address for control, status and metrics. There is no authentication: whoever
    /// reaches it may use it, so that it is a loopback address or a Unix socket.
    #[must_use]
    pub fn control(self, address: Address) -> Self {
        Self { control: Some(address), ..self }
    }

    /// Sets the address for status and metrics.
    #[must_use]
    pub fn status(self, address: Address) -> Self {
        Self { status: Some(address), ..self }
    }

    /// Sets the address for metrics alone.
    #[must_use]
    pub fn metrics(self, address: Address) -> Self {
        Self { metrics: Some(address), ..self }
    }

    /// Sets names, besides those of this host, by which it may be asked.
    #[must_use]
    pub fn allowed_hosts(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { allowed_hosts: names.into_iter().collect(), ..self }
    }
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
