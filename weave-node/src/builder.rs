//! How a node is put together.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weave_api::report::KubernetesStatus;
use weave_core::Cidr;
use weave_core::mesh::{Password, PeerName};
use weave_ipam::allocator::Origin;
use weave_sleeve::native::Capabilities;

use crate::control::ClusterStatus;
use crate::error::NodeError;
use crate::identity::peer_name;
use crate::ipam;
use crate::node::Node;
use crate::parts::Parts;
use crate::peer_source::PeerSource;
use crate::settings::{Bridge, Http, MeshSettings, Peers};
use crate::store::{FileStore, Store};
use crate::transport::{Preference, Transport};

/// Where the state of a node is by default: the prefix of its files.
pub const DEFAULT_PREFIX: &str = "/var/lib/weave/weave";

/// Puts a node together, and starts it.
///
/// What is not set has a default that works for one node of a host: the bridge `weave`, all
/// transports the kernel has, port 6783, no password, a state in [`DEFAULT_PREFIX`], no addresses
/// and no HTTP. Of several nodes in one process each needs a store, and an address or a port, of
/// its own, and at most one of them the bridge.
pub struct Builder {
    mesh: MeshSettings,
    bridge: Bridge,
    http: Http,
    ipam: Option<ipam::Settings>,
    capabilities: Capabilities,
    peers: Peers,
    sources: Vec<Box<dyn PeerSource>>,
    overlays: Vec<(Preference, Box<dyn Transport>)>,
    store: Option<Arc<dyn Store>>,
    cluster: Option<ClusterStatus>,
}

impl Node {
    /// Returns a builder with the defaults.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("mesh", &self.mesh)
            .field("bridge", &self.bridge)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Returns a builder with the defaults.
    pub fn new() -> Self {
        Self {
            mesh: MeshSettings::default(),
            bridge: Bridge::named(weave_host::BRIDGE_NAME),
            http: Http::default(),
            ipam: None,
            capabilities: Capabilities::default(),
            peers: Peers::Given(Vec::new()),
            sources: Vec::new(),
            overlays: Vec::new(),
            store: None,
            cluster: None,
        }
    }

    /// Sets the name of this peer, unique in the mesh. By default it is the one of before, or
    /// follows from the ids of this machine; without a bridge it is drawn by chance.
    #[must_use]
    pub fn name(mut self, name: PeerName) -> Self {
        self.mesh.name = Some(name);
        self
    }

    /// Sets what people call this peer; by default the name of the host.
    #[must_use]
    pub fn nickname(mut self, nickname: impl Into<String>) -> Self {
        self.mesh.nickname = nickname.into();
        self
    }

