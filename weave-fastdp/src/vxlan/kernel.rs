//! The requests of this engine to the kernel's routing socket.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::net::if_::{if_indextoname, if_nametoindex};
use weave_core::wire::MacAddress;
use weave_rtnl::{
    Client, Event, FdbEntry, FdbTarget, Group, Link, LinkChange, PortSettings, Table, Vxlan,
};

use super::devices::{Device, Station, VXLAN, is_destination, isolated, station};

/// Time to live of outer packets, the usual one.
const TTL: u8 = 64;

/// A routing socket in the network namespace of the thread that opened it. Errors are the kernel's
/// own reasons: callers compare them, and say what the request was for.
pub(super) struct Kernel(Client);

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(Client::open()?))
    }

    /// Creates a VXLAN device that is down and a port of the bridge. Its function depends on the
    /// settings of the port: see [`Self::isolate`] and [`Self::set_learning`].
    pub(super) fn create(&mut self, device: &Device, bridge: u32, mtu: u32) -> io::Result<u32> {
        let Device { name, vni, local, remote, port } = device;
        let (local, port) = (*local, *port);
        let vxlan = Vxlan { name, vni: vni.reversed().get(), local, port, ttl: TTL, mtu };
        self.0.create_vxlan(&vxlan)?;
        let link = index_of(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        // The destination of everything that the device sends.
        let target = FdbTarget::Host { address: *remote, vni: vni.get() };
        let everything = FdbEntry { link, mac: MacAddress::ZERO.0, target };
        let set_up = |client: &mut Client| {
            client.add_fdb_entry(&everything)?;
            client.change((link, name), LinkChange::Controller(Some(bridge)))
        };
        set_up(&mut self.0).inspect_err(|_| {
            // The first error is the one that matters.
            let _ = self.delete(link);
        })?;
        Ok(link)
    }

    /// Isolates a port of a bridge: nothing is flooded to it, and it exchanges nothing with other
    /// isolated ports.
    pub(super) fn isolate(&mut self, index: u32) -> io::Result<()> {
        Ok(self.0.set_port(id(index), &isolated(false))?)
    }

    /// Sets whether the bridge learns stations behind this port. If not, it forgets those that it
    /// has learned.
    pub(super) fn set_learning(&mut self, index: u32, learning: bool) -> io::Result<()> {
        let settings = PortSettings { learning: Some(learning), ..PortSettings::default() };
        self.0.set_port(id(index), &settings)?;
        if !learning {
            self.0.flush_port(id(index))?;
        }
        Ok(())
    }

    /// Disables multicast snooping, so that the bridge treats multicast like broadcast.
    pub(super) fn disable_snooping(&mut self, bridge: u32) -> io::Result<()> {
        Ok(self.0.set_multicast_snooping(bridge, false)?)
    }

    /// Limits the number of stations that the bridge learns (Linux 6.7).
    pub(super) fn limit_stations(&mut self, bridge: u32, count: u32) -> io::Result<()> {
        Ok(self.0.limit_stations(bridge, count)?)
    }

    pub(super) fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        Ok(self.0.change(id(index), LinkChange::Alias(alias))?)
    }

    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        Ok(self.0.change(id(index), LinkChange::Up)?)
    }

    /// Deletes a device. A missing one is not an error.
    pub(super) fn delete(&mut self, index: u32) -> io::Result<()> {
        self.0.delete(id(index))?;
        Ok(())
    }

    /// Makes the bridge send frames for a station out of this port, until it learns otherwise or
    /// the entry ages.
    pub(super) fn add_station(&mut self, port: u32, mac: MacAddress) -> io::Result<()> {
        let station = FdbEntry { link: port, mac: mac.0, target: FdbTarget::Port };
        Ok(self.0.add_fdb_entry(&station)?)
    }

    /// Makes the bridge forget that a station is behind this port.
    pub(super) fn remove_station(&mut self, port: u32, mac: MacAddress) -> io::Result<()> {
        self.0.remove_fdb_entry(port, mac.0)?;
        Ok(())
    }

    /// Lists all devices.
    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        Ok(self.0.links()?)
    }

    /// Lists the ports of a bridge that are VXLAN devices, without their counters.
    pub(super) fn vxlan_ports(&mut self, bridge: u32) -> io::Result<Vec<Link>> {
        Ok(self.0.ports(bridge, VXLAN)?)
    }

    /// Returns whether the destination of a device is unchanged, which is assumed if the kernel
    /// cannot tell (before Linux 5.0).
    pub(super) fn has_destination(&mut self, index: u32, device: &Device) -> bool {
        match self.0.fdb_entry(index, MacAddress::ZERO.0) {
            Ok(entry) => entry.is_some_and(|entry| is_destination(&entry, device)),
            Err(_) => true,
        }
    }

    /// Returns the parameters of a device that the kernel lists; `None` if they are not those of a
    /// device of this engine, or if the kernel cannot tell (before Linux 5.0).
    pub(super) fn device(&mut self, link: &Link) -> Option<Device> {
        let everything = self.0.fdb_entry(link.index, MacAddress::ZERO.0).ok()??;
        Device::of(link, &everything)
    }

    /// Looks up a device by its index.
    pub(super) fn link(&mut self, index: u32) -> io::Result<Option<Link>> {
        Ok(self.0.link(index)?)
    }

    /// Lists the forwarding table of a bridge.
    pub(super) fn stations(&mut self, bridge: u32) -> io::Result<Vec<Station>> {
        let entries = self.0.neighbours(Table::Forwarding)?;
        Ok(entries.iter().filter_map(|entry| station(entry, bridge)).collect())
    }
}

/// A device for errors, whose texts are not used.
const fn id(index: u32) -> (u32, &'static str) {
    (index, "device")
}

/// A subscription to the stations that bridges learn.
pub(super) struct Monitor(weave_rtnl::Monitor);

impl Monitor {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(weave_rtnl::Monitor::open(&[Group::Neighbours])?))
    }

    /// Passes pending entries of this bridge to `each`. Lost ones follow with the next listing.
    pub(super) fn receive(&mut self, bridge: u32, mut each: impl FnMut(Station)) {
        while let Ok(Some(event)) = self.0.poll_event() {
            if let Event::Neighbour(entry) = event {
                station(&entry, bridge).into_iter().for_each(&mut each);
            }
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Looks up the index of a device by its name.
pub(super) fn index_of(device: &str) -> Option<u32> {
    if_nametoindex(device).ok()
}

/// Looks up the name of a device by its index.
pub(super) fn name_of(index: u32) -> Option<String> {
    Some(if_indextoname(index).ok()?.to_string_lossy().into_owned())
}
