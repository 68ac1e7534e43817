//! The thread that takes in what the kernel does not deliver by itself, or not it alone.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollTimeout};
use weave_core::mesh::PeerName;
use weave_core::switch::{Arrival, ChecksumRequest, Frame, Pass, Worker, virtio};

use super::tunnel::VxlanTunnel;
use super::{MONITOR, STOP, Shared, UNDELIVERED};
use crate::heartbeat::is_special;
use crate::sys::packet::{PacketSocket, Received};
use crate::vni::Vni;

/// Sockets that are looked at in one turn; the others come with the next.
const READY: usize = 32;

/// Frames of one socket before the others have their turn.
const BATCH: usize = 64;

/// The longest IP packet and all headers around it and within.
const BUFFER: usize = virtio::HEADER_LEN + (1 << 16) + 128;
/// IPv4 without options, UDP, VXLAN.
const OUTER: usize = 20 + 8 + 8;

/// Takes turns until it is told to stop.
pub(super) fn run(shared: &Shared, mut worker: Worker) {
    let mut buffer = vec![0; BUFFER];
    let mut ready = [EpollEvent::empty(); READY];
    loop {
        let count = match shared.poller.wait(&mut ready, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => {
                tracing::error!("the fast datapath receives nothing more: {error}");
                return;
            }
        };
        let tunnels = shared.tunnels.load();
        for event in ready.iter().take(count) {
            match event.data() {
                STOP => return,
                MONITOR => monitor(shared),
                UNDELIVERED => {
                    turn(
                        shared,
                        &mut worker,
                        &shared.undelivered,
                        &mut buffer,
                        |pass, frame, at| {
                            let arrived = undelivered(shared, frame, at);
                            let counters = &shared.counters;
                            match arrived {
                                Some((arrival, frame)) => {
                                    counters.undelivered.fetch_add(1, Ordering::Relaxed);
                                    pass.received(arrival, frame);
                                }
                                None => {
                                    counters.strangers.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        },
                    );
                }
                number => {
                    let Some(tunnel) = tunnels.get(&number) else { continue };
                    let device = tunnel.device.load();
                    let Some(device) = &*device else { continue };
                    turn(shared, &mut worker, &device.socket, &mut buffer, |pass, frame, _| {
                        delivered(tunnel, pass, frame);
                    });
                }
            }
        }
    }
}

/// Takes some frames of a socket; one that makes no sense comes as none.
fn turn(
    shared: &Shared,
    worker: &mut Worker,
    socket: &PacketSocket,
    buffer: &mut [u8],
    mut each: impl FnMut(&mut Pass<'_, dyn weave_core::switch::Inject + Send>, Option<Frame<'_>>, usize),
) {
    let mut injector = shared.injector.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pass = worker.pass((shared.clock)(), &mut **injector);
    for _ in 0..BATCH {
        match socket.receive(buffer) {
            Ok(Some(Received { length, network, vlan })) => {
                let read = buffer.get_mut(..length).unwrap_or_default();
                each(&mut pass, virtio::frame_with_tag(read, vlan).ok(), network);
            }
            Ok(None) => each(&mut pass, None, 0),
            // Nothing more, or the device is gone: its keeper notices.
            Err(_) => return,
        }
    }
}

/// A frame that the kernel has given to the bridge as well, unless it is a special one.
fn delivered(
    tunnel: &VxlanTunnel,
    pass: &mut Pass<'_, dyn weave_core::switch::Inject + Send>,
    frame: Option<Frame<'_>>,
) {
    let Some(frame) = frame else {
        tunnel.counters.rx_malformed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if is_special(frame.bytes) {
        tunnel.inbox.special(frame.bytes);
        return;
    }
    tunnel.counters.rx_frames.fetch_add(1, Ordering::Relaxed);
    let remote = tunnel.params.remote;
    pass.relay_only(Arrival { neighbour: remote, source: remote, destination: tunnel.own }, frame);
}

/// What is in a packet that no device was there for, if it is from a neighbour.
fn undelivered<'f>(
    shared: &Shared,
    frame: Option<Frame<'f>>,
    network: usize,
) -> Option<(Arrival, Frame<'f>)> {
    let Frame { bytes, checksum, segmentation } = frame?;
    let outer: &[u8; OUTER] = bytes.get(network..)?.first_chunk()?;
    let address = Ipv4Addr::new(outer[12], outer[13], outer[14], outer[15]);
    let vni = Vni::new(u32::from_be_bytes([0, outer[32], outer[33], outer[34]]))?;
    let start = network + OUTER;
    let inner = bytes.get(start..)?;
    // A heartbeat that came before the device.
    if is_special(inner) {
        return None;
    }
    let neighbour = neighbour_at(shared, address)?;
    let ids = shared.ids.load();
    let arrival = Arrival {
        neighbour,
        source: ids.owner(vni.source)?,
        destination: ids.owner(vni.destination)?,
    };
    // One of the packet around it, from a neighbour on this machine, is not looked at by anybody.
    let within = |ChecksumRequest { start: at, offset }| {
        let start = usize::from(at).checked_sub(start).and_then(|at| u16::try_from(at).ok())?;
        Some(ChecksumRequest { start, offset })
    };
    let checksum = checksum.and_then(within);
    Some((arrival, Frame { bytes: inner, checksum, segmentation }))
}

fn neighbour_at(shared: &Shared, address: Ipv4Addr) -> Option<PeerName> {
    let tunnels = shared.tunnels.load();
    let tunnel = tunnels.values().find(|tunnel| tunnel.params.remote_address == address);
    tunnel.map(|tunnel| tunnel.params.remote)
}

/// Stations that the bridge has learnt.
fn monitor(shared: &Shared) {
    let now = (shared.clock)();
    let tunnels = shared.tunnels.load();
    shared.monitor.receive(shared.bridge.load(Ordering::Relaxed), |station| {
        if let Some(peer) = shared.home(&tunnels, station.port)
            && !station.permanent
        {
            shared.switch.refresh_station(now, station.mac, peer);
        }
    });
}

impl Shared {
    /// Which peer a port of the bridge stands for.
    pub(super) fn home(&self, tunnels: &super::Tunnels, port: u32) -> Option<PeerName> {
        let of_tunnel = tunnels.values().find(|tunnel: &&Arc<VxlanTunnel>| {
            tunnel.device.load().as_ref().is_some_and(|device| device.index == port)
        });
        if let Some(tunnel) = of_tunnel {
            return Some(tunnel.params.remote);
        }
        let name = super::kernel::name_of(port)?;
        let is_router = self.config.router_ports.contains(&name) || name.starts_with(super::PREFIX);
        (!is_router).then(|| self.switch.own())
    }
}
