//! The thread that creates, checks and deletes the devices of the tunnels.

mod handover;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use weave_core::switch::ForwardingTable;
use weave_core::wire::MacAddress;
use weave_rtnl::Link;

use super::command::Command;
use super::devices::{Device, Installed, is_isolated};
use super::filter::{self, Interest};
use super::kernel::{Kernel, index_of, name_of};
use super::retained::Retained;
use super::setup::{DEVICE_MTU, bring_up, is_busy};
use super::shared::{Shared, on_input};
use super::tunnel::{OpenDevice, VxlanTunnel};
use crate::error::TunnelError;
use crate::sys::packet::{PacketSocket, Scope};
use crate::vni::Vni;

/// Interval between checks of devices and routes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which the bridge learns nothing from a port through which it was misled. Frames go on,
/// the first ones to each station by way of the router.
const DISTRUST: Duration = Duration::from_secs(60);
/// Delay of a check after a change of routes, which are published a moment later.
const ROUTES_DELAY: Duration = Duration::from_millis(20);
/// Interval at which the stations that the kernel has heard are refreshed in the switch, where
/// they age after ten minutes.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Largest number of stations that the bridge learns, which is that of the switch. A container that
/// invents addresses would otherwise fill the memory of the kernel. Frames for further stations are
/// flooded.
const MAX_STATIONS: u32 = 65_536;
/// Largest number of stations that are announced to the bridge in a second.
const MAX_ANNOUNCED: u32 = 500;

/// The controller of an engine.
pub(super) struct Controller {
    shared: Arc<Shared>,
    kernel: Kernel,
    bridge: Option<u32>,
    tunnels: BTreeMap<u64, Entry>,
    retained: Retained,
    /// Forwarding table from which the filters were derived.
    table: Option<Arc<ForwardingTable>>,
    /// Local stations, as far as filters need them.
    local: Vec<MacAddress>,
    next_check: Instant,
    next_refresh: Instant,
    announcements_left: u32,
    /// Stations may have moved, of which the bridge knows nothing.
    recheck: bool,
}

/// A tunnel and its device.
struct Entry {
    tunnel: Arc<VxlanTunnel>,
    device: Option<Installed>,
    interest: Interest,
    /// Until when the kernel goes on carrying frames by a device that was retained, though the link
    /// has not shown yet that this works.
    inherited: Option<Instant>,
    /// Until when the bridge learns nothing from the device.
    distrusted: Option<Instant>,
    /// Whether it was reported that the device cannot be created.
    failure_reported: bool,
}

impl Entry {
    /// Returns whether the kernel carries unicast both ways without the router.
    fn is_offloaded(&self) -> bool {
        let may = self.tunnel.offload.load(Ordering::Relaxed) || self.inherited.is_some();
        may && self.distrusted.is_none()
    }
}

impl Controller {
    pub(super) fn new(shared: Arc<Shared>, kernel: Kernel, retained: Retained) -> Self {
        let now = Instant::now();
        Self {
            shared,
            kernel,
            bridge: None,
            tunnels: BTreeMap::new(),
            retained,
            table: None,
            local: Vec::new(),
            next_check: now,
            next_refresh: now + REFRESH_INTERVAL,
            announcements_left: MAX_ANNOUNCED,
            recheck: false,
        }
    }

