//! Batches of UDP messages (udp(7), ip(7), recvmmsg(2), sendmmsg(2)). Each message is a GSO batch:
//! several datagrams of equal size that pass the network stack as one.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;
use weave_port::sys::batch::{self, Control, MAX_BATCH};
use weave_port::sys::{check, int_option, set_option, size};

/// Room for the control messages of an outgoing message: the source address and the size of the
/// datagrams.
const SEND_CONTROL_LEN: usize = {
    // SAFETY: computes a length from a length.
    unsafe {
        (libc::CMSG_SPACE(size::<libc::in_pktinfo>()) + libc::CMSG_SPACE(size::<u16>())) as usize
    }
};

/// Room for the control message of an incoming message: the size of the datagrams.
const RECEIVE_CONTROL_LEN: usize = {
    // SAFETY: computes a length from a length.
    unsafe { libc::CMSG_SPACE(size::<c_int>()) as usize }
};

/// Adjacent datagrams to be sent as one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct GsoBatch {
    /// The bytes of all of them.
    pub(crate) bytes: Range<usize>,
    /// Their number. All have the same length, but the last may be shorter.
    pub(crate) count: usize,
    /// Length of the first.
    pub(crate) segment: u16,
}

/// Datagrams that were received as one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ReceivedBatch {
    /// Length of all together.
    pub(crate) length: usize,
    /// Length of each but the last.
    pub(crate) segment: usize,
    /// The sender, or `None` if it is of another address family.
    pub(crate) from: Option<SocketAddr>,
}

/// Sets whether the kernel sends with "don't fragment".
pub(crate) fn set_dont_fragment(fd: BorrowedFd<'_>, dont_fragment: bool) -> io::Result<()> {
    let mode = if dont_fragment { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
    set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &mode)
}

/// Most receiving sockets: the number of values of the last octet of a name.
pub(crate) const MAX_RECEIVERS: usize = 256;

