//! From the state of the router to the report.

mod connections;
mod counters;
mod diagnostics;
mod metrics;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use weave_core::mesh::{self, PeerName};
use weave_core::metric::Reading;
use weave_core::router;
use weave_core::switch::MacEntry;
use weave_core::time::Instant;
use weave_fastdp::EngineStatus;
use weave_fastdp::ipsec::IpsecStatus;

use crate::sys::local_time::LocalTime;
use connections::{attempt, connection, name_conflict};
use counters::{capture_stats, counters, readings};
use diagnostics::overlay_diagnostics;
use metrics::metrics;
use weave_api::Detail;
use weave_api::report::{
    BroadcastRoute, Mac, Peer, PeerConnection, Report, RouterStatus, UnicastRoute,
};

/// What the router does not know of itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct HostStatus {
    pub(crate) version: String,
    /// How the router hears and speaks on the host, e.g. `vethwe-tap (via tap)`.
    pub(crate) interface: String,
    /// Where the rules of the firewall are, e.g. `iptables-nft`.
    pub(crate) firewall: String,
    /// What carries frames in the kernel, or why nothing does.
    pub(crate) fastdp: String,
    /// What it knows of itself.
    pub(crate) engine: Option<EngineStatus>,
    /// What seals it, if something does.
    pub(crate) ipsec: Option<IpsecStatus>,
    /// What the capture port counts.
    pub(crate) capture: Vec<Reading>,
    /// What the UDP socket counts for all links together.
    pub(crate) sleeve: Vec<Reading>,
    /// Why nothing can be stored.
    pub(crate) state_fault: Option<String>,
}

/// The two clocks at one moment: what the router's clock shows, and the one on the wall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) router: Instant,
    pub(crate) wall: SystemTime,
}

impl Now {
    fn wall_time(self, time: Instant) -> LocalTime {
        let ahead = time.saturating_since(self.router);
        let wall = if ahead > Duration::ZERO {
            self.wall.checked_add(ahead)
        } else {
            self.wall.checked_sub(self.router.saturating_since(time))
        };
        LocalTime::at(wall.unwrap_or(self.wall))
    }
}

/// Makes the report of the router; the parts add their sections. Peers and stations are sorted,
/// this peer first: what is left out is last.
pub(crate) fn gather(
    mut report: router::Report,
    host: &HostStatus,
    now: Now,
    detail: Detail,
) -> Report {
    let mut stations = std::mem::take(&mut report.stations);
    let report = &report;
    let mesh = &report.mesh;
    let nicknames: BTreeMap<PeerName, &str> =
        mesh.peers.iter().map(|peer| (peer.name, peer.nickname.as_str())).collect();
    let mut peers: Vec<_> = mesh.peers.iter().collect();
    peers.sort_by_key(|peer| (peer.name != mesh.name, peer.name));
    let station_count = stations.len();
    if detail.most_stations() > 0 {
        stations.sort_by_key(|station| (station.peer != mesh.name, station.peer, station.mac));
    }
    stations.truncate(detail.most_stations());

    let connections = mesh.connections.iter().map(|c| connection(c, report));
    let targets = mesh.targets.iter().filter_map(|target| attempt(target, now));
    let conflicts = mesh.name_conflicts.iter().map(name_conflict);
    let readings = readings(report, host);
    let mut router = RouterStatus {
        protocol: "weave".to_owned(),
        protocol_min_version: mesh.protocol_versions.0,
        protocol_max_version: mesh.protocol_versions.1,
        encryption: mesh.encrypted,
        peer_discovery: mesh.discovery,
        name: mesh.name.to_string(),
        nick_name: mesh.nickname.clone(),
        port: mesh.port,
        peers: peers.into_iter().map(peer).collect(),
        unicast_routes: mesh
            .unicast_routes
            .iter()
            .map(|(dest, via)| UnicastRoute { dest: dest.to_string(), via: via.to_string() })
            .collect(),
        broadcast_routes: mesh
            .broadcast_routes
            .iter()
            .map(|(source, via)| BroadcastRoute {
                source: source.to_string(),
                via: via.iter().map(PeerName::to_string).collect(),
            })
            .collect(),
        connections: connections.chain(targets).chain(conflicts).collect(),
        termination_count: mesh.counters.connections_ended,
        targets: mesh.direct_peers.clone(),
        overlay_diagnostics: overlay_diagnostics(report, host),
        trusted_subnets: mesh.trusted_subnets.iter().map(ToString::to_string).collect(),
        interface: host.interface.clone(),
        firewall: host.firewall.clone(),
        storage: host.state_fault.clone().unwrap_or_default(),
        fastdp: host.fastdp.clone(),
        capture_stats: capture_stats(host),
        macs: stations.iter().map(|station| mac(station, &nicknames, now)).collect(),
        macs_left_out: station_count - stations.len(),
        stations: station_count,
        flows: host.engine.as_ref().map(|engine| engine.flow_count),
        counters: counters(&readings),
        metrics: Vec::new(),
    };
    if detail == Detail::Metrics {
        router.metrics = metrics(report, host, &router, &readings);
    }
    let version = host.version.clone();
    Report { ready: true, version, router, ..Report::default() }
}

