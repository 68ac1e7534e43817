//! From the state of the router to the report.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use weave_core::mesh::{self, NameClash, PeerName, TargetReport, TargetState};
use weave_core::router::{self, LinkReport};
use weave_core::switch::{MacEntry, MemberState};
use weave_core::time::Instant;
use weave_fastdp::EngineStatus;
use weave_ipam::allocator::Vote;

use super::report::{
    BroadcastRoute, ClaimedCidr, Connection, IpamEntry, IpamStatus, Mac, PaxosStatus, Peer,
    PeerConnection, PendingClaim, Report, RouterStatus, UnicastRoute, VersionCheck,
};
use crate::sys::local_time::LocalTime;

/// What the router does not know of itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) version: String,
    /// How the router hears and speaks on the host, e.g. `vethwe-tap (via tap)`.
    pub(crate) interface: String,
    /// Where the rules of the firewall are, e.g. `iptables-nft`.
    pub(crate) firewall: String,
    /// What carries frames in the kernel, or why nothing does.
    pub(crate) fastdp: String,
    /// What it knows of itself.
    pub(crate) engine: Option<EngineStatus>,
    /// What the capture port counts.
    pub(crate) capture: BTreeMap<String, u64>,
    /// What the UDP socket counts for all links together.
    pub(crate) sleeve: BTreeMap<String, u64>,
    /// The address allocator, if there is one, and its default subnet.
    pub(crate) ipam: Option<(weave_ipam::allocator::Report, weave_ipam::Subnet)>,
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

/// Makes the report. Peers and stations are sorted, this peer first.
pub(crate) fn gather(report: &router::Report, surroundings: &Surroundings, now: Now) -> Report {
    let mesh = &report.mesh;
    let nicknames: BTreeMap<PeerName, &str> =
        mesh.peers.iter().map(|peer| (peer.name, peer.nickname.as_str())).collect();
    let mut peers: Vec<_> = mesh.peers.iter().collect();
    peers.sort_by_key(|peer| (peer.name != mesh.name, peer.name));
    let mut stations = report.stations.clone();
    stations.sort_by_key(|station| (station.peer != mesh.name, station.peer, station.mac));

    let connections = mesh.connections.iter().map(|c| connection(c, report));
    let targets = mesh.targets.iter().filter_map(|target| attempt(target, now));
    let clashes = mesh.clashes.iter().map(clash);
    let router = RouterStatus {
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
        connections: connections.chain(targets).chain(clashes).collect(),
        termination_count: mesh.counters.connections_ended,
        targets: mesh.direct_peers.clone(),
        overlay_diagnostics: overlay_diagnostics(report, surroundings.engine.as_ref()),
        trusted_subnets: mesh.trusted_subnets.iter().map(ToString::to_string).collect(),
        interface: surroundings.interface.clone(),
        firewall: surroundings.firewall.clone(),
        fastdp: surroundings.fastdp.clone(),
        capture_stats: capture_stats(surroundings),
        macs: stations.iter().map(|station| mac(station, &nicknames, now)).collect(),
        counters: counters(report, surroundings),
    };
    let version = surroundings.version.clone();
    let ipam = surroundings.ipam.as_ref().map(|(report, default)| ipam(report, *default));
    Report { ready: true, version, version_check: VersionCheck::default(), router, ipam }
}

