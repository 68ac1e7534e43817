//! TAP devices (Documentation/networking/tuntap.rst of the kernel).

use std::ffi::c_char;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::check;

/// The work that a device leaves to this side. The kernel does beforehand what is not listed, which
/// only costs speed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Transport checksums are unfinished.
    pub checksum: bool,
    /// TCP segments arrive as super-frames.
    pub tcp: bool,
    /// UDP datagrams arrive as super-frames.
    pub udp: bool,
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("checksum", self.checksum), ("tcp", self.tcp), ("udp", self.udp)];
        let mut names = all.into_iter().filter_map(|(name, there)| there.then_some(name));
        f.write_str(names.next().unwrap_or("none"))?;
        names.try_for_each(|name| write!(f, " {name}"))
    }
}

/// How many times a device can be opened, which is fixed when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queues {
    One,
    Several,
}

/// Opens a queue of the TAP device of this name, which is created if it does not exist. Each frame
/// is preceded by a virtio-net header of ten bytes.
pub(crate) fn open(name: &str, queues: Queues) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: zero is a value of each of its fields.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // The last byte stays zero and ends the name.
    let room = request.ifr_name.len() - 1;
    if name.is_empty() || name.len() > room || name.bytes().any(|b| b == 0 || b == b'%') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a valid device name"));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as c_char;
    }
    let several = match queues {
        Queues::One => 0,
        Queues::Several => libc::IFF_MULTI_QUEUE,
    };
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | several) as libc::c_short;
    // SAFETY: the request takes a pointer to an ifreq, which it reads and writes.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(file)
}

/// Returns how many frames found the queue of the device full, if the network namespace of this
/// thread has such a device.
pub(crate) fn overruns(name: &str) -> io::Result<Option<u64>> {
    /// The name is followed by eight receive counters, then by bytes, packets and errors sent.
    const DROPPED: usize = 8 + 3;
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let mut lines = devices.lines().filter_map(|line| line.trim_start().split_once(':'));
    let numbers = lines.find(|(device, _)| *device == name).map(|(_, numbers)| numbers);
    let dropped = numbers.and_then(|numbers| numbers.split_whitespace().nth(DROPPED));
    Ok(dropped.and_then(|number| number.parse().ok()))
}

/// Tells the kernel which work it may leave to this side.
pub(crate) fn set_offloads(fd: BorrowedFd<'_>, offloads: Offloads) -> io::Result<()> {
    let Offloads { checksum, tcp, udp } = offloads;
    let flags = [
        (checksum, libc::TUN_F_CSUM),
        (tcp, libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN),
        (udp, libc::TUN_F_USO4 | libc::TUN_F_USO6),
    ];
    let flags = flags.iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, flag)| all | flag);
    // SAFETY: the request takes flags by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })?;
    Ok(())
}
