//! Who may ask: no page of a foreign web site, and nobody elsewhere who routes packets to a
//! loopback address.
//!
//! A web page may send requests to any address its reader can reach, under the name it was loaded
//! by: a name that its owner can have resolve to 127.0.0.1 a moment later (DNS rebinding). What it
//! cannot do is to choose the `Host` header. So that has to be an address, or a name that is known
//! here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// How often it is worth a line in the log that somebody was refused.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// What our own programs call the router.
const OUR_NAME: &str = "weave";

/// The names by which a router may be asked.
#[derive(Clone, Debug)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// These, `localhost` and all addresses.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().chain(["localhost", OUR_NAME]).map(folded).collect())
    }

    /// Whether this may be in a `Host` header.
    fn include(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        name.parse::<IpAddr>().is_ok() || self.0.contains(&folded(name))
    }

    /// Why a request is refused.
    fn objection(&self, uri_host: Option<&str>, headers: &HeaderMap) -> Option<&'static str> {
        let all = |name: HeaderName| headers.get_all(name).iter().map(|value| value.to_str());
        // Only requests of version 1.0 have none, and those of no browser.
        let mut hosts = all(header::HOST).chain(uri_host.map(Ok));
        if !hosts.all(|host| host.is_ok_and(|host| self.include(host))) {
            return Some(
                "this name is not one of the router: use an address, or see --http-allowed-host\n",
            );
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let own = |origin: &str| origin.strip_prefix("http://").is_some_and(|o| Some(o) == host);
        if !all(header::ORIGIN).all(|origin| origin.is_ok_and(own)) {
            return Some("not for web pages\n");
        }
        None
    }
}

/// The name in a `Host` header; none if it is malformed.
fn without_port(host: &str) -> Option<&str> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return (fits && address.parse::<Ipv6Addr>().is_ok()).then_some(address);
    }
    match host.split_once(':') {
        Some((name, port)) => is_port(port).then_some(name),
        None => Some(host),
    }
}

fn folded(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Refuses what a web page sends. `names` are none on a Unix socket, which no browser reaches.
pub(super) async fn refuse_web_pages(
    State(names): State<Option<Arc<Names>>>,
    request: Request,
    next: Next,
) -> Response {
    let objection =
        names.and_then(|names| names.objection(request.uri().host(), request.headers()));
    match objection {
        None => next.run(request).await,
        Some(objection) => {
            tracing::debug!("[http] {} {} refused", request.method(), request.uri());
            (StatusCode::FORBIDDEN, objection).into_response()
        }
    }
}

/// Whether a connection to a loopback address comes from there: from elsewhere it comes when
/// somebody routes packets for 127.0.0.1 to this host, and `route_localnet` is set on it.
pub(super) fn is_plausible(local: IpAddr, remote: IpAddr) -> bool {
    !local.to_canonical().is_loopback() || remote.to_canonical().is_loopback()
}

/// Says so, but not each time.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    pub(super) fn note(&self, local: SocketAddr, remote: SocketAddr) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL) {
            *last = Some(now);
            tracing::warn!(
                "HTTP connection to {local} refused: it comes from {}, not from this host",
                remote.ip()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(["Node-1", "node-1.example.com"])
    }

    #[test]
    fn addresses_and_own_names_are_hosts() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:6784",
            "192.0.2.7:6782",
            "[::1]:6784",
            "[fd00::1]",
            "localhost",
            "LOCALHOST:6784",
            "node-1:6782",
            "NODE-1",
            "node-1.example.com.",
            "weave",
        ] {
            assert!(names().include(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:6784",
            "127.0.0.1.evil.example",
            "node-1.evil.example",
            "localhost.evil.example",
            "[::1",
            "::1",
            "[::1]x",
            "[evil]",
            "127.0.0.1:evil",
            "a b",
            "127.0.0.1@evil.example",
        ] {
            assert!(!names().include(host), "{host}");
        }
    }

    #[test]
    fn web_pages_are_known_by_their_origin() {
        let objection = |headers: &[(HeaderName, &'static str)], uri| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name, value.parse().unwrap());
            }
            names().objection(uri, &map)
        };
        let host = (header::HOST, "127.0.0.1:6784");
        let origin = |value| (header::ORIGIN, value);
        assert_eq!(objection(&[], None), None);
        assert_eq!(objection(std::slice::from_ref(&host), None), None);
        assert_eq!(objection(&[host.clone(), origin("http://127.0.0.1:6784")], None), None);
        for bad in ["http://evil.example", "null", "https://127.0.0.1:6784", "http://127.0.0.1", ""]
        {
            assert!(objection(&[host.clone(), origin(bad)], None).is_some(), "{bad}");
        }
        let twice = [host.clone(), origin("http://127.0.0.1:6784"), origin("http://evil.example")];
        assert!(objection(&twice, None).is_some());
        assert!(objection(&[host.clone(), (header::HOST, "evil.example")], None).is_some());
        assert!(objection(&[host], Some("evil.example")).is_some(), "the form for proxies");
    }

    #[test]
    fn loopback_is_for_loopback() {
        let plausible = |local: &str, remote: &str| {
            is_plausible(local.parse().unwrap(), remote.parse().unwrap())
        };
        assert!(plausible("127.0.0.1", "127.0.0.1") && plausible("127.0.0.1", "127.0.0.9"));
        assert!(plausible("::1", "::1") && plausible("192.0.2.1", "192.0.2.2"));
        assert!(plausible("::ffff:127.0.0.1", "::ffff:127.0.0.1"));
        assert!(!plausible("127.0.0.1", "192.0.2.2") && !plausible("::1", "fd00::2"));
        assert!(!plausible("::ffff:127.0.0.1", "::ffff:192.0.2.2"));
    }
}