fn ipam(report: &weave_ipam::allocator::Report, default_subnet: weave_ipam::Subnet) -> IpamStatus {
    let paxos = |vote| match vote {
        Vote::Observing => PaxosStatus::default(),
        Vote::Electing { known, quorum } => {
            PaxosStatus { elector: true, known_nodes: known, quorum }
        }
    };
    let entry = |entry: &weave_ipam::allocator::Entry| IpamEntry {
        token: std::net::Ipv4Addr::from_bits(entry.range.start).to_string(),
        size: entry.range.size(),
        peer: entry.peer.to_string(),
        nickname: entry.nickname.clone(),
        is_known_peer: entry.is_known,
        version: entry.version,
    };
    let claim = |claim: &weave_ipam::allocator::PendingClaim| PendingClaim {
        ident: claim.holder.clone(),
        cidr: ClaimedCidr {
            addr: claim.cidr.address().to_string(),
            prefix_len: claim.cidr.prefix(),
        },
    };
    IpamStatus {
        paxos: report.awaiting.map(paxos),
        range: report.universe.to_string(),
        range_size: report.universe.range().size(),
        active: report.active,
        default_subnet: default_subnet.to_string(),
        entries: report.entries.iter().map(entry).collect(),
        pending_claims: report.pending_claims.iter().map(claim).collect(),
        pending_allocates: report.pending_allocations.iter().map(ToString::to_string).collect(),
    }
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

/// A connection that passed the handshake, with what its transport in use says of itself.
fn connection(connection: &mesh::ConnectionReport, report: &router::Report) -> Connection {
    let link = report.links.get(&connection.id);
    let overlay = link.and_then(|link| link.in_use).unwrap_or("none");
    let encrypted = link.is_some_and(|link| link.encrypted);
    let sealed = match (report.mesh.encrypted, encrypted) {
        (false, _) => String::new(),
        (true, true) => format!("{:<11} ", "encrypted"),
        (true, false) => format!("{:<11} ", "unencrypted"),
    };
    let (peer, nickname) = (connection.peer, &connection.nickname);
    let mut attrs = link.map(|link| attributes(link, overlay)).unwrap_or_default();
    let round_trip = connection.round_trip.map(|time| time.as_secs_f64());
    if let Some(seconds) = round_trip {
        attrs.insert("rtt".to_owned(), Value::from(format!("{:.2}ms", seconds * 1000.0)));
    }
    Connection {
        address: connection.address.to_string(),
        outbound: connection.outbound,
        state: if connection.established { "established" } else { "pending" }.to_owned(),
        info: format!("{sealed}{overlay:<6} {peer}({nickname})"),
        attrs: Some(attrs),
        peer: peer.to_string(),
        round_trip_seconds: round_trip,
        counters: link.map(link_counters).unwrap_or_default(),
    }
}

fn attributes(link: &LinkReport, overlay: &str) -> BTreeMap<String, Value> {
    let mut attributes = BTreeMap::from([("name".to_owned(), Value::from(overlay))]);
    let in_use = link.overlays.iter().find(|member| Some(member.name) == link.in_use);
    if let Some(status) = in_use.and_then(|member| member.status.as_ref()) {
        let mtu = status.mtu.map_or_else(|| Value::from("?"), Value::from);
        attributes.insert("mtu".to_owned(), mtu);
        if status.encrypted {
            attributes.insert("encrypted".to_owned(), Value::Bool(true));
        }
        for (name, text) in &status.attributes {
            attributes.insert((*name).to_owned(), Value::from(text.as_str()));
        }
    }
    let better = link.overlays.iter().take_while(|member| Some(member.name) != link.in_use);
    for member in better {
        let problem = match (&member.state, &member.status) {
            (MemberState::Gone { reason }, _) => Some(reason.as_str()),
            (_, Some(status)) => status.problem.as_deref(),
            (_, None) => None,
        };
        attributes.extend(problem.map(|text| (member.name.to_owned(), Value::from(text))));
    }
    attributes
}

fn link_counters(link: &LinkReport) -> BTreeMap<String, u64> {
    let of = |status: &weave_core::switch::LinkStatus| status.counters.clone();
    link.overlays
        .iter()
        .flat_map(|member| {
            let counters = member.status.as_ref().map(of).unwrap_or_default();
            counters.into_iter().map(|(name, n)| (format!("{}.{name}", member.name), n))
        })
        .collect()
}

/// A target that is not connected.
fn attempt(target: &TargetReport, now: Now) -> Option<Connection> {
    let time = |until: Option<Instant>| match until {
        Some(until) => now.wall_time(until).status_text(),
        None => "never".to_owned(),
    };
    let (state, info) = match (target.state, &target.last_error) {
        (TargetState::Waiting { until }, None) => ("waiting", format!("until: {}", time(until))),
        (TargetState::Waiting { until }, Some(error)) => {
            ("failed", format!("{error}, retry: {}", time(until)))
        }
        (TargetState::Attempting, None) => ("connecting", String::new()),
        (TargetState::Attempting, Some(error)) => ("retrying", error.clone()),
        (TargetState::Connected, _) => return None,
    };
    Some(Connection {
        address: target.address.clone(),
        outbound: true,
        state: state.to_owned(),
        info,
        ..Connection::default()
    })
}

/// A router that is refused since another one has its name.
fn clash(clash: &NameClash) -> Connection {
    Connection {
        address: clash.refused.address.map(|address| address.to_string()).unwrap_or_default(),
        outbound: false,
        state: "failed".to_owned(),
        info: clash.to_string(),
        ..Connection::default()
    }
}

/// How each transport of each connection does. Under `fastdp` there is also what the original has
/// there: what is known of the kernel.
fn overlay_diagnostics(report: &router::Report, engine: Option<&EngineStatus>) -> Value {
    let mut overlays: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for link in report.links.values() {
        for member in &link.overlays {
            let (state, reason) = match &member.state {
                MemberState::Pending => ("pending", None),
                MemberState::Established => ("established", None),
                MemberState::Held => ("held", None),
                MemberState::Gone { reason } => ("gone", Some(reason.as_str())),
            };
            overlays.entry(member.name).or_default().push(serde_json::json!({
                "Peer": link.peer.to_string(),
                "State": state,
                "Reason": reason,
            }));
        }
    }
    let mut all: serde_json::Map<String, Value> =
        overlays.into_iter().map(|(name, links)| (name.to_owned(), Value::Array(links))).collect();
    if let Some(engine) = engine {
        let links = all.remove("fastdp").unwrap_or(Value::Null);
        all.insert("fastdp".to_owned(), engine_diagnostics(engine, links));
    }
    if all.is_empty() { Value::Null } else { Value::Object(all) }
}

/// What the port counts; for a datapath, as in the original, how often it had no flow.
fn capture_stats(surroundings: &Surroundings) -> Value {
    let named = |(name, n): (&str, u64)| (name.to_owned(), Value::from(n));
    let port = surroundings.capture.iter().map(|(name, n)| named((name, *n)));
    let engine = surroundings.engine.iter().flat_map(|engine| &engine.counters);
    let misses = engine.filter(|(name, _)| *name == "flow_misses");
    let all: serde_json::Map<_, _> =
        port.chain(misses.map(|&(_, n)| named(("FlowMisses", n)))).collect();
    if all.is_empty() { Value::Null } else { Value::Object(all) }
}

fn engine_diagnostics(engine: &EngineStatus, links: Value) -> Value {
    let ports = engine
        .ports
        .iter()
        .map(|port| serde_json::json!({ "ID": port.id, "Name": port.name, "TypeName": port.kind }));
    let flows = engine.flows.iter().map(|flow| {
        serde_json::json!({
            "FlowKeys": flow.keys,
            "Actions": flow.actions,
            "Packets": flow.packets,
            "Bytes": flow.bytes,
            "Used": flow.used.unwrap_or(0),
        })
    });
    serde_json::json!({
        "Vports": ports.collect::<Vec<_>>(),
        "Flows": flows.collect::<Vec<_>>(),
        "Links": links,
    })
}

fn mac(station: &MacEntry, nicknames: &BTreeMap<PeerName, &str>, now: Now) -> Mac {
    Mac {
        mac: station.mac.to_string(),
        name: station.peer.to_string(),
        nick_name: nicknames.get(&station.peer).copied().unwrap_or_default().to_owned(),
        last_seen: now.wall_time(station.last_seen).rfc3339(),
    }
}

/// Names never change: they are part of the metrics.
fn counters(report: &router::Report, surroundings: &Surroundings) -> BTreeMap<String, u64> {
    let mesh::Counters {
        messages_received,
        messages_sent,
        bytes_received,
        bytes_sent,
        gossip_received,
        gossip_sent,
        unicasts_relayed,
        unicasts_unroutable,
        dropped_backlog,
        messages_ignored,
        route_calculations,
        crowded_out,
        turned_away,
        handshakes_failed,
        passwords_differed,
        reassembly_exhausted,
        dropped_too_long,
        ..
    } = report.mesh.counters;
    let switch = &report.switch;
    let mut counters: BTreeMap<String, u64> = [
        ("mesh_messages_received", messages_received),
        ("mesh_messages_sent", messages_sent),
        ("mesh_bytes_received", bytes_received),
        ("mesh_bytes_sent", bytes_sent),
        ("gossip_messages_received", gossip_received),
        ("gossip_messages_sent", gossip_sent),
        ("unicasts_relayed", unicasts_relayed),
        ("unicasts_unroutable", unicasts_unroutable),
        ("gossip_dropped_backlog", dropped_backlog),
        ("mesh_messages_ignored", messages_ignored),
        ("route_calculations", route_calculations),
        ("mesh_messages_too_long", dropped_too_long),
        ("handshakes_crowded_out", crowded_out),
        ("handshakes_turned_away", turned_away),
        ("handshakes_failed", handshakes_failed),
        ("passwords_differed", passwords_differed),
        ("reassembly_exhausted", reassembly_exhausted),
        ("frames_captured", switch.captured),
        ("frames_received", switch.received),
        ("frames_injected", switch.injected),
        ("frames_forwarded", switch.forwarded),
        ("too_big_answers", switch.too_big_answers),
        ("station_moves", switch.moves),
        ("station_evictions", switch.evictions),
    ]
    .map(|(name, n)| (name.to_owned(), n))
    .into();
    let drops = switch.dropped.iter();
    counters.extend(drops.map(|(cause, n)| (format!("frames_dropped.{}", cause.name()), n)));
    let socket = surroundings.sleeve.iter();
    counters.extend(socket.map(|(name, n)| (format!("sleeve_{name}"), *n)));
    let engine = surroundings.engine.iter().flat_map(|engine| &engine.counters);
    counters.extend(engine.map(|(name, n)| (format!("fastdp_{name}"), *n)));
    counters
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use weave_core::mesh::{Config, Uid};
    use weave_core::router::Router;
    use weave_core::switch::{NullOverlay, Switch};

    use super::*;
    use crate::status;

    #[test]
    fn a_lonely_router() {
        let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
        let mut config = Config::new(name, Uid(1));
        config.nickname = "host1".to_owned();
        let switch = std::sync::Arc::new(Switch::new(name, 1));
        let router =
            Router::new(config, switch, vec![Box::new(NullOverlay)], [1; 32], Instant::ORIGIN);
        let sleeve = [("rx_dropped_short".to_owned(), 3)].into();
        let version = "0.1.0".to_owned();
        let surroundings = Surroundings { version, sleeve, ..Surroundings::default() };
        let now = Now { router: Instant::ORIGIN, wall: UNIX_EPOCH };
        let report = gather(&router.report(), &surroundings, now);
        let text = status::status(&report);
        assert!(text.contains("           Name: 7a:9f:eb:b6:0c:6e(host1)\n"), "{text}");
        assert!(text.contains("       Protocol: weave 2\n"), "{text}");
        assert_eq!(report.router.counters["frames_dropped.no_route"], 0);
        assert_eq!(report.router.counters["sleeve_rx_dropped_short"], 3);
    }

    #[test]
    fn attempts_say_when_and_why() {
        let now = Now {
            router: Instant::since_origin(Duration::from_secs(100)),
            wall: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        };
        let at = |seconds| Instant::since_origin(Duration::from_secs(seconds));
        let target = |state, error: Option<&str>| TargetReport {
            address: "192.0.2.1:6783".to_owned(),
            direct: true,
            state,
            last_error: error.map(str::to_owned),
        };
        let shown = |state, error| {
            attempt(&target(state, error), now).map(|c| (c.state, c.info)).unwrap_or_default()
        };
        let waiting = |until| TargetState::Waiting { until };
        let later = LocalTime::at(now.wall + Duration::from_secs(5)).status_text();
        for (state, error, expected) in [
            (waiting(Some(at(105))), None, ("waiting", format!("until: {later}"))),
            (
                waiting(Some(at(105))),
                Some("refused"),
                ("failed", format!("refused, retry: {later}")),
            ),
            (waiting(None), Some("refused"), ("failed", "refused, retry: never".to_owned())),
            (TargetState::Attempting, None, ("connecting", String::new())),
            (TargetState::Attempting, Some("refused"), ("retrying", "refused".to_owned())),
            (TargetState::Connected, None, ("", String::new())),
        ] {
            assert_eq!(shown(state, error), (expected.0.to_owned(), expected.1));
        }
    }

    #[test]
    fn a_name_clash_is_one_line_among_the_connections() {
        let claimant = |nickname: &str, uid, address: Option<&str>| mesh::Claimant {
            nickname: nickname.to_owned(),
            uid: Uid(uid),
            address: address.map(|address| address.parse().unwrap()),
        };
        let shown = clash(&NameClash {
            name: "7a:9f:eb:b6:0c:6e".parse().unwrap(),
            kept: claimant("host1", 1, Some("192.0.2.1:6783")),
            refused: claimant("host2", 2, Some("192.0.2.2:40000")),
        });
        let mut report = Report::default();
        report.router.connections.push(shown);
        let text = status::connections(&report);
        let start =
            "<- 192.0.2.2:40000       failed      name collision: two routers say they are ";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("host1 (UID 1, at 192.0.2.1:6783) keeps the name"), "{text}");
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
