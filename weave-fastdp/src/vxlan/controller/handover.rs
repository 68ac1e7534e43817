//! What becomes of a device when its connection ends and comes back, and what the router after this
//! one finds.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::{Controller, foreign_change};
use crate::vxlan::devices::Installed;
use crate::vxlan::retained::OVERLAP;

impl Controller {
    /// Closes a tunnel. If the kernel carried frames through its device, it continues to do so. What
    /// was encrypted has lost its keys.
    pub(super) fn close(&mut self, number: u64) {
        let Some(mut entry) = self.tunnels.remove(&number) else { return };
        entry.tunnel.device.store(None);
        if let Some(installed) = entry.device.take() {
            if entry.is_offloaded() && !entry.tunnel.params.encrypted {
                tracing::debug!(device = installed.device.name, "is retained");
                self.retained.retain(Instant::now(), installed);
            } else {
                self.delete(&installed);
            }
        }
        self.publish();
        self.filter_undelivered(None);
    }

    /// Closes all tunnels, and leaves the devices by which the kernel carries frames to the next
    /// router.
    pub(super) fn hand_over(&mut self) {
        for number in self.numbers() {
            self.close(number);
        }
        let left = self.retained.iter().count();
        if left > 0 {
            tracing::info!(devices = left, "the kernel goes on without the router");
        }
    }

    /// Uses a device that was retained for a tunnel. The kernel carries frames by it all the while:
    /// see [`Entry::inherited`](super::Entry).
    pub(super) fn adopt(&mut self, number: u64, installed: Installed) -> io::Result<()> {
        let socket = match self.open_socket(number, installed.index) {
            Ok(socket) => socket,
            Err(error) => {
                self.delete(&installed);
                return Err(error);
            }
        };
        let Some(entry) = self.tunnels.get_mut(&number) else { return Ok(()) };
        tracing::debug!(device = installed.device.name, "is adopted");
        entry.inherited = Some(Instant::now() + OVERLAP);
        entry.device = Some(installed);
        entry.tunnel.device.store(Some(Arc::new(socket)));
        self.teach_stations(number);
        self.apply_offload(number);
        self.publish();
        Ok(())
    }

    /// Tells the switch of the stations that the bridge knows behind a device, and the bridge to
    /// forget those that the switch knows elsewhere.
    fn teach_stations(&mut self, number: u64) {
        let (Some(bridge), Some(entry)) = (self.bridge, self.tunnels.get(&number)) else { return };
        let Some(port) = entry.device.as_ref().map(|installed| installed.index) else { return };
        let Ok(stations) = self.kernel.stations(bridge) else { return };
        let now = self.shared.clock.now();
        let behind = stations.iter().filter(|it| it.port == port && !it.permanent);
        for station in behind {
            let (switch, remote) = (&self.shared.switch, entry.tunnel.params.remote);
            if !switch.refresh_station(now, station.mac, remote)
                && let Err(error) = self.kernel.remove_station(port, station.mac)
            {
                tracing::debug!(station = %station.mac, "not forgotten: {error}");
            }
        }
    }

    /// Gives up what is retained for too long, and what does not work.
    pub(super) fn end_retention(&mut self) {
        let now = Instant::now();
        for number in self.numbers() {
            let Some(entry) = self.tunnels.get_mut(&number) else { continue };
            if entry.inherited.is_some_and(|until| until <= now) {
                entry.inherited = None;
                tracing::debug!(peer = %entry.tunnel.params.remote, "its device does not work yet");
                self.apply_offload(number);
            }
        }
        if self.retained.iter().next().is_none() {
            return;
        }
        self.replace_retained();
        // Frames have another way, which may be the only one that works.
        if let Some(table) = &self.table {
            let ids = self.shared.ids.load();
            self.retained.shorten(now, |device| {
                ids.owner(device.vni.destination).is_some_and(|peer| table.has_way(peer))
            });
        }
        let mut over = self.retained.expire(now);
        over.extend(self.changed_retained());
        if !over.is_empty() {
            over.iter().for_each(|installed| self.delete(installed));
            self.filter_undelivered(None);
            self.publish();
        }
    }

    /// Has the kernel send by the devices of tunnels that work, in place of retained ones to the
    /// same hosts: one of the peers has got another short id. These receive for a moment longer.
    pub(super) fn replace_retained(&mut self) {
        let Some(bridge) = self.bridge else { return };
        let mut replaced = Vec::new();
        for old in self.retained.iter_mut().filter(|old| old.learning) {
            let new = self.tunnels.values().find(|entry| {
                entry.is_offloaded() && entry.tunnel.params.remote_address == old.device.remote
            });
            if let Some(new) = new.and_then(|entry| entry.device.as_ref()) {
                replaced.push((old.index, new.index));
                old.learning = false;
            }
        }
        for (old, new) in replaced {
            let stations = self.kernel.stations(bridge).unwrap_or_default();
            for station in stations.iter().filter(|it| it.port == old && !it.permanent) {
                if let Err(error) = self.kernel.add_station(new, station.mac) {
                    tracing::debug!(station = %station.mac, "not moved: {error}");
                }
            }
            if let Err(error) = self.kernel.set_learning(old, false) {
                tracing::debug!(device = old, "the bridge still learns behind it: {error}");
            }
            let is_old: Vec<_> =
                self.retained.iter().filter(|it| it.index == old).cloned().collect();
            self.retained
                .shorten(Instant::now(), |device| is_old.iter().any(|old| old.device == *device));
        }
    }

    /// Removes the retained devices that another program changed.
    fn changed_retained(&mut self) -> Vec<Installed> {
        let found = match self.bridge.map(|bridge| self.kernel.vxlan_ports(bridge)) {
            Some(Ok(found)) => found,
            None => Vec::new(),
            Some(Err(_)) => return Vec::new(),
        };
        let (kernel, bridge) = (&mut self.kernel, self.bridge);
        let mut changed = Vec::new();
        for installed in self.retained.iter() {
            if let Some(change) = foreign_change(kernel, installed, &found, bridge) {
                tracing::warn!(device = installed.device.name, "{change}: it is removed");
                changed.push(installed.device.name.clone());
            }
        }
        changed.iter().filter_map(|name| self.retained.remove(name)).collect()
    }
}
