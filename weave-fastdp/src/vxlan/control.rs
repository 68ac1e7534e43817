//! The thread that keeps the devices of the tunnels as they should be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use weave_core::switch::ForwardingTable;
use weave_core::wire::MacAddress;

use super::filter::{self, Wanted};
use super::kernel::{Device, Interface, Kernel, index_of, name_of};
use super::taken::TakenPorts;
use super::tunnel::{OpenDevice, VxlanTunnel};
use super::{PREFIX, Shared, VxlanConfig, VxlanError, on_input};
use crate::sys::packet::{PacketSocket, Scope};
use crate::vni::Vni;

/// How often devices and routes are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How soon after news of routes: they are published a moment later.
const SOON: Duration = Duration::from_millis(20);
/// How often the switch hears which stations the kernel has heard from. Against an age of ten
/// minutes in the table of the switch.
const SIGHTINGS_INTERVAL: Duration = Duration::from_secs(30);
/// Stations that the bridge learns, at most: as many as the table of the switch holds. Those of a
/// container that makes up addresses would fill the memory of the kernel; what is sent to one that
/// there is no room for is flooded.
const STATIONS: u32 = 65_536;
/// Stations that are told to the bridge in a second, at most.
const STATIONS_PER_TICK: u32 = 500;
/// Wide enough for any frame: a bridge drops what is wider than a port without a word, while VXLAN
/// tells the sender (`IP_MAX_MTU`, less what is around the packet).
const WIDEST: u32 = 65_535 - 64;
/// Short ids that no pair of peers has: both are the same.
const REHEARSAL: u32 = 0xff_ffff;
/// How long to wait for a UDP port.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// What the thread is asked to do.
pub(super) enum Command {
    Open(Arc<VxlanTunnel>),
    Close { tunnel: u64 },
    Carry { tunnel: u64 },
    Station { tunnel: u64, mac: MacAddress },
    ShortIds,
    Routes,
    Stop,
}

/// The state of the thread.
pub(super) struct Control {
    shared: Arc<Shared>,
    kernel: Kernel,
    bridge: Option<u32>,
    tunnels: BTreeMap<u64, Kept>,
    /// The table that filters were made by.
    table: Option<Arc<ForwardingTable>>,
    /// The stations here, as far as they matter to filters.
    local: Vec<MacAddress>,
    next_tick: Instant,
    next_sightings: Instant,
    stations_left: u32,
}

struct Kept {
    tunnel: Arc<VxlanTunnel>,
    device: Option<Made>,
    wanted: Wanted,
    /// Whether it was said that the device cannot be made.
    told: bool,
}

