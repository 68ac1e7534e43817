//! Opening connections and looking up names: what has to be waited for.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use crate::mesh::ConnectionId;

/// How long to wait for the answer about a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of one name that are passed on: more than any sane name has.
const MAX_ADDRESSES: usize = 32;

/// A connection that is open.
pub(super) struct Opened {
    pub(super) stream: TcpStream,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// What a task of this module found.
pub(super) enum Found {
    Dialled { id: ConnectionId, result: Result<Opened, String> },
    Resolved { target: String, result: Result<Vec<IpAddr>, String> },
}

pub(super) async fn dial(
    id: ConnectionId,
    from: IpAddr,
    to: SocketAddr,
    patience: Duration,
) -> Found {
    let result = match timeout(patience, connect(from, to)).await {
        Ok(result) => result.and_then(opened).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
    };
    Found::Dialled { id, result }
}

async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !from.is_unspecified() && from.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// The connection may be over by now. The kernel keeps why, until it is asked; that it has no other
/// end any more, which is what a question for its addresses comes to, tells nobody anything.
fn opened(stream: TcpStream) -> io::Result<Opened> {
    match addresses(&stream) {
        Ok((local, remote)) => Ok(Opened { stream, local, remote }),
        Err(error) if error.kind() == ErrorKind::NotConnected => {
            Err(stream.take_error()?.unwrap_or_else(|| {
                io::Error::new(ErrorKind::ConnectionReset, "the connection ended as it opened")
            }))
        }
        Err(error) => Err(error),
    }
}

/// Both ends. A socket that listens on IPv6 takes IPv4 too, and shows it in an IPv6 disguise that
/// peers would not understand.
pub(super) fn addresses(stream: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Ok((plain(stream.local_addr()?), plain(stream.peer_addr()?)))
}

/// Looks up a host for a router that listens on `listen`.
pub(super) async fn resolve(target: String, host: String, listen: IpAddr) -> Found {
    let result = match timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), 0))).await {
        Ok(Ok(addresses)) => usable(addresses.map(|address| address.ip()), listen),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs())),
    };
    Found::Resolved { target, result }
}

/// Returns the addresses that a router can connect to. One that listens on IPv4 runs its links over
/// IPv4, too: a connection by IPv6 would carry no frames.
fn usable(addresses: impl Iterator<Item = IpAddr>, listen: IpAddr) -> Result<Vec<IpAddr>, String> {
    let (usable, others): (Vec<_>, Vec<_>) =
        addresses.partition(|address| listen.is_ipv6() || address.is_ipv4());
    match others.first() {
        Some(other) if usable.is_empty() => Err(format!(
            "it has IPv6 addresses only ({other}), and the router runs over IPv4: give the peer an \
             IPv4 address"
        )),
        _ => Ok(usable.into_iter().take(MAX_ADDRESSES).collect()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::Interest;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_over_already_says_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (other, _) = listener.accept().await.unwrap();
        other.set_zero_linger().unwrap();
        drop(other);
        stream.ready(Interest::READABLE).await.unwrap();
        let Err(error) = opened(stream) else { panic!("it is open") };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }

    #[tokio::test]
    async fn a_refusal_is_told_as_one() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let id = ConnectionId(1);
        let found = dial(id, [127, 0, 0, 1].into(), free, Duration::from_secs(60)).await;
        let Found::Dialled { result: Err(error), .. } = found else { panic!("not refused") };
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn a_router_over_ipv4_uses_no_ipv6_addresses() {
        let [four, six]: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let [v4, v6]: [IpAddr; 2] = ["0.0.0.0", "::"].map(|ip| ip.parse().unwrap());
        assert_eq!(usable([six, four].into_iter(), v4), Ok(vec![four]));
        assert_eq!(usable([six, four].into_iter(), v6), Ok(vec![six, four]));
        assert_eq!(usable([six].into_iter(), v6), Ok(vec![six]));
        assert_eq!(usable([].into_iter(), v4), Ok(vec![]));
        let error = usable([six].into_iter(), v4).unwrap_err();
        assert!(error.contains("IPv6 addresses only (2001:db8::1)"), "{error}");
        assert_eq!(usable(std::iter::repeat_n(four, 99), v4).unwrap().len(), MAX_ADDRESSES);
    }
}
