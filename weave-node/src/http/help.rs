//! What each metric means: the HELP lines.

/// Of a counter of the router, by its name in the report.
pub(super) fn of_counter(name: &str) -> Option<&'static str> {
    Some(match name {
        "mesh_messages_received" => "Messages received on TCP connections to neighbours.",
        "mesh_messages_sent" => "Messages sent on TCP connections to neighbours.",
        "mesh_bytes_received" => "Bytes of messages received on TCP connections to neighbours.",
        "mesh_bytes_sent" => "Bytes of messages sent on TCP connections to neighbours.",
        "mesh_messages_ignored" => "Messages received that mean nothing to this router.",
        "mesh_messages_too_long" => "Messages not sent since they are longer than peers accept.",
        "gossip_messages_received" => "Messages received that carried gossip of any kind.",
        "gossip_messages_sent" => "Messages sent that carried gossip of any kind.",
        "gossip_dropped_backlog" => {
            "Gossip and unicasts dropped for neighbours that read too slowly."
        }
        "gossip_dropped_refused" => "Gossip of any kind dropped since its channel refused it.",
        "gossip_dropped_malformed" => "Gossip of any kind dropped since it is malformed.",
        "gossip_dropped_circled" => {
            "Gossip unicasts and broadcasts dropped since they went round in a circle."
        }
        "topology_records_dropped" => {
            "Records of peers dropped: no room, or more connections than a peer can have."
        }
        "unicasts_relayed" => "Gossip unicasts passed on for other peers.",
        "unicasts_unroutable" => "Gossip unicasts dropped because there was no route.",
        "route_calculations" => "Calculations of the routes.",
        "handshakes_crowded_out" => {
            "Connections closed in their handshake to make room for others."
        }
        "handshakes_turned_away" => {
            "Connections closed before the handshake since too many waited."
        }
        "handshakes_failed" => "Handshakes that failed, timeouts aside.",
        "passwords_differed" => "Handshakes that failed since the passwords of both sides differ.",
        "reassembly_exhausted" => {
            "Connections closed since incomplete messages took too much memory in all."
        }
        "backlog_exhausted" => {
            "Connections closed since what waited for peers to read took too much memory in all."
        }
        "mesh_messages_delayed" => {
            "Times that a neighbour had used up its share of the router's time and had to wait."
        }
        "frames_captured" => "Frames captured on the bridge.",
        "frames_received" => "Frames received from neighbours.",
        "frames_injected" => "Frames given to the bridge.",
        "frames_forwarded" => "Copies of frames handed to links.",
        "too_big_answers" => "Answers that told a sender that its packet was too big.",
        "station_moves" => "Ethernet addresses that turned up behind another peer.",
        "station_disputes" => {
            "Silent Ethernet addresses that were claimed behind another peer, and are asked where they are."
        }
        "station_contests" => {
            "Frames from neighbours whose source is attached here, or speaks behind another peer."
        }
        "station_evictions" => "Ethernet addresses forgotten because the table was full.",
        "sleeve_rx_calls" => "System calls that received datagrams, for all links together.",
        "sleeve_rx_dropped_by_kernel" => {
            "Datagrams, or GRO batches, dropped at the socket: it was full, or a UDP checksum wrong."
        }
        "sleeve_rx_dropped_short" => "Datagrams dropped: too short to say who sent them.",
        "sleeve_rx_dropped_unknown_sender" => "Datagrams dropped: from nobody there is a link to.",
        "fastdp_flow_misses" => "Packets without a flow in the datapath, heartbeats among them.",
        "fastdp_special_frames" => "Heartbeats and their like that arrived by the datapath.",
        "fastdp_by_hand" => "Packets from tunnels that were passed on by another transport.",
        "fastdp_executed" => "Packets that the datapath was told one by one what to do with.",
        "fastdp_flows_put" => "Flows put into the datapath.",
        "fastdp_flows_deleted" => "Flows deleted from the datapath.",
        "fastdp_flows_refused" => "Flows that there was no room for, or that the kernel refused.",
        "fastdp_revisions" => "Times that flows were compared with what they should do.",
        "fastdp_dropped_stranger" => "Packets dropped: from tunnels of nobody known.",
        "fastdp_dropped_conflict" => "Packets dropped: their sender is somebody else's station.",
        "fastdp_dropped_hairpin" => "Packets dropped: they would go back to where they came from.",
        "fastdp_dropped_unknown_port" => "Packets dropped: from a port not known yet.",
        "fastdp_dropped_malformed" => "Packets dropped: the kernel's message made no sense.",
        "fastdp_dropped_error" => "Packets dropped: the kernel did not take them.",
        "ipsec_tx_packets" => "Packets that the kernel sealed for the fast datapath.",
        "ipsec_tx_bytes" => "Bytes of these.",
        "ipsec_rx_packets" => "Packets that the kernel opened for the fast datapath.",
        "ipsec_rx_bytes" => "Bytes of these.",
        "ipsec_rx_dropped_replayed" => "Sealed packets dropped: received before, or too late.",
        "ipsec_rx_dropped_forged" => "Packets dropped: sealed with another key, or changed.",
        "ipsec_keys_renewed" => "Keys to receive with that took the place of older ones.",
        "ipsec_failures" => "Keys that the kernel or the firewall refused.",
        "ipsec_rules_mended" => "Times that rules of the sealed tunnels were gone and are back.",
        "fastdp_rx_undelivered" => "Frames that the kernel left to this router: relayed ones.",
        "fastdp_rx_dropped_strangers" => "Such frames dropped: from nobody there is a tunnel to.",
        "sleeve_rx_errors" => "System calls that failed to receive datagrams.",
        _ => return None,
    })
}

