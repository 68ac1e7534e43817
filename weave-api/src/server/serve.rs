//! Listening and answering, without letting a slow or greedy client hold anything up.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::guard::{self, Names, Refusals};
use crate::Address;

/// Connections at one time; more wait in the kernel.
pub const MAX_CONNECTIONS: usize = 512;
/// From one line in the log about connections that cannot be accepted to the next.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// How long to leave the listener alone after an error, at first and at most: mostly there are no
/// file descriptors, and others need the time to close theirs.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// From the first to the last byte of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For reading a request's body and making the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// After which a connection is closed, whatever it does: nobody holds one for ever by reading
/// slowly. Clients connect again.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);

/// Something that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket, with its file, which goes when this does.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Its file.
        _file: SocketFile,
    },
}

/// For this user alone, whatever the mask of the process is: there is no other authentication.
const SOCKET_MODE: u32 = 0o600;
/// Where a socket gets its mode before others can find it.
const PRIVATE_MODE: u32 = 0o700;

/// The file of a Unix socket, removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone, and the next start removes it anyway.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens on an address. The file of a Unix socket that nobody listens on is replaced.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                Ok(Self::Tcp(TcpListener::bind((host, *port)).await?))
            }
            Address::Unix(path) => {
                check_place(path)?;
                let listener = bind_private(path)?;
                Ok(Self::Unix { listener, _file: SocketFile(path.clone()) })
            }
        }
    }

    /// Where it listens, once the kernel chose a port.
    pub fn tcp_address(&self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }
}

/// Whether a socket may be put there: where nothing is, or a socket that nobody listens on.
fn check_place(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"))
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            Err(io::ErrorKind::AddrInUse.into())
        }
        Ok(_) => Ok(()),
    }
}

/// Binds a socket that nobody else can connect to at any moment: it gets its mode in a folder of
/// its own, and then its name, in place of what is there. The mask of the process is left alone, as
/// other threads make files.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Short: the path of a socket has 107 bytes.
    let private = folder.join(format!(".{}", std::process::id()));
    let bare = private.join("s");
    // Left by another process of this number.
    let _ = fs::remove_file(&bare);
    let _ = fs::remove_dir(&private);
    DirBuilder::new().mode(PRIVATE_MODE).create(&private)?;
    let bound = UnixListener::bind(&bare).and_then(|listener| {
        fs::set_permissions(&bare, fs::Permissions::from_mode(SOCKET_MODE))?;
        fs::rename(&bare, path)?;
        Ok(listener)
    });
    let _ = fs::remove_file(&bare);
    let _ = fs::remove_dir(&private);
    bound
}

/// Answers until `stop` turns true, then lets the requests that are under way finish. `names` are
/// those by which it may be asked over TCP.
pub async fn serve(
    listener: Listener,
    names: &Names,
    routes: Router,
    mut stop: watch::Receiver<bool>,
) {
    let names = match &listener {
        Listener::Tcp(_) => Some(Arc::new(names.clone())),
        Listener::Unix { .. } => None,
    };
    let routes =
        routes.layer(from_fn(in_time)).layer(from_fn_with_state(names, guard::refuse_web_pages));
    let refusals = Refusals::default();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut troubles = Troubles::default();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            Ok::<_, io::Error>((accept(&listener).await?, permit.map_err(io::Error::other)?))
        };
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = next => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => {
                troubles.pause = None;
                accepted
            }
            Err(error) => {
                if let Some(failures) = troubles.failed(Instant::now()) {
                    tracing::warn!(%error, failures, "HTTP connections not accepted");
                }
                sleep(troubles.next_pause()).await;
                continue;
            }
        };
        if let Stream::Tcp { local, remote, .. } = &stream
            && !guard::is_plausible(local.ip(), remote.ip())
        {
            refusals.note(*local, *remote);
            continue;
        }
        let (routes, stop) = (routes.clone(), stop.clone());
        tokio::spawn(async move {
            match stream {
                Stream::Tcp { stream, .. } => answer(TokioIo::new(stream), routes, stop).await,
                Stream::Unix(stream) => answer(TokioIo::new(stream), routes, stop).await,
            }
            drop(permit);
        });
    }
    // All permits are free once all connections are done.
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    let _ = timeout(Duration::from_secs(2), permits.acquire_many(all)).await;
}

/// Connections that could not be accepted.
#[derive(Default)]
struct Troubles {
    told_at: Option<Instant>,
    untold: u64,
    pause: Option<Duration>,
}

impl Troubles {
    /// How many there were since they were told, if it is time to tell.
    fn failed(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|at| now.duration_since(at) < COMPLAINT_INTERVAL) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause.map_or(MIN_PAUSE, |pause| (pause * 2).min(MAX_PAUSE));
        self.pause = Some(pause);
        pause
    }
}

enum Stream {
    Tcp { stream: tokio::net::TcpStream, local: SocketAddr, remote: SocketAddr },
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<Stream> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, remote) = listener.accept().await?;
            Ok(Stream::Tcp { local: stream.local_addr()?, remote, stream })
        }
        Listener::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender gone means stopped, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn answer(
    stream: impl Read + Write + Unpin + Send + 'static,
    routes: Router,
    mut stop: watch::Receiver<bool>,
) {
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(64 * 1024)
            .serve_connection(stream, TowerToHyperService::new(routes))
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = sleep(CONNECTION_LIFETIME) => return,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// The time also covers the body: it is read while the answer is made.
async fn in_time(request: Request, next: Next) -> Response {
    tracing::debug!("[http] {} {}", request.method(), request.uri());
    // Addresses are waited for as long as it takes; the lifetime of the connection is a limit.
    if ["/ip/", "/ring"].iter().any(|waits| request.uri().path().starts_with(waits)) {
        return next.run(request).await;
    }
    match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "request took too long\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_all_the_time_is_told_once_a_minute() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        let mut now = start;
        let mut told = Vec::new();
        while now.duration_since(start) < Duration::from_secs(125) {
            told.extend(troubles.failed(now));
            now += troubles.next_pause();
        }
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[1] < 70, "it was tried about once a second: {told:?}");
    }
}
