//! What the kernel knows of a TCP connection: `TCP_INFO`.

use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Fields of `struct tcp_info`, in words from its start. The struct only ever grows at its end;
/// that of libc ends before the second one.
const RTT: usize = 17;
const MIN_RTT: usize = 37;

/// The shortest round trip of the last minutes (`net.ipv4.tcp_min_rtt_wlen`, by default 300 s).
/// The average (`tcpi_rtt`) is of no use: a connection that says little is acknowledged up to 40 ms
/// late. It stands in where a kernel before 4.6 knows no other.
pub(crate) fn round_trip(connection: BorrowedFd<'_>) -> Option<Duration> {
    let mut info = [0_u32; MIN_RTT + 1];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, whose size that is.
    let failed = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let known = |microseconds: &u32| ![0, u32::MAX].contains(microseconds);
    let of = |field: usize| info.get(field).copied().filter(known);
    let microseconds = of(MIN_RTT).or_else(|| of(RTT)).filter(|_| failed == 0)?;
    Some(Duration::from_micros(microseconds.into()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_connection_in_use_has_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        here.write_all(b"ping").unwrap();
        there.read_exact(&mut [0; 4]).unwrap();
        there.write_all(b"pong").unwrap();
        here.read_exact(&mut [0; 4]).unwrap();
        assert!(round_trip(here.as_fd()).is_some());
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(round_trip(other.as_fd()), None);
    }
}