/// Of a counter of a link, by its name without the overlay.
pub(super) fn of_link_counter(name: &str) -> Option<&'static str> {
    Some(match name {
        "tx_frames" => "Frames sent to the neighbour.",
        "tx_bytes" => "Bytes sent to the neighbour.",
        "tx_datagrams" => "Datagrams sent to the neighbour.",
        "tx_calls" => "System calls that sent datagrams to the neighbour.",
        "tx_super_frames" => "Super-frames that were cut into frames for the neighbour.",
        "tx_datagrams_in_trains" => "Datagrams that shared a GSO batch with others.",
        "tx_datagrams_special" => {
            "Datagrams sent for the link itself: heartbeats, tests, counts requests."
        }
        "tx_trains_off" => "Times that GSO was disabled because batches did not arrive.",
        "tx_trains" => "GSO batches given to the kernel, by the number of datagrams in them.",
        "tx_dropped_oversize" => "Frames not sent since no datagram holds them.",
        "tx_dropped_malformed" => "Super-frames not sent since they are not what they claim to be.",
        "tx_dropped_too_big" => "Datagrams not sent since the path turned out too small for them.",
        "tx_dropped_queue_full" => "Datagrams not sent since the queue of the kernel was full.",
        "tx_dropped_unreachable" => {
            "Datagrams not sent because there was no route to the neighbour."
        }
        "tx_dropped_no_address" => "Frames not sent before the neighbour's address was known.",
        "tx_dropped_unsealed" => "Datagrams not sent since they could not be sealed any more.",
        "tx_dropped" => "Frames not sent since the kernel could not take them.",
        "tx_by_hand" => "Frames given to the kernel one by one, without a flow.",
        "tx_refused" => "Frames left to other transports: the kernel could not be asked.",
        "stations_told" => "Stations that the bridge was told to be behind the neighbour.",
        "kernel_tx_frames" => "Frames sent by the device, those of the router included.",
        "kernel_tx_bytes" => "Bytes of these.",
        "kernel_tx_dropped" => "Frames that the device could not send.",
        "kernel_rx_frames" => "Frames received by the device.",
        "kernel_rx_bytes" => "Bytes of these.",
        "kernel_rx_dropped" => "Frames that the device could not give to the bridge.",
        "rx_dropped_heartbeat" => "Special frames dropped: damaged, or of another connection.",
        "rx_frames" => "Frames received from the neighbour.",
        "rx_bytes" => "Bytes received from the neighbour.",
        "rx_datagrams" => "Datagrams received from the neighbour.",
        "rx_datagrams_special" => {
            "Datagrams received for the link itself: heartbeats, tests, counts requests."
        }
        "rx_super_frames" => "Super-frames reassembled from segments of the neighbour.",
        "rx_trains" => "GRO batches received from the kernel, by the number of datagrams in them.",
        "rx_forged_in_trains" => "Forged datagrams that shared a batch with others.",
        "rx_dropped_forged" => "Datagrams dropped: sealed with another key, or changed on the way.",
        "rx_dropped_replayed" => "Datagrams dropped: received before.",
        "rx_dropped_epoch" => {
            "Datagrams dropped: sealed with a key that is not kept any more, or not yet."
        }
        "rx_dropped_malformed" => "Datagrams dropped: not made of records.",
        "rx_dropped_address" => {
            "Datagrams dropped: in clear, from another address than that of the neighbour."
        }
        "rx_dropped_misdirected" => "Datagrams dropped: special frames of or for somebody else.",
        _ => return None,
    })
}

