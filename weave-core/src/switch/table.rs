//! The published forwarding table: next hops, broadcast sets, and the links that lead there.
//!
//! A table is never changed. The control plane builds a new one whenever routes or links change
//! and publishes it whole; data threads keep the one they loaded for the frames at hand.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::Forwarder;
use crate::mesh::{PeerName, Routes};

/// The routes a table is built from. For frames these are those over established connections
/// (spec mesh.md, section 17.3).
pub trait Topology: Send + Sync {
    /// Every reachable peer but the own one, and the neighbour that leads there.
    fn next_hops(&self) -> Vec<(PeerName, PeerName)>;

    /// The neighbours that get a broadcast of `source` from this peer.
    fn broadcast(&self, source: PeerName) -> Vec<PeerName>;

    /// The neighbour from which this peer gets the broadcasts of `source`; `None` if that is not
    /// known.
    fn flood_parent(&self, _source: PeerName) -> Option<PeerName> {
        None
    }

    /// Whether there is a peer of this name, reachable or not.
    fn knows(&self, peer: PeerName) -> bool;

    /// The peers that are no farther from `destination` than the own one, and so have no reason to
    /// send frames for it this way; none if that is not known.
    fn no_farther(&self, _destination: PeerName) -> Vec<PeerName> {
        Vec::new()
    }
}

impl Topology for Routes {
    fn next_hops(&self) -> Vec<(PeerName, PeerName)> {
        self.unicast_table().collect()
    }

    fn broadcast(&self, source: PeerName) -> Vec<PeerName> {
        Self::broadcast(self, source).to_vec()
    }

    fn flood_parent(&self, source: PeerName) -> Option<PeerName> {
        Self::broadcast_parent(self, source)
    }

    fn knows(&self, peer: PeerName) -> bool {
        self.peers().binary_search(&peer).is_ok()
    }

    fn no_farther(&self, destination: PeerName) -> Vec<PeerName> {
        Self::no_farther(self, destination)
    }
}

/// The links to one neighbour, as the table is built from them.
#[derive(Clone)]
pub struct NeighbourLinks {
    /// The neighbour.
    pub name: PeerName,
    /// The usable links, the best one first.
    pub forwarders: Vec<Arc<dyn Forwarder>>,
}

/// Where frames go: never changed, replaced as a whole.
pub struct ForwardingTable {
    own: PeerName,
    topology: Option<Arc<dyn Topology>>,
    /// Sorted by name.
    neighbours: Box<[Neighbour]>,
    /// Those of one neighbour lie side by side, in order of preference.
    forwarders: Box<[Arc<dyn Forwarder>]>,
    /// Sorted by name.
    peers: Box<[Destination]>,
}

/// A neighbour with a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    name: PeerName,
    forwarders: Range<usize>,
}

/// A reachable peer.
struct Destination {
    name: PeerName,
    /// Index of the neighbour; none if the route leads over one without a connection.
    hop: Option<usize>,
    /// Found out when the first broadcast comes, because most peers never broadcast through most
    /// others.
    flood: OnceLock<Flood>,
    /// Indices of the neighbours that are no farther from it. Found out when the first frame is
    /// relayed to it.
    no_farther: OnceLock<Box<[usize]>>,
}

/// The way of a peer's broadcasts.
#[derive(Default)]
struct Flood {
    /// The neighbour that they come from; `None` if that is not known.
    parent: Option<PeerName>,
    /// Indices of the neighbours that get them.
    hops: Box<[usize]>,
}

impl Destination {
    const fn new(name: PeerName, hop: Option<usize>) -> Self {
        Self { name, hop, flood: OnceLock::new(), no_farther: OnceLock::new() }
    }
}

/// What a table says about a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NextHop<'t> {
    /// Nobody knows a way.
    NoRoute,
    /// There is a way, but its first step has no connection (any more).
    NoLink,
    /// This way.
    Via(&'t Neighbour),
}

