//! Raw Ethernet frames on the device of a container: for what `ping` cannot send.
#![expect(unsafe_code, reason = "a packet socket address has no safe constructor")]

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Container;

/// ETH_P_ALL in network order, as packet sockets want it.
const ALL: u16 = 0x0003_u16.to_be();

/// A packet socket on one device.
#[derive(Debug)]
pub struct RawPort {
    socket: Socket,
}

impl RawPort {
    /// Opens a socket on the container's overlay interface.
    pub fn open(container: &Container) -> Result<Self> {
        let index = container.namespace.exec("cat /sys/class/net/ethwe/ifindex")?;
        let index: i32 = index.trim().parse()?;
        let socket = container.namespace.enter(move || -> Result<Socket> {
            let socket =
                Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ALL))))?;
            socket.bind(&address(index)?)?;
            Ok(socket)
        })??;
        Ok(Self { socket })
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = self.socket.send(frame).context("sending a raw frame")?;
        if sent != frame.len() {
            bail!("{sent} of {} bytes sent", frame.len());
        }
        Ok(())
    }

    /// Waits for a frame for which `wanted` holds.
    pub fn receive(&mut self, limit: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no such frame within {limit:?}");
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(&mut buffer) {
                Ok(length) if wanted(&buffer[..length]) => return Ok(buffer[..length].to_vec()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("receiving raw frames"),
            }
        }
    }
}

/// The address of all frames on a device.
fn address(index: i32) -> Result<SockAddr> {
    // SAFETY: `sockaddr_ll` is smaller than `sockaddr_storage` and at least as loosely aligned; the
    // closure writes one whole `sockaddr_ll` into the zeroed storage and sets the length to its
    // size.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = libc::sockaddr_ll {
                sll_family: 17, // AF_PACKET
                sll_protocol: ALL,
                sll_ifindex: index,
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            };
            storage.cast::<libc::sockaddr_ll>().write(link);
            *length = 20; // size of `sockaddr_ll`
            Ok(())
        })
    }?;
    Ok(address)
}