    /// Sets the IPv4 address and the TCP and UDP port of the mesh. The fast datapath uses the next
    /// UDP port.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.mesh.listen = address;
        self
    }

    /// Encrypts what crosses untrusted networks, with the same password on all peers.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.mesh.password = Password::new(password.into());
        self
    }

    /// Reads the password from the first line of a file.
    ///
    /// # Errors
    /// The file cannot be read, or its first line is empty.
    pub fn password_file(self, path: impl AsRef<Path>) -> Result<Self, io::Error> {
        let text = std::fs::read_to_string(path)?;
        match text.lines().next() {
            None | Some("") => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the first line is empty"))
            }
            Some(line) => Ok(self.password(line)),
        }
    }

    /// Sets the networks between whose hosts nothing is encrypted.
    #[must_use]
    pub fn trusted_subnets(mut self, subnets: impl IntoIterator<Item = Cidr>) -> Self {
        self.mesh.trusted_subnets = subnets.into_iter().collect();
        self
    }

    /// Sets how many connections there are at most; `None` for no limit.
    #[must_use]
    pub fn connection_limit(mut self, limit: Option<usize>) -> Self {
        self.mesh.connection_limit = limit;
        self
    }

    /// Sets whether to connect to peers that others know; it does by default.
    #[must_use]
    pub fn discovery(mut self, on: bool) -> Self {
        self.mesh.discovery = on;
        self
    }

    /// Sets the peers to connect to, as `host` or `host:port`. If there are none, those of before
    /// are used.
    #[must_use]
    pub fn peers(mut self, peers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.peers = Peers::Given(peers.into_iter().map(Into::into).collect());
        self
    }

    /// Connects to the peers of before, whatever they were.
    #[must_use]
    pub fn resume(mut self) -> Self {
        self.peers = Peers::Resume;
        self
    }

    /// Adds something that knows peers, besides those given here and by HTTP.
    #[must_use]
    pub fn peer_source(mut self, source: impl PeerSource) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// Sets the local end: [`Bridge::named`], [`Bridge::none`], or [`Bridge::port`] for a port of
    /// one's own.
    #[must_use]
    pub fn bridge(mut self, bridge: Bridge) -> Self {
        self.bridge = bridge;
        self
    }

    /// Adds a transport of one's own, before the UDP encapsulation in user space and after the
    /// kernel's.
    #[must_use]
    pub fn overlay(self, transport: impl Transport) -> Self {
        self.overlay_at(Preference::BeforeSleeve, transport)
    }

    /// Adds a transport of one's own at a place in the order of preference; of those at one place,
    /// the one added first is preferred.
    #[must_use]
    pub fn overlay_at(mut self, preference: Preference, transport: impl Transport) -> Self {
        self.overlays.push((preference, Box::new(transport)));
        self
    }

    /// Sets what the UDP encapsulation may do with peers like this one; by default everything.
    #[must_use]
    pub fn sleeve(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Shares out the addresses of a range among all peers, which have to name the same one.
    #[must_use]
    pub fn ipam(self, range: weave_ipam::Subnet) -> Self {
        self.ipam_settings(ipam::Settings::new(range))
    }

    /// The same, with all there is to set.
    #[must_use]
    pub fn ipam_settings(mut self, settings: ipam::Settings) -> Self {
        self.ipam = Some(settings);
        self
    }

    /// Sets who makes the first division of the range; nothing without a range.
    #[must_use]
    pub fn ipam_origin(mut self, origin: Origin) -> Self {
        if let Some(ipam) = &mut self.ipam {
            ipam.origin = origin;
        }
        self
    }

    /// Returns the name that the node will have with this store.
    ///
    /// # Errors
    /// The host or the store cannot be read.
    pub fn peer_name(&self, store: &dyn Store) -> Result<PeerName, NodeError> {
        Ok(peer_name(self.mesh.name, &self.bridge, store)?)
    }

    /// Sets where the node keeps what has to survive a restart; by default a file in
    /// [`DEFAULT_PREFIX`].
    #[must_use]
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets what says, for reports and metrics, how a program that makes the node the pod network of
    /// a Kubernetes cluster gets on with that.
    #[must_use]
    pub fn kubernetes(
        mut self,
        status: impl Fn() -> KubernetesStatus + Send + Sync + 'static,
    ) -> Self {
        self.cluster = Some(Box::new(status));
        self
    }

    /// Sets a store that the program itself uses, too.
    #[must_use]
    pub fn shared_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets where the node answers HTTP; by default nowhere.
    #[must_use]
    pub fn http(mut self, http: Http) -> Self {
        self.http = http;
        self
    }

    /// Starts the node, in a tokio runtime with several threads. What was made before an error is
    /// removed again, as far as it would stop the next attempt.
    ///
    /// # Errors
    /// Something that was asked for cannot be had.
    pub async fn start(self) -> Result<Node, NodeError> {
        let store = match self.store {
            Some(store) => store,
            None => Arc::new(FileStore::open(PathBuf::from(DEFAULT_PREFIX))?),
        };
        let parts = Parts {
            mesh: self.mesh,
            bridge: self.bridge,
            http: self.http,
            ipam: self.ipam,
            capabilities: self.capabilities,
            peers: self.peers,
            sources: self.sources,
            overlays: self.overlays,
            store,
            cluster: self.cluster,
        };
        Node::start(parts).await
    }
}