/// Distributes incoming messages among the sockets that joined the group first, by the last octet
/// of the sender's name. In the legacy format a datagram begins with the name; in the native one,
/// with an octet whose lowest bit is set and one more. A datagram too short for a name goes to the
/// first socket.
pub(crate) fn steer_by_sender(fd: BorrowedFd<'_>, count: usize) -> io::Result<()> {
    let count = u32::try_from(count.clamp(1, MAX_RECEIVERS)).expect("at most 256");
    let load = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    // A classic BPF program that returns the index of a socket in the group.
    let mut program = [
        (load, 0, 0, 0),
        (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 2, 1),
        (load, 0, 0, 7),
        (libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        (load, 0, 0, 5),
        (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, count),
        (libc::BPF_RET | libc::BPF_A, 0, 0, 0),
    ]
    .map(|(code, jt, jf, k)| libc::sock_filter { code: code as u16, jt, jf, k });
    let len = program.len() as libc::c_ushort;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

/// Returns the kernel's estimate of the path MTU of a connected socket.
pub(crate) fn path_mtu(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mtu = int_option(fd, libc::IPPROTO_IP, libc::IP_MTU)?;
    usize::try_from(mtu).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Returns how many messages found the buffer of the socket full or had a wrong UDP checksum,
/// modulo 2^32 (since Linux 4.12).
pub(crate) fn dropped(fd: BorrowedFd<'_>) -> io::Result<u32> {
    /// `SK_MEMINFO_DROPS` and `SK_MEMINFO_VARS` of linux/sock_diag.h.
    const DROPS: usize = 8;
    const ALL: usize = 9;
    let mut values = [0_u32; ALL];
    let mut length = size::<[u32; ALL]>();
    // SAFETY: the kernel writes at most `length` bytes to `values`, whose size that is.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    Ok(values[DROPS])
}

/// Makes consecutive datagrams of one sender arrive as one message (`UDP_GRO`).
pub(crate) fn enable_gro(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: c_int = 1;
    set_option(fd, libc::SOL_UDP, libc::UDP_GRO, &on)
}

/// Receives the messages at hand without waiting. The buffer is divided into equal slots, one for
/// each entry of `received`.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    received: &mut [ReceivedBatch],
) -> io::Result<usize> {
    batch::receive::<libc::sockaddr_in, RECEIVE_CONTROL_LEN>(
        fd,
        buffer,
        received.len(),
        |index, message| {
            let batch::Received { length, header, name } = *message;
            let whole = header.msg_namelen == size::<libc::sockaddr_in>();
            let from = whole.then(|| {
                // SAFETY: the kernel says that it wrote all of it.
                address(unsafe { name.assume_init_ref() })
            });
            let segment = segment_size(header).filter(|size| (1..length).contains(size));
            received[index] =
                ReceivedBatch { length, segment: segment.unwrap_or(length), from: from.flatten() };
        },
    )
}

/// Returns the size of the datagrams in a received message.
fn segment_size(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has set the control buffer of the header and its length, so that the
    // first message in it, if there is one, lies within.
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    let is_size = (message.cmsg_level, message.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO);
    // SAFETY: computes a length from a length.
    let whole = message.cmsg_len >= unsafe { libc::CMSG_LEN(size::<c_int>()) } as _;
    if !is_size || !whole {
        return None;
    }
    // SAFETY: the message is long enough for the number, which need not be aligned.
    let size = unsafe { libc::CMSG_DATA(message).cast::<c_int>().read_unaligned() };
    usize::try_from(size).ok()
}

/// Sends batches to one address, from a local address if one is given, without waiting, and returns
/// how many were sent. An error is that of the first.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    from: Option<Ipv4Addr>,
    to: SocketAddrV4,
    bytes: &[u8],
    batches: &[GsoBatch],
) -> io::Result<usize> {
    let mut name = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: in_addr(*to.ip()),
        sin_zero: [0; 8],
    };
    let mut controls = [const { MaybeUninit::<Control<SEND_CONTROL_LEN>>::uninit() }; MAX_BATCH];
    let messages = batches.iter().map(|batch| &bytes[batch.bytes.clone()]);
    let complete = |index: usize, header: &mut libc::msghdr| {
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size::<libc::sockaddr_in>();
        let control = controls[index].write(Control([0; SEND_CONTROL_LEN]));
        let mut length = 0;
        if let Some(from) = from {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr(from),
                ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
            };
            length += put_control(&mut control.0, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        let batch = &batches[index];
        if batch.count > 1 {
            let place = &mut control.0[length..];
            length += put_control(place, libc::SOL_UDP, libc::UDP_SEGMENT, batch.segment);
        }
        if length > 0 {
            header.msg_control = control.0.as_mut_ptr().cast();
            // C libraries have different types for lengths.
            header.msg_controllen = length as _;
        }
    };
    // SAFETY: the name and the control messages are variables of this function, with the lengths
    // that the headers say.
    unsafe { batch::send(fd, messages, complete) }
}

/// Writes a control message to the start of `place` and returns the offset of the next one.
fn put_control<T: Copy>(place: &mut [u8], level: c_int, kind: c_int, data: T) -> usize {
    // SAFETY: compute lengths from a length.
    let (length, space) =
        unsafe { (libc::CMSG_LEN(size::<T>()), libc::CMSG_SPACE(size::<T>()) as usize) };
    let place = &mut place[..space];
    // SAFETY: zero is a value of each of its fields, among them padding that some C libraries have.
    let mut header: libc::cmsghdr = unsafe { zeroed() };
    header.cmsg_len = length as _;
    header.cmsg_level = level;
    header.cmsg_type = kind;
    let start: *mut libc::cmsghdr = place.as_mut_ptr().cast();
    // SAFETY: `place` has `CMSG_SPACE` bytes: room for the header and, where `CMSG_DATA` points,
    // the data, which are both written without an assumption of alignment.
    unsafe {
        start.write_unaligned(header);
        libc::CMSG_DATA(start).cast::<T>().write_unaligned(data);
    }
    space
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

fn address(name: &libc::sockaddr_in) -> Option<SocketAddr> {
    (c_int::from(name.sin_family) == libc::AF_INET).then(|| {
        let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
        SocketAddr::from((ip, u16::from_be(name.sin_port)))
    })
}
