//! UDP datagrams by the batch (udp(7), ip(7), recvmmsg(2), sendmmsg(2)).

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, c_uint};

use super::{check, int_option, set_option, size};

/// Most datagrams in one call.
pub(crate) const MAX_BATCH: usize = 64;

/// Room for one control message with the source address.
const CONTROL_LEN: usize = {
    // SAFETY: computes a length from a length.
    unsafe { libc::CMSG_SPACE(size::<libc::in_pktinfo>()) as usize }
};

/// A control message is aligned like its header.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Whether the kernel sets "don't fragment".
pub(crate) fn set_dont_fragment(fd: BorrowedFd<'_>, dont_fragment: bool) -> io::Result<()> {
    let mode = if dont_fragment { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
    set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &mode)
}

/// Lets the first socket that was bound to the address of the group receive everything.
pub(crate) fn receive_with_the_first(fd: BorrowedFd<'_>) -> io::Result<()> {
    // A classic BPF program that returns 0, the index of a socket in the group.
    let mut program =
        [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

/// What the kernel thinks the MTU of the path of a connected socket is.
pub(crate) fn path_mtu(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mtu = int_option(fd, libc::IPPROTO_IP, libc::IP_MTU)?;
    usize::try_from(mtu).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Receives as many datagrams as there are and fit: the buffer is cut into equal slots, one for
/// each entry of `received`, which is set to the length and the sender. A sender of another
/// family is none. Never waits.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    received: &mut [(usize, Option<SocketAddr>)],
) -> io::Result<usize> {
    let count = received.len().min(MAX_BATCH);
    let slot = buffer.len() / count.max(1);
    let mut names = [const { MaybeUninit::<libc::sockaddr_in>::uninit() }; MAX_BATCH];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_BATCH];
    let slots = buffer.chunks_exact_mut(slot);
    for (((header, vector), name), slot) in
        headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(slots).take(count)
    {
        let vector =
            vector.write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() });
        // SAFETY: zero is a value of each of its fields.
        let header = header.write(unsafe { zeroed() });
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = name.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = size::<libc::sockaddr_in>();
    }
    // SAFETY: the first `count` headers are initialised; each points to one vector over one slot
    // of the buffer and to one name, all of which live until the call is over.
    let taken = check(unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as c_uint,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    })?;
    let taken = usize::try_from(taken).expect("checked not to be negative");
    for ((entry, header), name) in received.iter_mut().zip(&headers).zip(&names).take(taken) {
        // SAFETY: initialised above, as far as the kernel got.
        let header = unsafe { header.assume_init_ref() };
        let length = header.msg_len as usize;
        let whole = header.msg_hdr.msg_namelen == size::<libc::sockaddr_in>();
        let from = whole.then(|| {
            // SAFETY: the kernel says that it wrote all of it.
            address(unsafe { name.assume_init_ref() })
        });
        *entry = (length.min(slot), from.flatten());
    }
    Ok(taken)
}

/// Sends datagrams to one address, from a local address if one is given. Returns how many went
/// out; the error is that of the first. Never waits.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    from: Option<Ipv4Addr>,
    to: SocketAddrV4,
    bytes: &[u8],
    datagrams: &[Range<usize>],
) -> io::Result<usize> {
    let mut name = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: in_addr(*to.ip()),
        sin_zero: [0; 8],
    };
    let mut control = from.map(source_control);
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_BATCH];
    let count = datagrams.len().min(MAX_BATCH);
    for ((header, vector), range) in headers.iter_mut().zip(&mut vectors).zip(datagrams) {
        let datagram = &bytes[range.clone()];
        let vector = vector.write(libc::iovec {
            iov_base: datagram.as_ptr().cast_mut().cast(),
            iov_len: datagram.len(),
        });
        // SAFETY: zero is a value of each of its fields.
        let header = header.write(unsafe { zeroed() });
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut name).cast();
        header.msg_hdr.msg_namelen = size::<libc::sockaddr_in>();
        if let Some(control) = &mut control {
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN;
        }
    }
    // SAFETY: the first `count` headers are initialised; what they point to lives until the call
    // is over, and the kernel only reads it.
    let sent = check(unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as c_uint,
            libc::MSG_DONTWAIT,
        )
    })?;
    Ok(usize::try_from(sent).expect("checked not to be negative"))
}

/// An `IP_PKTINFO` message with this source address (ip(7)).
fn source_control(from: Ipv4Addr) -> Control {
    let mut control = Control([0; CONTROL_LEN]);
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: in_addr(from),
        ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
    };
    // SAFETY: computes a length from a length.
    let length = unsafe { libc::CMSG_LEN(size::<libc::in_pktinfo>()) };
    let header = libc::cmsghdr {
        cmsg_len: length as usize,
        cmsg_level: libc::IPPROTO_IP,
        cmsg_type: libc::IP_PKTINFO,
    };
    let start: *mut libc::cmsghdr = control.0.as_mut_ptr().cast();
    // SAFETY: `control` is aligned for the header and has `CMSG_SPACE` bytes: room for the header
    // and, where `CMSG_DATA` points, the data, which is written without an assumption of
    // alignment.
    unsafe {
        start.write(header);
        libc::CMSG_DATA(start).cast::<libc::in_pktinfo>().write_unaligned(info);
    }
    control
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