impl ForwardingTable {
    /// The table of a router without neighbours.
    pub fn isolated(own: PeerName) -> Self {
        Self {
            own,
            topology: None,
            neighbours: Box::default(),
            forwarders: Box::default(),
            peers: Box::default(),
        }
    }

    /// A table for the peer `own` with these routes and links. Two entries for one neighbour are
    /// a mistake of the caller; the first counts.
    pub fn new(own: PeerName, topology: Arc<dyn Topology>, mut links: Vec<NeighbourLinks>) -> Self {
        links.sort_by_key(|links| links.name);
        links.dedup_by_key(|links| links.name);
        let mut forwarders = Vec::new();
        let neighbours: Box<[Neighbour]> = links
            .into_iter()
            .map(|links| {
                let first = forwarders.len();
                forwarders.extend(links.forwarders);
                Neighbour { name: links.name, forwarders: first..forwarders.len() }
            })
            .collect();
        let mut peers: Vec<_> = topology
            .next_hops()
            .into_iter()
            .filter(|&(name, _)| name != own)
            .map(|(name, hop)| {
                let hop = neighbours.binary_search_by_key(&hop, |neighbour| neighbour.name);
                Destination::new(name, hop.ok())
            })
            .collect();
        peers.sort_by_key(|peer| peer.name);
        // The own peer is a source of broadcasts like any other, but no destination.
        let here = peers.partition_point(|peer| peer.name < own);
        peers.insert(here, Destination::new(own, None));
        Self {
            own,
            topology: Some(topology),
            neighbours,
            forwarders: forwarders.into(),
            peers: peers.into(),
        }
    }

    /// The peer whose table this is.
    pub const fn own(&self) -> PeerName {
        self.own
    }

    /// The neighbours with a connection, by name.
    pub fn neighbours(&self) -> &[Neighbour] {
        &self.neighbours
    }

    /// The links of a neighbour of this table, the best one first.
    pub fn forwarders(&self, neighbour: &Neighbour) -> &[Arc<dyn Forwarder>] {
        self.forwarders.get(neighbour.forwarders.clone()).unwrap_or_default()
    }

    /// Whether there is a peer of this name, reachable or not.
    pub(super) fn knows(&self, peer: PeerName) -> bool {
        // Nearly always the peer is reachable, and found without a call.
        self.find(peer).is_some() || self.topology.as_ref().is_some_and(|all| all.knows(peer))
    }

    pub(super) fn next_hop(&self, destination: PeerName) -> NextHop<'_> {
        match self.find(destination) {
            None => NextHop::NoRoute,
            Some(peer) => peer
                .hop
                .and_then(|hop| self.neighbours.get(hop))
                .map_or(NextHop::NoLink, NextHop::Via),
        }
    }

    /// Whether a neighbour may have a reason to send frames for `destination` this way.
    pub(super) fn leads_on(&self, neighbour: PeerName, destination: PeerName) -> bool {
        let index = |name: PeerName| self.neighbours.binary_search_by_key(&name, |n| n.name).ok();
        let (Some(peer), Some(neighbour)) = (self.find(destination), index(neighbour)) else {
            return true;
        };
        let no_farther = peer.no_farther.get_or_init(|| {
            let near = self.topology.iter().flat_map(|all| all.no_farther(destination));
            near.filter_map(index).collect()
        });
        no_farther.binary_search(&neighbour).is_err()
    }

    /// The neighbours that get a broadcast of `source`; those without a connection are left out.
    pub(super) fn flood(&self, source: PeerName) -> Hops<'_> {
        let indices = self.way_of_floods(source).map_or(&[][..], |flood| &flood.hops);
        Hops { neighbours: &self.neighbours, indices, except: None }
    }

    /// Whether the broadcasts of `source` come from this neighbour, unless routers know different
    /// topologies.
    pub(super) fn expects_floods(&self, source: PeerName, neighbour: PeerName) -> bool {
        let parent = self.way_of_floods(source).and_then(|flood| flood.parent);
        parent.is_none_or(|parent| parent == neighbour)
    }

    fn way_of_floods(&self, source: PeerName) -> Option<&Flood> {
        let peer = self.find(source)?;
        Some(peer.flood.get_or_init(|| {
            let Some(topology) = &self.topology else { return Flood::default() };
            let index = |hop| self.neighbours.binary_search_by_key(&hop, |n| n.name).ok();
            let hops = topology.broadcast(source).into_iter().filter_map(index).collect();
            Flood { parent: topology.flood_parent(source), hops }
        }))
    }

    /// Whether frames for this peer have a way: it is reachable by a neighbour with a connection.
    pub fn has_way(&self, destination: PeerName) -> bool {
        matches!(self.next_hop(destination), NextHop::Via(_))
    }

    /// Whether this peer sends on what floods that neighbour starts.
    pub fn relays(&self, neighbour: PeerName) -> bool {
        !self.flood(neighbour).except(neighbour).is_empty()
    }

    /// The range of a neighbour's forwarders among all of the table.
    pub(super) fn forwarder_indices(&self, neighbour: &Neighbour) -> Range<usize> {
        neighbour.forwarders.clone()
    }

    pub(super) fn forwarder(&self, index: usize) -> Option<&Arc<dyn Forwarder>> {
        self.forwarders.get(index)
    }

    pub(super) fn forwarder_count(&self) -> usize {
        self.forwarders.len()
    }

    fn find(&self, name: PeerName) -> Option<&Destination> {
        let index = self.peers.binary_search_by_key(&name, |peer| peer.name).ok()?;
        self.peers.get(index)
    }
}