    /// Carries out commands until it is told to stop, and leaves to the next router what it can use.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        // Devices that go on deliver frames already.
        self.filter_undelivered(None);
        loop {
            let pause = self.next_check.saturating_duration_since(Instant::now());
            match commands.recv_timeout(pause) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(command) => self.carry_out(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= self.next_check {
                self.check();
            }
        }
        self.hand_over();
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Open(tunnel) => self.open(tunnel),
            Command::Close { tunnel } => self.close(tunnel),
            Command::Offload { tunnel } => {
                if let Some(entry) = self.tunnels.get_mut(&tunnel) {
                    entry.inherited = None;
                }
                self.apply_offload(tunnel);
                self.replace_retained();
            }
            Command::Station { tunnel, mac } => self.announce(tunnel, mac),
            Command::Misled { port } => self.distrust(port),
            Command::ShortIds => {
                // Wrong devices are deleted before new ones are created: peers may have swapped
                // ids.
                for number in self.numbers() {
                    if self.has_wrong_device(number) {
                        self.remove_device(number);
                    }
                }
                self.create_devices();
            }
            Command::Routes => {
                self.table = None;
                self.recheck = true;
                self.next_check = self.next_check.min(Instant::now() + ROUTES_DELAY);
            }
            Command::Stop => {}
        }
    }

    fn open(&mut self, tunnel: Arc<VxlanTunnel>) {
        let before = self.numbers().into_iter().find(|number| {
            self.tunnels
                .get(number)
                .is_some_and(|entry| entry.tunnel.params.remote == tunnel.params.remote)
        });
        if let Some(before) = before {
            self.close(before);
        }
        let number = tunnel.number;
        let interest = Interest::Everything;
        let (inherited, distrusted, failure_reported) = (None, None, false);
        let entry =
            Entry { tunnel, device: None, interest, inherited, distrusted, failure_reported };
        self.tunnels.insert(number, entry);
        self.publish();
        self.create_device(number);
    }

    /// Makes the bridge learn, or not, according to whether the kernel may carry frames.
    fn apply_offload(&mut self, number: u64) {
        let Some(entry) = self.tunnels.get_mut(&number) else { return };
        let offload = entry.is_offloaded();
        // A device that is created later calls this again.
        let Some(installed) = &mut entry.device else { return };
        match self.kernel.set_learning(installed.index, offload) {
            Ok(()) => installed.learning = offload,
            Err(error) => tracing::warn!(
                device = installed.index,
                "cannot set whether the bridge learns behind the device: {error}"
            ),
        }
        self.filter(number);
    }

    /// Flushes a port through which frames came whose sources are elsewhere. For a while the bridge
    /// learns nothing from it: the router announces where stations are, as it does for the first
    /// frame.
    fn distrust(&mut self, port: u32) {
        let until = Instant::now() + DISTRUST;
        let is_it = |entry: &Entry| entry.device.as_ref().is_some_and(|it| it.index == port);
        let Some((&number, entry)) = self.tunnels.iter_mut().find(|(_, entry)| is_it(entry)) else {
            return;
        };
        if entry.distrusted.replace(until).is_none() {
            self.apply_offload(number);
        }
    }

    /// Lets the bridge learn again from ports that have not misled it since.
    fn trust_again(&mut self) {
        let now = Instant::now();
        for number in self.numbers() {
            let Some(entry) = self.tunnels.get_mut(&number) else { continue };
            if entry.distrusted.is_some_and(|until| until <= now) {
                entry.distrusted = None;
                self.apply_offload(number);
            }
        }
    }

    /// Tells the bridge that a station is behind a tunnel.
    fn announce(&mut self, number: u64, mac: MacAddress) {
        let Some(entry) = self.tunnels.get(&number) else { return };
        entry.tunnel.pending.fetch_sub(1, Ordering::Relaxed);
        let offloaded = entry.tunnel.offload.load(Ordering::Relaxed);
        let Some(installed) =
            entry.device.as_ref().filter(|_| offloaded && self.announcements_left > 0)
        else {
            return;
        };
        self.announcements_left -= 1;
        if let Err(error) = self.kernel.add_station(installed.index, mac) {
            tracing::debug!(station = %mac, device = installed.device.name, "not announced: {error}");
        }
    }

    /// Checks everything that other programs may have changed.
    fn check(&mut self) {
        self.next_check = Instant::now() + CHECK_INTERVAL;
        self.announcements_left = MAX_ANNOUNCED;
        let bridge = index_of(&self.shared.config.bridge);
        if self.bridge != bridge {
            self.bridge = bridge;
            self.shared.bridge.store(bridge.unwrap_or(0), Ordering::Relaxed);
            // Not every kernel supports these settings.
            let _ = bridge.map(|index| self.kernel.disable_snooping(index));
            let _ = bridge.map(|index| self.kernel.limit_stations(index, MAX_STATIONS));
        }
        self.remove_changed();
        self.shared.busy_ports.recheck();
        self.trust_again();
        self.create_devices();
        self.end_retention();
        self.refresh_stations();
        self.forget_moved();
        let table = Arc::clone(&*self.shared.switch.table());
        let same = self.table.as_ref().is_some_and(|before| Arc::ptr_eq(before, &table));
        if !same {
            self.table = Some(table);
        }
        for number in self.numbers() {
            self.filter(number);
        }
    }

    /// Deletes devices that another program changed, so that they are recreated.
    fn remove_changed(&mut self) {
        let found = match self.bridge.map(|bridge| self.kernel.vxlan_ports(bridge)) {
            Some(Ok(found)) => found,
            None => Vec::new(),
            Some(Err(error)) => {
                tracing::debug!("the devices are not checked: {error}");
                return;
            }
        };
        for number in self.numbers() {
            let Some(installed) = self.tunnels.get(&number).and_then(|entry| entry.device.as_ref())
            else {
                continue;
            };
            if let Some(change) = foreign_change(&mut self.kernel, installed, &found, self.bridge) {
                tracing::warn!(device = installed.device.name, "{change}: it is recreated");
                self.remove_device(number);
            }
        }
    }

    fn create_devices(&mut self) {
        for number in self.numbers() {
            let missing = self.tunnels.get(&number).is_some_and(|entry| entry.device.is_none());
            if missing {
                self.create_device(number);
            }
        }
    }

    /// Creates the device of a tunnel, if both ends have short ids and no other program uses the
    /// UDP port.
    fn create_device(&mut self, number: u64) {
        let (Some(device), Some(bridge)) = (self.required_device(number), self.bridge) else {
            return;
        };
        if let Some(installed) = self.retained.take(&device) {
            match self.adopt(number, installed) {
                Ok(()) => return,
                Err(error) => tracing::warn!(device = device.name, "it is recreated: {error}"),
            }
        }
        if self.shared.busy_ports.contains(device.port) {
            return;
        }
        // From here on the kernel delivers the frames for the device, and the router must not.
        self.filter_undelivered(Some(device.vni));
        match self.try_device(number, &device, bridge) {
            Ok(()) => {
                tracing::debug!(device = device.name, remote = %device.remote, "created");
                self.apply_offload(number);
            }
            Err(error) if is_busy(&error) => {
                self.filter_undelivered(None);
                self.shared.busy_ports.add(device.port);
            }
            Err(error) => {
                self.filter_undelivered(None);
                let Some(entry) = self.tunnels.get_mut(&number) else { return };
                if !std::mem::replace(&mut entry.failure_reported, true) {
                    let error = TunnelError::Device { device: device.name, source: error };
                    tracing::warn!(peer = %entry.tunnel.params.remote, "{error}");
                    entry.tunnel.inbox.failed(error);
                }
            }
        }
    }

    fn try_device(&mut self, number: u64, device: &Device, bridge: u32) -> io::Result<()> {
        if let Some(index) = index_of(&device.name) {
            self.retained.remove(&device.name);
            self.kernel.delete(index)?;
        }
        let index = self.kernel.create(device, bridge, DEVICE_MTU)?;
        let installed = self.set_up(number, index).inspect_err(|_| {
            // The first error is the one that matters.
            let _ = self.kernel.delete(index);
        })?;
        let Some(entry) = self.tunnels.get_mut(&number) else { return Ok(()) };
        entry.device = Some(Installed { device: device.clone(), index, learning: false });
        entry.tunnel.device.store(Some(Arc::new(installed)));
        Ok(())
    }

    fn set_up(&mut self, number: u64, index: u32) -> io::Result<OpenDevice> {
        self.kernel.isolate(index)?;
        self.kernel.set_alias(index, &self.shared.config.bridge)?;
        if let Some(name) = name_of(index) {
            // A host without IPv6 needs no such setting.
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        }
        bring_up(&mut self.kernel, index)?;
        self.open_socket(number, index)
    }

    /// Opens the socket by which the router sends and receives through a device.
    fn open_socket(&mut self, number: u64, index: u32) -> io::Result<OpenDevice> {
        let program = filter::delivered(&Interest::Everything);
        let socket = PacketSocket::open(Scope::Device(index), &program)?;
        if let Some(entry) = self.tunnels.get_mut(&number) {
            entry.interest = Interest::Everything;
        }
        self.shared.poller.add(&socket, on_input(number))?;
        Ok(OpenDevice { index, socket })
    }

    fn remove_device(&mut self, number: u64) {
        let Some(entry) = self.tunnels.get_mut(&number) else { return };
        entry.tunnel.device.store(None);
        if let Some(installed) = entry.device.take() {
            self.delete(&installed);
            self.filter_undelivered(None);
        }
    }

    fn delete(&mut self, installed: &Installed) {
        if let Err(error) = self.kernel.delete(installed.index) {
            tracing::warn!(device = installed.device.name, "the device is not removed: {error}");
        }
    }

    /// Sets which of the frames that the device delivers the router sees.
    fn filter(&mut self, number: u64) {
        let Some(table) = &self.table else { return };
        let Some(entry) = self.tunnels.get(&number) else { return };
        let interest = if !entry.is_offloaded() {
            Interest::Everything
        } else if table.relays(entry.tunnel.params.remote) {
            Interest::NotFor(self.local.clone())
        } else {
            Interest::Groups
        };
        let Some(entry) = self.tunnels.get_mut(&number) else { return };
        let device = entry.tunnel.device.load();
        if let Some(device) = &*device
            && entry.interest != interest
        {
            match device.socket.set_filter(&filter::delivered(&interest)) {
                Ok(()) => entry.interest = interest,
                Err(error) => tracing::warn!("cannot set a packet filter: {error}"),
            }
        }
    }

    /// Excludes frames that devices deliver, including a device that is about to be created, from
    /// those that the router takes in.
    fn filter_undelivered(&self, upcoming: Option<Vni>) {
        let in_use = self.tunnels.values().filter_map(|entry| entry.device.as_ref());
        let installed = in_use.chain(self.retained.iter());
        let delivered =
            installed.map(|installed| installed.device.vni).chain(upcoming).map(Vni::reversed);
        let delivered: Vec<_> = delivered.collect();
        let tunnels = self.tunnels.values();
        let ports: BTreeSet<u16> = tunnels.map(|entry| entry.tunnel.params.port).collect();
        let ports: Vec<_> = ports.into_iter().collect();
        let program = filter::undelivered(&ports, &delivered);
        if let Err(error) = self.shared.undelivered.set_filter(&program) {
            tracing::warn!("cannot set a packet filter: {error}");
        }
    }

    /// Refreshes the stations that the kernel has heard in the switch.
    fn refresh_stations(&mut self) {
        let due = Instant::now() >= self.next_refresh;
        let table = self.table.as_ref();
        let relaying = self
            .tunnels
            .values()
            .any(|entry| table.is_some_and(|table| table.relays(entry.tunnel.params.remote)));
        let Some(bridge) = self.bridge.filter(|_| due || relaying) else { return };
        let Ok(stations) = self.kernel.stations(bridge) else { return };
        let tunnels = self.shared.tunnels.load();
        let own = self.shared.switch.own();
        self.local.clear();
        let (now, recent) = (self.shared.clock.now(), REFRESH_INTERVAL.as_secs() * 100);
        let mut misled = BTreeSet::new();
        for station in stations {
            let Some(home) = self.shared.home(&tunnels, station.port) else { continue };
            if home == own {
                self.local.push(station.mac);
            }
            if due && !station.permanent && u64::from(station.age) <= recent {
                let is_there = self.shared.switch.refresh_station(now, station.mac, home);
                if !is_there && home != own {
                    misled.insert(station.port);
                }
            }
        }
        self.local.sort_unstable();
        self.local.dedup();
        if due {
            self.next_refresh = Instant::now() + REFRESH_INTERVAL;
        }
        misled.into_iter().for_each(|port| self.distrust(port));
    }

    /// Makes the bridge forget stations of other hosts that are not where it knows them: what it
    /// carries there the router does not see. It learns by itself of what it hears, but not from a
    /// port that it does not trust.
    fn forget_moved(&mut self) {
        let Some(bridge) = self.bridge.filter(|_| std::mem::take(&mut self.recheck)) else {
            return;
        };
        let Ok(stations) = self.kernel.stations(bridge) else { return };
        let (tunnels, ids) = (self.shared.tunnels.load(), self.shared.ids.load());
        let own = self.shared.switch.own();
        for station in stations.iter().filter(|station| !station.permanent) {
            let Some(home) = self.shared.home(&tunnels, station.port) else { continue };
            // Of a peer that is not reachable any more, the switch has forgotten all.
            let is_gone = ids.of(home).is_none();
            if home == own || is_gone || self.shared.switch.macs().lookup(station.mac) == Some(home)
            {
                continue;
            }
            if let Err(error) = self.kernel.remove_station(station.port, station.mac) {
                tracing::debug!(station = %station.mac, "not forgotten: {error}");
            }
        }
    }

    /// Returns the device that a tunnel should have.
    fn required_device(&self, number: u64) -> Option<Device> {
        let tunnel = &self.tunnels.get(&number)?.tunnel;
        let ids = self.shared.ids.load();
        let vni = Vni { source: ids.of(tunnel.own)?, destination: ids.of(tunnel.params.remote)? };
        Some(Device {
            name: Device::name_of(vni),
            vni,
            local: tunnel.params.local_address,
            remote: tunnel.params.remote_address,
            port: tunnel.params.port,
        })
    }

    /// Returns whether the device of a tunnel is not the one that it should have. Without ids there
    /// is none that it should: a peer that is not reachable any more has lost its id, and its
    /// connection is about to end.
    fn has_wrong_device(&self, number: u64) -> bool {
        let Some(tunnel) = self.tunnels.get(&number) else { return false };
        let Some(Installed { device, .. }) = &tunnel.device else { return false };
        if let Some(required) = self.required_device(number) {
            return required != *device;
        }
        let ids = self.shared.ids.load();
        let is_of_other = |id, peer| ids.owner(id).is_some_and(|owner| owner != peer);
        is_of_other(device.vni.source, tunnel.tunnel.own)
            || is_of_other(device.vni.destination, tunnel.tunnel.params.remote)
    }

    fn numbers(&self) -> Vec<u64> {
        self.tunnels.keys().copied().collect()
    }

    fn publish(&self) {
        let tunnels =
            self.tunnels.iter().map(|(number, entry)| (*number, Arc::clone(&entry.tunnel)));
        self.shared.tunnels.store(Arc::new(tunnels.collect()));
        self.shared.retained_ends.store(Arc::new(self.retained.ends()));
        if let Some(waker) = self.shared.on_ends.get() {
            waker.wake();
        }
    }
}

/// A change of a device by another program, by which frames are lost or get where they must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum ForeignChange {
    #[error("another program took it from the bridge")]
    Detached,
    #[error("another program set it down")]
    Down,
    #[error("another program changed how its port on the bridge passes frames")]
    PortSettings,
    #[error("another program changed its destination")]
    Destination,
}

/// Returns what another program changed about a device.
fn foreign_change(
    kernel: &mut Kernel,
    installed: &Installed,
    ports: &[Link],
    bridge: Option<u32>,
) -> Option<ForeignChange> {
    let port =
        ports.iter().find(|found| found.index == installed.index && found.controller == bridge);
    match port {
        None => Some(ForeignChange::Detached),
        Some(found) if !found.up => Some(ForeignChange::Down),
        Some(found) if !is_isolated(found, installed.learning) => Some(ForeignChange::PortSettings),
        Some(_) if !kernel.has_destination(installed.index, &installed.device) => {
            Some(ForeignChange::Destination)
        }
        Some(_) => None,
    }
}