fn peer(peer: &mesh::PeerReport) -> Peer {
    Peer {
        name: peer.name.to_string(),
        nick_name: peer.nickname.clone(),
        uid: peer.uid.0,
        short_id: peer.short_id.map_or(0, |id| id.get()),
        version: peer.version,
        connections: peer
            .connections
            .iter()
            .map(|connection| PeerConnection {
                name: connection.name.to_string(),
                nick_name: connection.nickname.clone(),
                address: connection.address.clone(),
                outbound: connection.outbound,
                established: connection.established,
            })
            .collect(),
    }
}

fn mac(station: &MacEntry, nicknames: &BTreeMap<PeerName, &str>, now: Now) -> Mac {
    Mac {
        mac: station.mac.to_string(),
        name: station.peer.to_string(),
        nick_name: nicknames.get(&station.peer).copied().unwrap_or_default().to_owned(),
        last_seen: now.wall_time(station.last_seen).rfc3339(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use weave_api::{json, text};
    use weave_core::mesh::{Config, Uid};
    use weave_core::router::Router;
    use weave_core::switch::{NullOverlay, Overlay, Switch};
    use weave_core::wire::MacAddress;
    use weave_fastdp::EngineFlow;

    use super::*;

    #[test]
    fn a_lonely_router() {
        let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
        let mut config = Config::new(name, Uid(1));
        config.nickname = "host1".to_owned();
        let switch = std::sync::Arc::new(Switch::new(name, 1));
        let router =
            Router::new(config, switch, vec![Box::new(NullOverlay)], [1; 32], Instant::ORIGIN);
        let sleeve = vec![Reading::counter("rx_dropped_short", "Short ones.", 3)];
        let version = "0.1.0".to_owned();
        let host = HostStatus { version, sleeve, ..HostStatus::default() };
        let now = Now { router: Instant::ORIGIN, wall: UNIX_EPOCH };
        let report = gather(router.report(), &host, now, Detail::Everything);
        let text = text::status(&report);
        assert!(text.contains("           Name: 7a:9f:eb:b6:0c:6e(host1)\n"), "{text}");
        assert!(text.contains("       Protocol: weave 2\n"), "{text}");
        assert_eq!(report.router.counters["frames_dropped.no_route"], 0);
        assert_eq!(report.router.counters["sleeve_rx_dropped_short"], 3);
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
        let switch = std::sync::Arc::new(Switch::new(name, 1));
        let overlays: Vec<Box<dyn Overlay>> = vec![Box::new(NullOverlay)];
        let config = Config::new(name, Uid(1));
        let mut known = Router::new(config, switch, overlays, [1; 32], Instant::ORIGIN).report();
        let station = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            let mac = MacAddress([2, 0, a, b, c, d]);
            // The last one is of this peer.
            let peer = if number == 65_535 { name } else { PeerName::from_u64(1).unwrap() };
            MacEntry { mac, peer, last_seen: Instant::ORIGIN }
        };
        known.stations = (0..65_536).map(station).collect();
        let flow = EngineFlow {
            keys: vec!["dst=02:00:00:00:00:01".to_owned()],
            actions: vec!["output=vxlan".to_owned()],
            packets: 0,
            bytes: 0,
            used: None,
        };
        let most = Detail::Everything.most_flows();
        let engine =
            EngineStatus { flows: vec![flow; most], flow_count: most + 7, ..Default::default() };
        let host = HostStatus { engine: Some(engine), ..HostStatus::default() };
        let now = Now { router: Instant::ORIGIN, wall: UNIX_EPOCH };

        let report = gather(known.clone(), &host, now, Detail::Metrics);
        assert_eq!((report.router.macs.len(), report.router.stations), (0, 65_536));
        assert_eq!(report.router.flows, Some(most + 7));

        let report = gather(known, &host, now, Detail::Everything);
        let listed = Detail::Everything.most_stations();
        assert_eq!(report.router.macs.len(), listed);
        assert_eq!(report.router.macs_left_out, 65_536 - listed);
        assert_eq!(report.router.macs[0].name, name.to_string(), "this peer is first");
        let fastdp = &report.router.overlay_diagnostics["fastdp"];
        assert_eq!(fastdp["FlowsLeftOut"], 7);
        let text = json::indented(&report).unwrap();
        assert!(text.len() < 8 << 20, "{} bytes", text.len());
    }

    #[test]
    fn the_past_is_shown_as_past() {
        let now = Now {
            router: Instant::since_origin(Duration::from_secs(100)),
            wall: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        };
        let seen = now.wall_time(Instant::since_origin(Duration::from_secs(40)));
        assert_eq!(seen, LocalTime::at(now.wall - Duration::from_secs(60)));
    }
}
