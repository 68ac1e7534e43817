//! Who may ask a router by HTTP.
//!
//! ```text
//!  h1 (127.0.0.1:6782, 127.0.0.1:6784) ===== h2
//! ```

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use weave_testbed::{Namespace, RouterOptions, try_until};

use crate::{SOON, lab};

/// The first line of the answer; empty if there is none.
fn ask(from: &Namespace, address: &str, request: &str) -> Result<String> {
    let (address, request) = (address.parse()?, format!("{request}Connection: close\r\n\r\n"));
    from.enter(move || {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(600))
        else {
            return Ok("no connection".to_owned());
        };
        stream.set_read_timeout(Some(SOON))?;
        let mut answer = Vec::new();
        // Closed by the other side at any moment.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    })?
}

#[test]
fn web_pages_are_refused() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let flag = "--http-allowed-host=weave.example";
    let _router = host.router(RouterOptions::sleeve().argument(flag))?;
    for port in [6782, 6784] {
        let address = format!("127.0.0.1:{port}");
        for (request, expected) in [
            ("GET /status HTTP/1.1\r\nHost: 127.0.0.1:6784\r\n", "200"),
            ("GET /metrics HTTP/1.1\r\nHost: 192.0.2.9\r\n", "200"),
            ("GET /status HTTP/1.1\r\nHost: localhost\r\n", "200"),
            ("GET /status HTTP/1.1\r\nHost: h1:6784\r\n", "200"),
            ("GET /status HTTP/1.1\r\nHost: weave.example\r\n", "200"),
            ("GET /status HTTP/1.0\r\n", "200"),
            ("GET /status HTTP/1.1\r\nHost: evil.example\r\n", "403"),
            ("DELETE /peer/x HTTP/1.1\r\nHost: evil.example\r\n", "403"),
            (
                "DELETE /peer/x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n",
                "403",
            ),
            ("GET /report HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n", "403"),
        ] {
            let answer = ask(&host.namespace, &address, request)?;
            assert_eq!(answer.split(' ').nth(1), Some(expected), "{request}{answer}");
        }
    }
    lab.finish()
}

#[test]
fn loopback_addresses_are_for_this_host() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let router = h1.router(RouterOptions::sleeve().argument("--firewall=none"))?;
    // As kube-proxy may leave it, and somebody on the network makes use of it.
    h1.namespace.sysctl("ipv4/conf/all/route_localnet", "1")?;
    h1.namespace.exec("nft add table ip away")?;
    h1.namespace.exec("nft add chain ip away pre { type nat hook prerouting priority -100; }")?;
    for port in [6782, 6784] {
        let rule = format!("nft add rule ip away pre tcp dport 1{port} dnat to 127.0.0.1:{port}");
        h1.namespace.exec(&rule)?;
    }
    let request = "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n";
    for port in [6782, 6784] {
        let local = ask(&h1.namespace, &format!("127.0.0.1:{port}"), request)?;
        assert!(local.starts_with("HTTP/1.1 200"), "{local}");
        let address = format!("{}:1{port}", wire.a());
        // The connection is made, and closed at once.
        try_until("the way is there", SOON, || {
            anyhow::ensure!(ask(&h2.namespace, &address, request)? != "no connection");
            Ok(())
        })?;
        assert_eq!(ask(&h2.namespace, &address, request)?, "", "{port}");
    }
    router.wait_log(&format!("it comes from {}, not from this host", wire.b()), SOON)?;
    lab.finish()
}

#[test]
fn an_own_address_among_the_peers_is_no_failure() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    // As a list looks that is the same on all hosts.
    let options = RouterOptions::sleeve().peer(wire.a()).peer(wire.b());
    let (r1, r2) = (h1.router(options.clone())?, h2.router(options)?);
    for router in [&r1, &r2] {
        router.wait_established(1, SOON)?;
        try_until("the own address is known", SOON, || {
            let page = router.status("connections")?;
            anyhow::ensure!(page.contains("connected to self, retry: never"), "{page}");
            Ok(())
        })?;
        let metrics = router.get("/metrics")?.body;
        let failed = |line: &&str| {
            line.starts_with("weave_connections{") && !line.contains("\"established\"")
        };
        let others: Vec<_> = metrics.lines().filter(failed).collect();
        assert!(others.is_empty(), "{others:?}");
        let status = router.status("")?;
        assert!(status.contains("Connections: 2 (1 established, 1 to itself)"), "{status}");
    }
    lab.finish()
}
