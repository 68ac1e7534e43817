//! Devices that carry frames while no connection uses them, and until when.
//!
//! ```text
//!   in use by a tunnel ──the connection ends──▶ retained ──a tunnel requires the same──▶ in use
//!   left by the router before this one ───────▶    │
//!                                                  └──its time is over──▶ deleted
//! ```
//!
//! As long as a router is away, nobody floods and nobody relays at its host: the bridge floods
//! nothing to these devices and passes nothing between them. What remains is unicast for stations
//! that the bridge knows behind a device, in both directions. So nothing circulates, and nothing
//! arrives twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use weave_core::mesh::ShortId;

use super::devices::{Device, Installed};
use crate::engine::GRACE;

/// How long a device carries frames beside the way that replaces it, and how long a new connection
/// may take to show that its tunnel works: heartbeats do so within a second or two on a host that
/// has time.
pub(super) const OVERLAP: Duration = Duration::from_secs(10);

/// The devices that no connection uses, by name.
#[derive(Debug, Default)]
pub(super) struct Retained(BTreeMap<String, Leftover>);

#[derive(Debug)]
struct Leftover {
    installed: Installed,
    until: Instant,
}

impl Retained {
    /// Retains a device whose connection has ended, or of the router before this one.
    pub(super) fn retain(&mut self, now: Instant, installed: Installed) {
        let (name, until) = (installed.device.name.clone(), now + GRACE);
        self.0.insert(name, Leftover { installed, until });
    }

    /// Removes a device that is exactly this one, for its next connection.
    pub(super) fn take(&mut self, device: &Device) -> Option<Installed> {
        let is_it = self.0.get(&device.name).is_some_and(|it| it.installed.device == *device);
        if is_it { self.remove(&device.name) } else { None }
    }

    /// Removes the device of this name.
    pub(super) fn remove(&mut self, name: &str) -> Option<Installed> {
        self.0.remove(name).map(|leftover| leftover.installed)
    }

    /// Retains devices that another way replaces for [`OVERLAP`] at most.
    pub(super) fn shorten(&mut self, now: Instant, is_replaced: impl Fn(&Device) -> bool) {
        for leftover in self.0.values_mut().filter(|it| is_replaced(&it.installed.device)) {
            leftover.until = leftover.until.min(now + OVERLAP);
        }
    }

    /// Removes the devices whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Installed> {
        let over: Vec<_> =
            self.0.iter().filter(|(_, it)| it.until <= now).map(|(name, _)| name.clone()).collect();
        over.iter().filter_map(|name| self.remove(name)).collect()
    }

    /// Returns the devices.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Installed> {
        self.0.values().map(|leftover| &leftover.installed)
    }

    /// Returns the devices, to change what is noted about them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Installed> {
        self.0.values_mut().map(|leftover| &mut leftover.installed)
    }

    /// Returns the hosts that frames come from, and the UDP ports that they come to.
    pub(super) fn ends(&self) -> BTreeSet<(Ipv4Addr, u16)> {
        self.iter().map(|installed| (installed.device.remote, installed.device.port)).collect()
    }

    /// Returns the short id by which most of the devices know this peer.
    pub(super) fn own_id(&self) -> Option<ShortId> {
        let mut counts = BTreeMap::<ShortId, usize>::new();
        for installed in self.iter() {
            *counts.entry(installed.device.vni.source).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vni::Vni;

    fn device(source: u16, destination: u16) -> Device {
        let id = |number| ShortId::new(number).unwrap();
        let vni = Vni { source: id(source), destination: id(destination) };
        let (local, remote) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        Device { name: Device::name_of(vni), vni, local, remote, port: 6784 }
    }

    fn retained(devices: &[Device], now: Instant) -> Retained {
        let mut retained = Retained::default();
        for (index, device) in (1..).zip(devices) {
            let device = device.clone();
            retained.retain(now, Installed { device, index, learning: true });
        }
        retained
    }

    #[test]
    fn only_the_same_device_is_taken_again() {
        let now = Instant::now();
        let mut retained = retained(&[device(1, 2)], now);
        let moved = Device { remote: Ipv4Addr::new(192, 0, 2, 9), ..device(1, 2) };
        assert_eq!(retained.take(&moved), None);
        assert_eq!(retained.take(&device(1, 3)), None);
        assert_eq!(retained.take(&device(1, 2)).map(|installed| installed.index), Some(1));
        assert_eq!(retained.iter().count(), 0);
    }

    #[test]
    fn a_device_that_is_replaced_goes_soon_and_the_others_stay() {
        let now = Instant::now();
        let mut retained = retained(&[device(1, 2), device(1, 3)], now);
        let replaced = device(1, 2);
        retained.shorten(now, |device| *device == replaced);
        // A second reason does not prolong it.
        retained.shorten(now + OVERLAP / 2, |device| *device == replaced);
        assert_eq!(retained.expire(now + OVERLAP / 2), []);
        let gone = retained.expire(now + OVERLAP);
        assert_eq!(gone.iter().map(|it| &it.device).collect::<Vec<_>>(), [&replaced]);
        assert_eq!(retained.expire(now + GRACE).len(), 1);
    }

    #[test]
    fn the_own_id_is_that_of_most_devices() {
        let now = Instant::now();
        assert_eq!(Retained::default().own_id(), None);
        let retained = retained(&[device(9, 2), device(1, 2), device(1, 3)], now);
        assert_eq!(retained.own_id(), ShortId::new(1));
        assert_eq!(retained.ends().len(), 1, "one host and one port");
    }
}