impl fmt::Debug for ForwardingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardingTable")
            .field("own", &self.own)
            .field("neighbours", &self.neighbours)
            .field("peers", &self.peers.iter().map(|peer| peer.name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Neighbour {
    /// What the neighbour is called.
    pub const fn name(&self) -> PeerName {
        self.name
    }
}

/// The neighbours a flooded frame goes to.
#[derive(Clone, Copy, Debug)]
pub struct Hops<'t> {
    neighbours: &'t [Neighbour],
    indices: &'t [usize],
    except: Option<PeerName>,
}

impl<'t> Hops<'t> {
    /// The same without the neighbour the frame came from.
    #[must_use]
    pub(super) const fn except(self, neighbour: PeerName) -> Self {
        Self { except: Some(neighbour), ..self }
    }

    /// Whether there are none.
    pub(super) fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// One after the other, in the order of the routes.
    pub fn iter(self) -> impl Iterator<Item = &'t Neighbour> {
        self.indices
            .iter()
            .filter_map(move |&index| self.neighbours.get(index))
            .filter(move |neighbour| Some(neighbour.name) != self.except)
    }
}

/// Routes and links for tests.
#[cfg(test)]
pub(super) mod fixture {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::super::{Envelope, Forwarded, WorkerId};
    use super::{Arc, Forwarder, PeerName, Topology};

    /// Routes written down by hand.
    #[derive(Default)]
    pub(in crate::switch) struct Routes {
        pub(in crate::switch) next_hops: BTreeMap<PeerName, PeerName>,
        pub(in crate::switch) broadcast: BTreeMap<PeerName, Vec<PeerName>>,
        pub(in crate::switch) flood_parents: BTreeMap<PeerName, PeerName>,
    }

    impl Topology for Routes {
        fn next_hops(&self) -> Vec<(PeerName, PeerName)> {
            self.next_hops.iter().map(|(&to, &via)| (to, via)).collect()
        }

        fn broadcast(&self, source: PeerName) -> Vec<PeerName> {
            self.broadcast.get(&source).cloned().unwrap_or_default()
        }

        fn flood_parent(&self, source: PeerName) -> Option<PeerName> {
            self.flood_parents.get(&source).copied()
        }

        fn knows(&self, peer: PeerName) -> bool {
            self.next_hops.contains_key(&peer)
        }
    }

