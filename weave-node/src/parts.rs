//! What a builder hands to the node.

use std::sync::Arc;

use weave_sleeve::native::Capabilities;

use crate::control::ClusterStatus;
use crate::ipam;
use crate::peer_source::PeerSource;
use crate::settings::{Bridge, Http, MeshSettings, Peers};
use crate::store::Store;
use crate::transport::{Preference, Transport};

/// What a node is made of: the settings of each part, and what the embedder brings.
pub(crate) struct Parts {
    pub(crate) mesh: MeshSettings,
    pub(crate) bridge: Bridge,
    pub(crate) http: Http,
    pub(crate) ipam: Option<ipam::Settings>,
    pub(crate) capabilities: Capabilities,
    pub(crate) peers: Peers,
    pub(crate) sources: Vec<Box<dyn PeerSource>>,
    pub(crate) overlays: Vec<(Preference, Box<dyn Transport>)>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cluster: Option<ClusterStatus>,
}