/// What the capture port counts.
pub(super) fn of_capture(name: &str) -> Option<&'static str> {
    Some(match name {
        "captured" => "Frames and super-frames taken from the bridge.",
        "captured_bytes" => "Bytes of these.",
        "captured_super_frames" => "Those of them that stand for several frames.",
        "injected" => "Frames and super-frames given to the bridge.",
        "injected_bytes" => "Bytes of these.",
        "injected_super_frames" => "Those of them that stand for several frames.",
        "dropped_overrun" => {
            "Frames dropped by the kernel: they came faster than the router took them."
        }
        "dropped_malformed" => "Frames dropped: cut off, or not what they are marked as.",
        "capture_errors" => "System calls that failed to take frames.",
        "inject_errors" => "Frames that the kernel did not take.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use weave_core::mesh::{Config, ConnectionId, ConnectionUid, LinkRequest, PeerName, Uid};
    use weave_core::router::Router;
    use weave_core::switch::{NullOverlay, Overlay, Switch, Waker};
    use weave_core::time::Instant;
    use weave_sleeve::native::Capabilities;
    use weave_sleeve::port::PortCounters;
    use weave_sleeve::{Clock, ReceiverCounters, Sleeve};

    use super::*;
    use crate::status::{HostStatus, Now, gather};
    use weave_api::Detail;

    #[test]
    fn every_counter_of_the_router_is_described() {
        let name: PeerName = "7a:9f:eb:b6:0c:6e".parse().unwrap();
        let (config, switch) = (Config::new(name, Uid(1)), Arc::new(Switch::new(name, 1)));
        let router =
            Router::new(config, switch, vec![Box::new(NullOverlay)], [1; 32], Instant::ORIGIN);
        let now = Now { router: Instant::ORIGIN, wall: UNIX_EPOCH };
        let counters = ReceiverCounters::default().list().into_iter();
        let sleeve = counters.map(|(name, n)| (name.to_owned(), n)).collect();
        let host = HostStatus { sleeve, ..HostStatus::default() };
        let report = gather(router.report(), &host, now, Detail::Metrics);
        let counters = report.router.counters.keys().filter(|name| !name.contains('.'));
        let missing: Vec<_> = counters.filter(|name| of_counter(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn every_counter_of_a_port_is_described() {
        let missing = PortCounters::default().list().map(|(name, _)| name);
        let missing: Vec<_> =
            missing.into_iter().filter(|name| of_capture(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn every_counter_of_a_link_is_described() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let clock = Clock::new(|| Instant::ORIGIN);
        let mut sleeve = Sleeve::bind(address, 1, Capabilities::default(), clock).unwrap();
        let request = LinkRequest {
            id: ConnectionId(1),
            own: "7a:9f:eb:b6:0c:6e".parse().unwrap(),
            remote: "7a:9f:eb:b6:0c:6f".parse().unwrap(),
            connection_uid: ConnectionUid(7),
            outbound: true,
            local_address: sleeve.local_address(),
            remote_address: sleeve.local_address(),
            session_key: None,
            overlays: None,
            remote_features: BTreeMap::new(),
        };
        let counters =
            sleeve.prepare(Instant::ORIGIN, &request, Waker::new(|| {})).unwrap().status().counters;
        let names = counters.iter().map(|(name, _)| name.split('.').next().unwrap());
        let missing: Vec<_> = names.filter(|name| of_link_counter(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