struct Made {
    device: Device,
    index: u32,
    /// Whether the bridge learns who is behind it.
    learning: bool,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>, kernel: Kernel) -> Self {
        let now = Instant::now();
        Self {
            shared,
            kernel,
            bridge: None,
            tunnels: BTreeMap::new(),
            table: None,
            local: Vec::new(),
            next_tick: now,
            next_sightings: now + SIGHTINGS_INTERVAL,
            stations_left: STATIONS_PER_TICK,
        }
    }

    /// Carries commands out until it is told to stop, and leaves no device.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let pause = self.next_tick.saturating_duration_since(Instant::now());
            match commands.recv_timeout(pause) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(command) => self.carry_out(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= self.next_tick {
                self.tick();
            }
        }
        self.shared.tunnels.store(Arc::default());
        let numbers: Vec<_> = self.tunnels.keys().copied().collect();
        for number in numbers {
            self.remove_device(number);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Open(tunnel) => self.open(tunnel),
            Command::Close { tunnel } => self.close(tunnel),
            Command::Carry { tunnel } => self.carry(tunnel),
            Command::Station { tunnel, mac } => self.station(tunnel, mac),
            Command::ShortIds => {
                // All that is wrong goes before anything new comes: ids may have changed hands.
                for number in self.numbers() {
                    if self.wanted_device(number) != self.device(number) {
                        self.remove_device(number);
                    }
                }
                self.make_devices();
            }
            Command::Routes => {
                self.table = None;
                self.next_tick = self.next_tick.min(Instant::now() + SOON);
            }
            Command::Stop => {}
        }
    }

    fn open(&mut self, tunnel: Arc<VxlanTunnel>) {
        let before = self.numbers().into_iter().find(|number| {
            self.tunnels
                .get(number)
                .is_some_and(|kept| kept.tunnel.params.remote == tunnel.params.remote)
        });
        if let Some(before) = before {
            self.close(before);
        }
        let number = tunnel.number;
        let kept = Kept { tunnel, device: None, wanted: Wanted::Everything, told: false };
        self.tunnels.insert(number, kept);
        self.publish();
        self.make_device(number);
    }

    fn close(&mut self, number: u64) {
        self.remove_device(number);
        if self.tunnels.remove(&number).is_some() {
            self.publish();
            self.filter_undelivered(None);
        }
    }

    fn carry(&mut self, number: u64) {
        let Some(kept) = self.tunnels.get_mut(&number) else { return };
        let carry = kept.tunnel.carry.load(Ordering::Relaxed);
        // A device that is made later asks again.
        let Some(made) = &mut kept.device else { return };
        match self.kernel.set_learning(made.index, carry) {
            Ok(()) => made.learning = carry,
            Err(error) => tracing::warn!(
                device = made.index,
                "the bridge cannot be told what fastdp carries: {error}"
            ),
        }
        self.filter(number);
    }

    fn station(&mut self, number: u64, mac: MacAddress) {
        let Some(kept) = self.tunnels.get(&number) else { return };
        kept.tunnel.waiting.fetch_sub(1, Ordering::Relaxed);
        let carries = kept.tunnel.carry.load(Ordering::Relaxed);
        let Some(made) = kept.device.as_ref().filter(|_| carries && self.stations_left > 0) else {
            return;
        };
        self.stations_left -= 1;
        if let Err(error) = self.kernel.add_station(made.index, mac) {
            tracing::debug!(station = %mac, device = made.device.name, "not told: {error}");
        }
    }

    /// Looks whether all is as it should be.
    fn tick(&mut self) {
        self.next_tick = Instant::now() + TICK;
        self.stations_left = STATIONS_PER_TICK;
        let bridge = index_of(&self.shared.config.bridge);
        if self.bridge != bridge {
            self.bridge = bridge;
            self.shared.bridge.store(bridge.unwrap_or(0), Ordering::Relaxed);
            // Not every kernel has it.
            let _ = bridge.map(|index| self.kernel.disable_snooping(index));
            let _ = bridge.map(|index| self.kernel.limit_stations(index, STATIONS));
        }
        self.remove_damaged();
        self.shared.taken.look_again();
        self.make_devices();
        self.look_at_stations();
        let table = Arc::clone(&*self.shared.switch.table());
        let same = self.table.as_ref().is_some_and(|before| Arc::ptr_eq(before, &table));
        if !same {
            self.table = Some(table);
        }
        for number in self.numbers() {
            self.filter(number);
        }
    }

    /// Devices that somebody changed are made anew.
    fn remove_damaged(&mut self) {
        let found = match self.bridge.map(|bridge| self.kernel.vxlan_ports(bridge)) {
            Some(Ok(found)) => found,
            None => Vec::new(),
            Some(Err(error)) => {
                tracing::debug!("the devices are not looked at: {error}");
                return;
            }
        };
        for number in self.numbers() {
            let Some(made) = self.tunnels.get(&number).and_then(|kept| kept.device.as_ref()) else {
                continue;
            };
            if let Some(damage) = damage(&mut self.kernel, made, &found, self.bridge) {
                tracing::warn!(device = made.device.name, "{damage}: it is made anew");
                self.remove_device(number);
            }
        }
    }

    fn make_devices(&mut self) {
        for number in self.numbers() {
            let lacking = self.tunnels.get(&number).is_some_and(|kept| kept.device.is_none());
            if lacking {
                self.make_device(number);
            }
        }
    }

    /// Makes the device of a tunnel if both ends have short ids, and nobody else the port.
    fn make_device(&mut self, number: u64) {
        let (Some(device), Some(bridge)) = (self.wanted_device(number), self.bridge) else {
            return;
        };
        if self.shared.taken.contains(device.port) {
            return;
        }
        // From here on the kernel delivers what is for the device, and nobody else may.
        self.filter_undelivered(Some(device.vni));
        match self.try_device(number, &device, bridge) {
            Ok(()) => {
                tracing::debug!(device = device.name, remote = %device.remote, "made");
                self.carry(number);
            }
            Err(error) if is_taken(&error) => {
                self.filter_undelivered(None);
                self.shared.taken.note(device.port);
            }
            Err(error) => {
                self.filter_undelivered(None);
                let Some(kept) = self.tunnels.get_mut(&number) else { return };
                if !std::mem::replace(&mut kept.told, true) {
                    let reason = format!("cannot make the VXLAN device {}: {error}", device.name);
                    tracing::warn!(peer = %kept.tunnel.params.remote, "{reason}");
                    kept.tunnel.inbox.failed(reason);
                }
            }
        }
    }

    fn try_device(&mut self, number: u64, device: &Device, bridge: u32) -> io::Result<()> {
        if let Some(index) = index_of(&device.name) {
            self.kernel.delete(index)?;
        }
        let index = self.kernel.create(device, bridge, WIDEST)?;
        let made = self.set_up(number, index).inspect_err(|_| {
            // The first error says more than one from here.
            let _ = self.kernel.delete(index);
        })?;
        let Some(kept) = self.tunnels.get_mut(&number) else { return Ok(()) };
        kept.device = Some(Made { device: device.clone(), index, learning: false });
        kept.tunnel.device.store(Some(Arc::new(made)));
        Ok(())
    }

    fn set_up(&mut self, number: u64, index: u32) -> io::Result<OpenDevice> {
        self.kernel.isolate(index)?;
        self.kernel.set_alias(index, &self.shared.config.bridge)?;
        if let Some(name) = name_of(index) {
            // A host without IPv6 needs no such setting.
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        }
        come_up(&mut self.kernel, index)?;
        let program = filter::delivered(&Wanted::Everything);
        let socket = PacketSocket::open(Scope::Device(index), &program)?;
        if let Some(kept) = self.tunnels.get_mut(&number) {
            kept.wanted = Wanted::Everything;
        }
        self.shared.poller.add(&socket, on_input(number))?;
        Ok(OpenDevice { index, socket })
    }

    fn remove_device(&mut self, number: u64) {
        let Some(kept) = self.tunnels.get_mut(&number) else { return };
        kept.tunnel.device.store(None);
        if let Some(made) = kept.device.take() {
            if let Err(error) = self.kernel.delete(made.index) {
                tracing::warn!(device = made.device.name, "it is not removed: {error}");
            }
            self.filter_undelivered(None);
        }
    }

    /// Has the router see what it needs of what the device delivers.
    fn filter(&mut self, number: u64) {
        let Some(table) = &self.table else { return };
        let Some(kept) = self.tunnels.get(&number) else { return };
        let wanted = if !kept.tunnel.carry.load(Ordering::Relaxed) {
            Wanted::Everything
        } else if table.relays(kept.tunnel.params.remote) {
            Wanted::NotFor(self.local.clone())
        } else {
            Wanted::Groups
        };
        let Some(kept) = self.tunnels.get_mut(&number) else { return };
        let device = kept.tunnel.device.load();
        if let Some(device) = &*device
            && kept.wanted != wanted
        {
            match device.socket.set_filter(&filter::delivered(&wanted)) {
                Ok(()) => kept.wanted = wanted,
                Err(error) => tracing::warn!("what the kernel shows cannot be chosen: {error}"),
            }
        }
    }

    /// Excludes what devices deliver, among them one that is about to.
    fn filter_undelivered(&self, coming: Option<Vni>) {
        let made = self.tunnels.values().filter_map(|kept| kept.device.as_ref());
        let delivered = made.map(|made| made.device.vni).chain(coming).map(Vni::reversed);
        let delivered: Vec<_> = delivered.collect();
        let tunnels = self.tunnels.values();
        let ports: BTreeSet<u16> = tunnels.map(|kept| kept.tunnel.params.port).collect();
        let ports: Vec<_> = ports.into_iter().collect();
        let program = filter::undelivered(&ports, &delivered);
        if let Err(error) = self.shared.undelivered.set_filter(&program) {
            tracing::warn!("what the kernel shows cannot be chosen: {error}");
        }
    }

    /// Tells the switch of the stations that the kernel has heard from.
    fn look_at_stations(&mut self) {
        let due = Instant::now() >= self.next_sightings;
        let table = self.table.as_ref();
        let relaying = self
            .tunnels
            .values()
            .any(|kept| table.is_some_and(|table| table.relays(kept.tunnel.params.remote)));
        let Some(bridge) = self.bridge.filter(|_| due || relaying) else { return };
        let Ok(stations) = self.kernel.stations(bridge) else { return };
        let tunnels = self.shared.tunnels.load();
        let own = self.shared.switch.own();
        self.local.clear();
        let (now, recent) = ((self.shared.clock)(), SIGHTINGS_INTERVAL.as_secs() * 100);
        for station in stations {
            let Some(home) = self.shared.home(&tunnels, station.port) else { continue };
            if home == own {
                self.local.push(station.mac);
            }
            if due && !station.permanent && u64::from(station.age) <= recent {
                self.shared.switch.refresh_station(now, station.mac, home);
            }
        }
        self.local.sort_unstable();
        self.local.dedup();
        if due {
            self.next_sightings = Instant::now() + SIGHTINGS_INTERVAL;
        }
    }

    /// The device that a tunnel should have by now.
    fn wanted_device(&self, number: u64) -> Option<Device> {
        let tunnel = &self.tunnels.get(&number)?.tunnel;
        let ids = self.shared.ids.load();
        let vni = Vni { source: ids.of(tunnel.own)?, destination: ids.of(tunnel.params.remote)? };
        Some(Device {
            name: format!("{PREFIX}{vni}"),
            vni,
            local: tunnel.params.local_address,
            remote: tunnel.params.remote_address,
            port: tunnel.params.port,
        })
    }

    fn device(&self, number: u64) -> Option<Device> {
        self.tunnels.get(&number)?.device.as_ref().map(|made| made.device.clone())
    }

    fn numbers(&self) -> Vec<u64> {
        self.tunnels.keys().copied().collect()
    }

    fn publish(&self) {
        let tunnels = self.tunnels.iter().map(|(number, kept)| (*number, Arc::clone(&kept.tunnel)));
        self.shared.tunnels.store(Arc::new(tunnels.collect()));
    }
}

