//! What a bridge does with a port.

use std::fmt::Write as _;

use netlink_packet_route::link::InfoBridgePort;

/// Settings of a port of a bridge. `None` is a setting that the kernel does not know, or that is
/// to stay as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortSettings {
    /// The bridge learns which stations are behind the port.
    pub learning: Option<bool>,
    /// Frames for unknown stations go out of the port.
    pub unicast_flood: Option<bool>,
    /// Frames for groups go out of the port.
    pub multicast_flood: Option<bool>,
    /// Broadcast frames go out of the port.
    pub broadcast_flood: Option<bool>,
    /// The port exchanges nothing with others that are isolated (Linux 4.18).
    pub isolated: Option<bool>,
    /// Frames go out of the port that they came in by.
    pub hairpin: Option<bool>,
}

/// A setting with its name in `bridge link`, and how to get at it.
type Setting = (&'static str, fn(bool) -> InfoBridgePort, fn(&PortSettings) -> Option<bool>);

const SETTINGS: [Setting; 6] = [
    ("learning", InfoBridgePort::Learning, |port| port.learning),
    ("flood", InfoBridgePort::UnicastFlood, |port| port.unicast_flood),
    ("mcast_flood", InfoBridgePort::MulticastFlood, |port| port.multicast_flood),
    ("bcast_flood", InfoBridgePort::BroadcastFlood, |port| port.broadcast_flood),
    ("isolated", InfoBridgePort::Isolated, |port| port.isolated),
    ("hairpin", InfoBridgePort::HairpinMode, |port| port.hairpin),
];

impl PortSettings {
    /// Returns whether all settings that both know are the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        SETTINGS.iter().all(|(_, _, read)| match (read(self), read(other)) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        })
    }

    pub(crate) fn attributes(&self) -> Vec<InfoBridgePort> {
        SETTINGS.iter().filter_map(|(_, write, read)| read(self).map(write)).collect()
    }

    /// Returns the settings as `bridge link set` takes them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, _, read) in SETTINGS {
            if let Some(on) = read(self) {
                let before = if text.is_empty() { "" } else { ", " };
                // Writing to a String cannot fail.
                let _ = write!(text, "{before}{name} {}", if on { "on" } else { "off" });
            }
        }
        text
    }

    pub(crate) fn of(attributes: &[InfoBridgePort]) -> Self {
        let mut port = Self::default();
        for attribute in attributes {
            match *attribute {
                InfoBridgePort::Learning(on) => port.learning = Some(on),
                InfoBridgePort::UnicastFlood(on) => port.unicast_flood = Some(on),
                InfoBridgePort::MulticastFlood(on) => port.multicast_flood = Some(on),
                InfoBridgePort::BroadcastFlood(on) => port.broadcast_flood = Some(on),
                InfoBridgePort::Isolated(on) => port.isolated = Some(on),
                InfoBridgePort::HairpinMode(on) => port.hairpin = Some(on),
                _ => {}
            }
        }
        port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_round_trip_and_what_is_unknown_agrees() {
        let port =
            PortSettings { learning: Some(true), hairpin: Some(false), ..PortSettings::default() };
        assert_eq!(PortSettings::of(&port.attributes()), port);
        assert_eq!(port.text(), "learning on, hairpin off");
        assert!(port.agrees_with(&PortSettings { isolated: Some(true), ..port }));
        assert!(!port.agrees_with(&PortSettings { hairpin: Some(true), ..port }));
    }
}
