//! Opening connections and looking up names: what has to be waited for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use crate::mesh::ConnectionId;

/// How long to wait for the answer about a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of one name that are passed on: more than any sane name has.
const MAX_ADDRESSES: usize = 32;

/// What a task of this module found.
pub(super) enum Found {
    Dialled { id: ConnectionId, result: Result<TcpStream, String> },
    Resolved { target: String, result: Result<Vec<IpAddr>, String> },
}

pub(super) async fn dial(
    id: ConnectionId,
    from: IpAddr,
    to: SocketAddr,
    patience: Duration,
) -> Found {
    let result = match timeout(patience, connect(from, to)).await {
        Ok(result) => result.map_err(|error| error.to_string()),
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

pub(super) async fn resolve(target: String, host: String) -> Found {
    let result = match timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), 0))).await {
        Ok(Ok(addresses)) => {
            Ok(addresses.take(MAX_ADDRESSES).map(|address| address.ip()).collect())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs())),
    };
    Found::Resolved { target, result }
}