/// What somebody did to a device, by which frames are lost, or get where they must not.
fn damage(
    kernel: &mut Kernel,
    made: &Made,
    ports: &[Interface],
    bridge: Option<u32>,
) -> Option<&'static str> {
    let port = ports.iter().find(|found| found.index == made.index && found.controller == bridge);
    match port {
        None => Some("somebody took it from the bridge"),
        Some(found) if !found.up => Some("somebody set it down"),
        Some(found) if !found.is_isolated(made.learning) => {
            Some("somebody changed how its port on the bridge passes frames")
        }
        Some(_) if !kernel.has_destination(made.index, &made.device) => {
            Some("somebody changed where it sends to")
        }
        Some(_) => None,
    }
}

/// Removes what a router of this bridge has left.
pub(super) fn remove_leftovers(kernel: &mut Kernel, bridge: &str) -> Result<(), VxlanError> {
    let failed = |what| move |source| VxlanError::Kernel { what, source };
    for found in kernel.interfaces().map_err(failed("cannot list the devices"))? {
        let ours = found.is_vxlan
            && found.name.starts_with(PREFIX)
            && found.alias.as_deref() == Some(bridge);
        if ours {
            tracing::info!(device = found.name, "removed what an earlier router has left");
            kernel.delete(found.index).map_err(failed("cannot remove an old device"))?;
        }
    }
    Ok(())
}

