//! Packet sockets (packet(7)).

use std::ffi::CString;
use std::io;
use std::mem::{offset_of, zeroed};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_uint};
use weave_core::wire::EtherType;
use weave_core::wire::vlan::Tag;

use super::{batch, check, set_option, size};

const CONTROL_LEN: usize = {
    // SAFETY: computes a length from a length.
    unsafe { libc::CMSG_SPACE(size::<libc::tpacket_auxdata>()) as usize }
};

/// The index of a network device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Device(c_int);

impl Device {
    /// Looks up the device that has this name now.
    pub(crate) fn named(name: &str) -> io::Result<Self> {
        let name = CString::new(name)?;
        // SAFETY: the name ends with a zero byte.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        c_int::try_from(index).map(Self).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Returns whether the device still exists, under any name.
    pub(crate) fn exists(self) -> bool {
        let mut name = [0; libc::IF_NAMESIZE];
        let Ok(index) = c_uint::try_from(self.0) else { return false };
        // SAFETY: the kernel writes at most IF_NAMESIZE bytes.
        !unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null()
    }
}

/// Opens a socket that captures all frames arriving over a device, with virtio-net headers.
pub(crate) fn capture_socket(device: Device) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let fd = socket.as_fd();
    set_option(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1)?;
    // Since Linux 4.20. On older kernels outgoing frames are copied here and discarded then.
    let _ = set_option(fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1);
    let membership = libc::packet_mreq {
        mr_ifindex: device.0,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
    bind(fd, device, (libc::ETH_P_ALL as u16).to_be())?;
    Ok(socket)
}

/// Opens a socket that sends over a device, with virtio-net headers, and receives nothing.
pub(crate) fn injection_socket(device: Device) -> io::Result<OwnedFd> {
    let socket = socket()?;
    set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
    bind(socket.as_fd(), device, 0)?;
    Ok(socket)
}

/// What is known of a captured frame besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CaptureInfo {
    /// Length of the virtio-net header and the frame.
    pub(crate) length: usize,
    /// Whether it did not fit its slot.
    pub(crate) truncated: bool,
    /// Whether this host sent it.
    pub(crate) outgoing: bool,
    /// The tag that the kernel removed.
    pub(crate) vlan: Option<Tag>,
}

/// Receives the frames at hand without waiting. The buffer is divided into equal slots, one for
/// each entry of `captured`.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    captured: &mut [CaptureInfo],
) -> io::Result<usize> {
    batch::receive::<libc::sockaddr_ll, CONTROL_LEN>(
        fd,
        buffer,
        captured.len(),
        |index, message| {
            let batch::Received { length, header, name } = *message;
            let named = header.msg_namelen as usize >= offset_of!(libc::sockaddr_ll, sll_addr);
            // SAFETY: the name has at least the fields before the hardware address, of which this
            // is one.
            let kind = || unsafe { (&raw const (*name.as_ptr()).sll_pkttype).read() };
            let outgoing = named && kind() == libc::PACKET_OUTGOING;
            let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
            captured[index] = CaptureInfo { length, truncated, outgoing, vlan: vlan(header) };
        },
    )
}

/// Sends frames, each behind its virtio-net header, without waiting, and returns how many were
/// sent. An error is that of the first.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], frames: &[Range<usize>]) -> io::Result<usize> {
    let messages = frames.iter().map(|frame| &bytes[frame.clone()]);
    // SAFETY: nothing is added to the headers.
    unsafe { batch::send(fd, messages, |_, _| {}) }
}

/// Returns how many frames found the socket buffer full since the last call.
pub(crate) fn take_overruns(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size::<libc::tpacket_stats>();
    // SAFETY: the kernel writes at most `length` bytes, which is the size of the structure.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    })?;
    Ok(u64::from(statistics.tp_drops))
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel just made this descriptor, and no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: BorrowedFd<'_>, device: Device, protocol: u16) -> io::Result<()> {
    // SAFETY: zero is a value of each of its fields.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = device.0;
    let length = size::<libc::sockaddr_ll>();
    // SAFETY: the pointer and the length describe `address`.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

/// Returns the VLAN tag in the auxiliary data of a received message.
fn vlan(message: &libc::msghdr) -> Option<Tag> {
    // SAFETY: the message was filled by the kernel, and its control buffer is alive.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() };
    while let Some(header) = control {
        if header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: such a message carries this structure.
            let auxiliary =
                unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
            if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
                return None;
            }
            let kind = if auxiliary.tp_status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
                libc::ETH_P_8021Q as u16
            } else {
                auxiliary.tp_vlan_tpid
            };
            return Some(Tag { kind: EtherType(kind), control: auxiliary.tp_vlan_tci });
        }
        // SAFETY: as above; the header is one of this message.
        control = unsafe { libc::CMSG_NXTHDR(message, header).as_ref() };
    }
    None
}
