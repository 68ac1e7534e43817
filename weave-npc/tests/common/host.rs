//! Pods on a bridge, and connections between all of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use weave_firewall::nftables::{Family, Nftables};
use weave_npc::{Cluster, Packet, Pod, Protocol, Traffic, nft};
use weave_testbed::{Namespace, eventually};

/// Those of the common world of the vectors, less what is the same in all.
pub const PODS: [u8; 4] = [10, 11, 20, 21];
pub const PORTS: [u16; 4] = [53, 80, 90, 443];
pub const LIMIT: Duration = Duration::from_secs(10);

pub struct Host {
    pub namespace: Namespace,
    pub pods: Vec<Attached>,
}

/// A pod, and everything that listens in it.
pub struct Attached {
    pub namespace: Namespace,
    pub addresses: [IpAddr; 2],
    datagrams: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
}

impl Host {
    pub fn new(name: &str) -> Self {
        let namespace = Namespace::new(&format!("npc-{name}-host")).unwrap();
        namespace.ip("link add weave type bridge nf_call_iptables 1 nf_call_ip6tables 1").unwrap();
        namespace.ip("link set weave up").unwrap();
        // The bridge alone, and not all that there may be.
        for family in ["iptables", "ip6tables"] {
            namespace.sysctl(&format!("bridge/bridge-nf-call-{family}"), "0").unwrap();
        }
        let pods = PODS.iter().map(|low| Attached::new(name, &namespace, *low)).collect();
        Self { namespace, pods }
    }

    pub fn nft(&self, work: impl FnOnce(&Nftables) + Send + 'static) {
        self.namespace.enter(move || work(&Nftables::open().unwrap())).unwrap();
    }

    /// Packets that were refused until now.
    pub fn refused(&self) -> u64 {
        let counters = self.namespace.enter(|| {
            Nftables::open().unwrap().counters(Family::Inet, nft::TABLE).unwrap().unwrap()
        });
        counters.unwrap().values().map(|counter| counter.packets).sum()
    }

    /// Tries all connections, and compares what arrives with the model.
    pub fn probe(&self, cluster: &Cluster, what: &str) -> usize {
        let before = self.refused();
        let (mut expected, mut connections, mut sent) = (BTreeSet::new(), Vec::new(), 0);
        for from in &self.pods {
            let mut goals = Vec::new();
            for to in self.pods.iter().filter(|to| to.addresses != from.addresses) {
                for (&source, &destination) in from.addresses.iter().zip(&to.addresses) {
                    for port in PORTS {
                        for protocol in [Protocol::Tcp, Protocol::Udp] {
                            let traffic = Traffic::Port(protocol, port);
                            let packet = Packet { source, destination, traffic };
                            expected.extend(cluster.passes(&packet).then_some(packet));
                            goals.push(packet);
                        }
                    }
                }
            }
            sent += goals.len() as u64;
            let opened =
                from.namespace.enter(move || goals.iter().filter_map(open).collect::<Vec<_>>());
            connections.extend(opened.unwrap());
        }
        let mut arrived = BTreeSet::new();
        let found = eventually("every packet to arrive or be refused", LIMIT, || {
            for (packet, socket) in &connections {
                arrived.extend(socket.peer_addr().is_ok().then_some(*packet));
            }
            self.pods.iter().for_each(|pod| arrived.extend(pod.datagrams()));
            arrived.len() as u64 + (self.refused() - before) >= sent
        });
        let too_many: Vec<_> = arrived.difference(&expected).collect();
        let missing: Vec<_> = expected.difference(&arrived).collect();
        assert!(too_many.is_empty() && missing.is_empty(), "{what}: {too_many:?}, no {missing:?}");
        found.unwrap();
        // What nobody accepts would fill the queues.
        let listeners = self.pods.iter().flat_map(|pod| &pod.listeners);
        listeners.for_each(|listener| while listener.accept().is_ok() {});
        expected.len()
    }
}

impl Attached {
    fn new(name: &str, host: &Namespace, low: u8) -> Self {
        let namespace = Namespace::new(&format!("npc-{name}-{low}")).unwrap();
        let peer = namespace.name();
        host.ip(&format!("link add pod{low} type veth peer name eth0 netns {peer}")).unwrap();
        host.ip(&format!("link set pod{low} master weave up")).unwrap();
        let addresses = [format!("10.32.0.{low}"), format!("fd00:32::{low}")];
        namespace.ip(&format!("addr add {}/24 dev eth0", addresses[0])).unwrap();
        namespace.ip(&format!("addr add {}/64 dev eth0 nodad", addresses[1])).unwrap();
        namespace.ip("link set eth0 up").unwrap();
        let addresses = addresses.map(|text| text.parse::<IpAddr>().unwrap());
        let sockets = namespace.enter(move || {
            let goals =
                addresses.iter().flat_map(|own| PORTS.map(|port| SocketAddr::new(*own, port)));
            let datagrams = goals.clone().map(|goal| UdpSocket::bind(goal).unwrap());
            let datagrams: Vec<_> = datagrams.collect();
            datagrams.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            let listeners: Vec<_> = goals.map(|goal| TcpListener::bind(goal).unwrap()).collect();
            listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
            (datagrams, listeners)
        });
        let (datagrams, listeners) = sockets.unwrap();
        Self { namespace, addresses, datagrams, listeners }
    }

    /// Returns the datagrams that came.
    fn datagrams(&self) -> Vec<Packet> {
        let mut packets = Vec::new();
        for socket in &self.datagrams {
            let own = socket.local_addr().unwrap();
            while let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
                let traffic = Traffic::Port(Protocol::Udp, own.port());
                packets.push(Packet { source: from.ip(), destination: own.ip(), traffic });
            }
        }
        packets
    }
}

/// Sends a datagram, or begins a connection, from the pod that the thread is in.
fn open(packet: &Packet) -> Option<(Packet, Socket)> {
    let Traffic::Port(protocol, port) = packet.traffic else { unreachable!() };
    let goal = SocketAddr::new(packet.destination, port);
    if protocol == Protocol::Udp {
        let socket = UdpSocket::bind(SocketAddr::new(packet.source, 0)).unwrap();
        socket.send_to(b"x", goal).unwrap();
        return None;
    }
    let socket = Socket::new(Domain::for_address(goal), Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&SocketAddr::new(packet.source, 0).into()).unwrap();
    // Not yet, it says.
    let _ = socket.connect(&goal.into());
    Some((*packet, socket))
}

/// A pod of the vectors on the node of the test, with an address of IPv6 like that of IPv4.
pub fn on_node(mut pod: Pod) -> Pod {
    let twins: Vec<IpAddr> = pod
        .addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) => format!("fd00:32::{}", address.octets()[3]).parse().ok(),
            IpAddr::V6(_) => None,
        })
        .collect();
    pod.addresses.extend(twins);
    pod.node = Some("node".to_owned());
    pod
}