/// Makes, for a moment, what a tunnel needs.
pub(super) fn rehearse(
    kernel: &mut Kernel,
    config: &VxlanConfig,
    taken: &TakenPorts,
) -> Result<(), VxlanError> {
    let failed = |what| move |source| VxlanError::Kernel { what, source };
    let bridge = index_of(&config.bridge)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        .map_err(failed("there is no bridge"))?;
    let Some(vni) = Vni::new(REHEARSAL) else { return Ok(()) };
    let device = Device {
        name: format!("{PREFIX}try{}", std::process::id() % 1_000_000),
        vni,
        local: Ipv4Addr::LOCALHOST,
        remote: Ipv4Addr::LOCALHOST,
        port: config.port,
    };
    let index =
        kernel.create(&device, bridge, WIDEST).map_err(failed("cannot make a VXLAN device"))?;
    let mut tried = kernel.isolate(index).map_err(failed("the bridge cannot isolate ports"));
    if tried.is_ok() {
        tried = match come_up(kernel, index) {
            Err(error) if is_taken(&error) => {
                taken.note(config.port);
                Ok(())
            }
            result => result.map_err(failed("cannot use a VXLAN device")),
        };
    }
    kernel.delete(index).map_err(failed("cannot remove a device"))?;
    tried
}

/// A port is free a moment after its last device is gone.
fn come_up(kernel: &mut Kernel, index: u32) -> io::Result<()> {
    let mut attempt = 0;
    loop {
        match kernel.set_up(index) {
            Err(error) if is_taken(&error) && attempt < ATTEMPTS => {
                attempt += 1;
                sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Somebody has the UDP port.
fn is_taken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRINUSE)
}