    /// Source, destination, frame, whether it is flooded.
    #[derive(PartialEq, Eq, Debug)]
    pub(in crate::switch) struct Sent(
        pub(in crate::switch) PeerName,
        pub(in crate::switch) PeerName,
        pub(in crate::switch) Vec<u8>,
        pub(in crate::switch) bool,
    );

    /// Writes down what it is given and answers as told.
    pub(in crate::switch) struct Recorder {
        pub(in crate::switch) answer: Mutex<Forwarded>,
        pub(in crate::switch) taken: Mutex<Vec<Sent>>,
        pub(in crate::switch) flushes: Mutex<u32>,
    }

    impl Recorder {
        pub(in crate::switch) fn new(answer: Forwarded) -> Arc<Self> {
            Arc::new(Self {
                answer: Mutex::new(answer),
                taken: Mutex::default(),
                flushes: Mutex::default(),
            })
        }

        pub(in crate::switch) fn take(&self) -> Vec<Sent> {
            std::mem::take(&mut self.taken.lock().unwrap())
        }
    }

    impl Forwarder for Recorder {
        fn forward(&self, _: WorkerId, envelope: Envelope<'_>) -> Forwarded {
            let answer = *self.answer.lock().unwrap();
            if answer == Forwarded::Accepted {
                self.taken.lock().unwrap().push(Sent(
                    envelope.source,
                    envelope.destination,
                    envelope.frame.bytes.to_vec(),
                    envelope.broadcast,
                ));
            }
            answer
        }

        fn flush(&self, _: WorkerId) {
            *self.flushes.lock().unwrap() += 1;
        }
    }

    /// Peer number `n`.
    pub(in crate::switch) fn peer(n: u8) -> PeerName {
        PeerName::from_bytes([2, 0, 0, 0, 0, n])
    }
}

#[cfg(test)]
mod tests {
    use super::super::Forwarded;
    use super::fixture::{Recorder, Routes, peer};
    use super::*;

    fn links(names: &[u8]) -> Vec<NeighbourLinks> {
        names
            .iter()
            .map(|&n| NeighbourLinks {
                name: peer(n),
                forwarders: vec![
                    Recorder::new(Forwarded::Accepted),
                    Recorder::new(Forwarded::Accepted),
                ],
            })
            .collect()
    }

    #[test]
    fn next_hops_are_neighbours_with_a_connection() {
        let routes = Routes {
            next_hops: [(peer(2), peer(2)), (peer(3), peer(2)), (peer(4), peer(4))].into(),
            ..Routes::default()
        };
        let table = ForwardingTable::new(peer(1), Arc::new(routes), links(&[2]));
        assert!(matches!(table.next_hop(peer(2)), NextHop::Via(hop) if hop.name() == peer(2)));
        assert!(matches!(table.next_hop(peer(3)), NextHop::Via(hop) if hop.name() == peer(2)));
        assert_eq!(table.next_hop(peer(4)), NextHop::NoLink);
        assert_eq!(table.next_hop(peer(5)), NextHop::NoRoute);
        let hop = &table.neighbours()[0];
        assert_eq!(table.forwarders(hop).len(), 2);
    }

    #[test]
    fn floods_go_to_the_broadcast_set_of_their_source() {
        let routes = Routes {
            next_hops: [(peer(2), peer(2)), (peer(3), peer(3))].into(),
            broadcast: [(peer(1), vec![peer(3), peer(2), peer(9)]), (peer(2), vec![peer(3)])]
                .into(),
            ..Routes::default()
        };
        let table = ForwardingTable::new(peer(1), Arc::new(routes), links(&[3, 2]));
        let names = |hops: Hops<'_>| hops.iter().map(Neighbour::name).collect::<Vec<_>>();
        assert_eq!(names(table.flood(peer(1))), [peer(3), peer(2)]);
        assert_eq!(names(table.flood(peer(2))), [peer(3)]);
        assert_eq!(names(table.flood(peer(2)).except(peer(3))), []);
        assert_eq!(names(table.flood(peer(3))), []);
        assert_eq!(names(table.flood(peer(7))), []);
    }
}
