//! The thread that receives frames which the kernel does not deliver by itself, or which the router
//! has to see as well.

use std::net::Ipv4Addr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollTimeout};
use weave_core::mesh::PeerName;
use weave_core::switch::{Addresses, Arrival, ChecksumRequest, Frame, Pass, Worker, virtio};

use super::command::Command;
use super::shared::{MONITOR, STOP, Shared, UNDELIVERED};
use super::tunnel::VxlanTunnel;
use crate::sys::packet::{PacketSocket, Received};
use crate::vni::Vni;

/// Largest number of sockets that are served in one turn; the others follow in the next.
const READY: usize = 32;

/// Largest number of frames of one socket before the others have their turn.
const BATCH: usize = 64;

/// Length of the longest IP packet with all headers around and within it.
const BUFFER: usize = virtio::HEADER_LEN + (1 << 16) + 128;
/// Length of the outer headers: IPv4 without options, UDP, VXLAN.
const OUTER: usize = 20 + 8 + 8;

/// Receives frames until the engine stops.
pub(super) fn run(shared: &Shared, mut worker: Worker, commands: &Sender<Command>) {
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
                MONITOR => monitor(shared, commands),
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
                                    counters.undelivered.increment();
                                    pass.received(arrival, frame);
                                }
                                None => {
                                    counters.unknown_senders.increment();
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

/// Receives some frames of a socket. A malformed one is passed as `None`.
fn turn(
    shared: &Shared,
    worker: &mut Worker,
    socket: &PacketSocket,
    buffer: &mut [u8],
    mut each: impl FnMut(&mut Pass<'_, dyn weave_core::switch::Inject + Send>, Option<Frame<'_>>, usize),
) {
    let mut injector = shared.injector.lock().unwrap_or_else(PoisonError::into_inner);
    let mut pass = worker.pass(shared.clock.now(), &mut **injector);
    for _ in 0..BATCH {
        match socket.receive(buffer) {
            Ok(Some(Received { length, network, vlan })) => {
                let read = buffer.get_mut(..length).unwrap_or_default();
                each(&mut pass, virtio::frame_with_tag(read, vlan).ok(), network);
            }
            Ok(None) => each(&mut pass, None, 0),
            // There are no more, or the device was deleted, which the controller notices.
            Err(_) => return,
        }
    }
}

/// Handles a frame that the kernel has also passed to the bridge, or a special frame.
fn delivered(
    tunnel: &VxlanTunnel,
    pass: &mut Pass<'_, dyn weave_core::switch::Inject + Send>,
    frame: Option<Frame<'_>>,
) {
    let Some(frame) = frame else {
        tunnel.counters.rx_malformed.increment();
        return;
    };
    if Addresses::of(frame.bytes).is_some_and(Addresses::is_special) {
        tunnel.inbox.special(frame.bytes);
        return;
    }
    tunnel.counters.rx_frames.increment();
    let remote = tunnel.params.remote;
    let (source, destination) = (remote, tunnel.own);
    pass.relay_only(Arrival { neighbour: remote, source, destination, relays: 0 }, frame);
}

/// Decodes a packet without a device; `None` if it is not from a neighbour.
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
    // A heartbeat that arrived before the device was created.
    if Addresses::of(inner).is_some_and(Addresses::is_special) {
        return None;
    }
    let neighbour = neighbour_at(shared, address)?;
    let ids = shared.ids.load();
    let arrival = Arrival {
        neighbour,
        source: ids.owner(vni.source)?,
        destination: ids.owner(vni.destination)?,
        relays: 0,
    };
    // The checksum of the outer packet, from a neighbour on this machine, does not matter.
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

/// Tells the switch of stations that the bridge has learned.
fn monitor(shared: &Shared, commands: &Sender<Command>) {
    let now = shared.clock.now();
    let tunnels = shared.tunnels.load();
    let mut monitor = shared.monitor.lock().unwrap_or_else(PoisonError::into_inner);
    monitor.receive(shared.bridge.load(Ordering::Relaxed), |station| {
        if let Some(peer) = shared.home(&tunnels, station.port)
            && !station.permanent
            && !shared.switch.refresh_station(now, station.mac, peer)
            && peer != shared.switch.own()
        {
            // It ends before this thread only when the process does.
            let _ = commands.send(Command::Misled { port: station.port });
        }
    });
}
