//! Packet sockets (packet(7)) with virtio-net headers and filters in the kernel.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_void};
use weave_core::wire::EtherType;
use weave_core::wire::vlan::Tag;

use super::{check, check_len, size};

/// Length of the buffer for the auxiliary data of a frame.
const CONTROL_LEN: usize = {
    // SAFETY: computes a length from a length.
    unsafe { libc::CMSG_SPACE(size::<libc::tpacket_auxdata>()) as usize }
};

/// The packets that a socket receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// All packets that come in through the device with this index.
    Device(u32),
    /// IPv4 packets that come in through any device and are for this host.
    Ipv4,
}

/// A packet socket with a virtio-net header before each frame, in both directions.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

/// The description of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Received {
    /// Length of the virtio-net header and the frame.
    pub(crate) length: usize,
    /// Offset of the network header from the start of the frame.
    pub(crate) network: usize,
    /// VLAN tag that the kernel has removed from the frame.
    pub(crate) vlan: Option<Tag>,
}

impl PacketSocket {
    /// Opens a socket that receives packets which pass the filter.
    pub(crate) fn open(scope: Scope, filter: &[libc::sock_filter]) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the kernel has just created this descriptor, and it has no other owner.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.set_filter(filter)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1)?;
        // Otherwise the kernel copies each frame that the device sends, for the filter to drop.
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)?;
        let (device, protocol) = match scope {
            Scope::Device(index) => (index, libc::ETH_P_ALL),
            Scope::Ipv4 => (0, libc::ETH_P_IP),
        };
        // SAFETY: zero is a value of each of its fields.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex =
            c_int::try_from(device).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let length = size::<libc::sockaddr_ll>();
        // SAFETY: the pointer and the length describe `address`.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
        Ok(socket)
    }

    /// Replaces the filter.
    pub(crate) fn set_filter(&self, filter: &[libc::sock_filter]) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len())
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
            // The kernel only reads it.
            filter: filter.as_ptr().cast_mut(),
        };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Sends a frame without waiting.
    pub(crate) fn send(&self, header: &[u8], frame: &[u8]) -> io::Result<()> {
        let part = |bytes: &[u8]| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut parts = [part(header), part(frame)];
        // SAFETY: zero is a value of each of its fields.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        // C libraries have different types for lengths.
        message.msg_iovlen = parts.len() as _;
        // SAFETY: the message points to two slices that are alive and that the kernel only reads.
        check_len(unsafe {
            libc::sendmsg(self.0.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT)
        })?;
        Ok(())
    }

    /// Receives a frame without waiting; `None` if the frame does not fit into the buffer.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = [0_u64; CONTROL_LEN.div_ceil(8)];
        // SAFETY: zero is a value of each of its fields.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        // SAFETY: the message points to a buffer and a control buffer of the lengths given.
        let length = check_len(unsafe {
            libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT)
        })?;
        if message.msg_flags & libc::MSG_TRUNC != 0 {
            return Ok(None);
        }
        let mut received = Received { length, ..Received::default() };
        if let Some(auxiliary) = auxiliary(&message) {
            received.network = usize::from(auxiliary.tp_net);
            if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                let has_type = auxiliary.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
                let kind = if has_type { auxiliary.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
                received.vlan = Some(Tag { kind: EtherType(kind), control: auxiliary.tp_vlan_tci });
            }
        }
        Ok(Some(received))
    }

    fn set<T: Copy>(&self, level: c_int, name: c_int, value: &T) -> io::Result<()> {
        // SAFETY: the pointer and the length describe `value`, which the kernel only reads; what a
        // filter program points to is alive as long as its caller.
        check(unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                (&raw const *value).cast::<c_void>(),
                size::<T>(),
            )
        })?;
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the auxiliary data of a received message.
fn auxiliary(message: &libc::msghdr) -> Option<libc::tpacket_auxdata> {
    // SAFETY: the message was filled by the kernel, and its control buffer is alive.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() };
    while let Some(header) = control {
        if header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: such a message carries this structure.
            let data =
                unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
            return Some(data);
        }
        // SAFETY: as above; the header is one of this message.
        control = unsafe { libc::CMSG_NXTHDR(message, header).as_ref() };
    }
    None
}
