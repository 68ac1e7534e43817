//! A router without a host: its allocator, its store and its HTTP interface.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use weave_core::driver::{self, TokioClock};
use weave_core::mesh::{Config as MeshConfig, PeerName, Uid};
use weave_core::router::Router as Mesh;
use weave_core::switch::Switch;
use weave_host::{Cidr as HostCidr, HostAddress};
use weave_ipam::Config;
use weave_ipam::allocator::Origin;

use super::*;
use crate::http::{ConnectError, ExposeError, Unavailable, control_routes};
use crate::ipam::{IpamService, MAX_WAITING};
use crate::store::FileStore as Store;
use weave_api::Detail;
use weave_api::client::{Client, ClientError};
use weave_api::report::Report;
use weave_api::server::{Listener, Names, serve};

struct Alone {
    ipam: Ipam,
    _files: TempDir,
}

impl Control for Alone {
    async fn report(&self, _: Detail) -> Result<Report, Unavailable> {
        Ok(Report { ready: true, ..Report::default() })
    }

    async fn connect(&self, _: Vec<String>, _: bool) -> Result<(), ConnectError> {
        Ok(())
    }

    async fn forget(&self, _: Vec<String>) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn expose(&self, _: HostAddress) -> Result<(), ExposeError> {
        Ok(())
    }

    async fn hide(&self, _: HostCidr) -> Result<(), ExposeError> {
        Ok(())
    }

    fn exposed(&self) -> Vec<HostAddress> {
        Vec::new()
    }

    fn ipam(&self) -> Option<&Ipam> {
        Some(&self.ipam)
    }
}

/// A server on loopback; it stops with the returned sender.
async fn router(
    range: &str,
    origin: Origin,
) -> (Client, std::net::SocketAddr, watch::Sender<bool>) {
    let files = tempfile::tempdir().unwrap();
    let store = Store::open(files.path().join("weave")).unwrap();
    let universe: Subnet = range.parse().unwrap();
    let name = PeerName::from_u64(1).unwrap();
    let clock = TokioClock::start();
    let config = Config { name, uid: Uid(1), nickname: "host1".to_owned(), universe, origin };
    let service = {
        let (store, events): (Arc<dyn crate::store::Store>, _) =
            (Arc::new(store), crate::events::EventSender::new());
        IpamService::open(config, &store, Vec::new(), [1; 32], clock.now(), events).unwrap()
    };
    let switch = Arc::new(Switch::new(name, 1));
    let config = MeshConfig::new(name, Uid(1));
    let mut mesh = Mesh::new(config, switch, Vec::new(), [2; 32], clock.now());
    IpamService::join(&service, &mut mesh, clock.now());
    let listen = "127.0.0.1:0".parse().unwrap();
    let settings = driver::Settings { listen, ..driver::Settings::default() };
    let handle = driver::start(mesh, settings, clock).unwrap();
    let ipam = Ipam::new(service, handle, universe);
    ipam.ask_on(None);
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.tcp_address().unwrap();
    let (stop, stopped) = watch::channel(false);
    let routes = control_routes(Arc::new(Alone { ipam, _files: files }));
    tokio::spawn(async move { serve(listener, &Names::new([]), routes, stopped).await });
    (Client::new(address.to_string().parse().unwrap()), address, stop)
}

fn seed() -> Origin {
    Origin::Seed(vec![PeerName::from_u64(1).unwrap()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_allocator_adds_its_section_text_and_metrics() {
    let (client, _, _stop) = router("10.32.0.0/12", seed()).await;
    assert_eq!(client.post("/ip/a", &[]).await.unwrap(), "10.32.0.1/12");
    let report: Report =
        serde_json::from_str(&client.get("/report", "application/json").await.unwrap()).unwrap();
    let ipam = report.ipam.unwrap();
    assert_eq!((ipam.range.as_str(), ipam.active), ("10.32.0.0/12", 1));
    let page = client.get("/status", "*/*").await.unwrap();
    assert!(page.contains("        Service: ipam\n         Status: ready\n"), "{page}");
    let own_page = client.get("/status/ipam", "*/*").await.unwrap();
    assert!(own_page.contains("1048576 IPs (100.0% of total)"), "{own_page}");
    let metrics = client.get("/metrics", "*/*").await.unwrap();
    assert!(metrics.contains("\nweave_ips{state=\"local-used\"} 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_allocated_claimed_listed_and_released() {
    let (client, _, _stop) = router("10.32.0.0/12", seed()).await;
    assert_eq!(client.get("/ip", "*/*").await.unwrap(), "{\"owned\":null}\n");
    assert_eq!(client.get("/ring", "*/*").await.unwrap(), "");
    assert_eq!(client.get("/ipinfo/defaultsubnet", "*/*").await.unwrap(), "10.32.0.0/12");
    assert_eq!(client.get("/ipinfo/tracker", "*/*").await.unwrap(), "\n");
    for _ in 0..2 {
        // The same again.
        assert_eq!(client.post("/ip/a", &[]).await.unwrap(), "10.32.0.1/12");
    }
    assert_eq!(client.post("/ip/a/10.33.0.0/16", &[]).await.unwrap(), "10.33.0.1/16");
    assert_eq!(client.put("/ip/b/10.32.0.9/12").await.unwrap(), "");
    assert_eq!(client.get("/ip/a", "*/*").await.unwrap(), "10.32.0.1/12 10.33.0.1/16");
    assert_eq!(client.get("/ip/a/10.33.0.0/16", "*/*").await.unwrap(), "10.33.0.1/16");
    assert_eq!(client.get("/ip/nobody", "*/*").await.unwrap(), "");
    let list: serde_json::Value =
        serde_json::from_str(&client.get("/ip", "*/*").await.unwrap()).unwrap();
    assert_eq!(
        list["owned"][1],
        serde_json::json!({"containerid": "b", "addrs": ["10.32.0.9/12"], "presence": "unwatched"})
    );

    for (path, error) in [
        ("/ip/c/10.32.0.1/16", "not a subnet"),
        ("/ip/c/10.32.0.0/31", "too small to allocate from"),
        ("/ip/c/10.32.0.0/x", "10.32.0.0/x"),
        ("/ip/c/192.168.0.0/16", "out of bounds"),
        ("/ip/%00", "no name of a container"),
        (&format!("/ip/{}", "x".repeat(1025)), "no name of a container"),
    ] {
        let refused = client.post(path, &[]).await.unwrap_err();
        assert!(
            matches!(&refused, ClientError::Refused(text) if text.contains(error)),
            "{refused}"
        );
    }
    let taken = client.put("/ip/c/10.32.0.9/12").await.unwrap_err().to_string();
    assert!(
        taken.starts_with("Unable to claim: address 10.32.0.9/12 is already owned by b"),
        "{taken}"
    );
    let none = client.delete("/ip/c").await.unwrap_err().to_string();
    assert!(none.starts_with("Delete: no addresses for c"), "{none}");
    for (path, error) in
        [("/ip/a/10.32.0.9", "Unable to free: "), ("/ip/a/x", "\"x\" is not an IPv4")]
    {
        let refused = client.delete(path).await.unwrap_err().to_string();
        assert!(refused.starts_with(error), "{refused}");
    }
    client.delete("/ip/a/10.33.0.1").await.unwrap();
    assert_eq!(client.get("/ip/a", "*/*").await.unwrap(), "10.32.0.1/12");
    client.delete("/ip/a").await.unwrap();
    assert_eq!(client.delete("/peer/nobody").await.unwrap(), "0 IPs taken over from nobody\n");

    // Nobody gets anything from a router that leaves.
    client.delete("/peer").await.unwrap();
    assert_eq!(client.post("/ip/d", &[]).await.unwrap(), "cancelled");
}

async fn wait_for_address(address: std::net::SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("POST /ip/c{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Requests that wait for other peers leave room for those that need not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_a_code_beside_their_text() {
    let (client, _, _stop) = router("10.32.0.0/24", seed()).await;
    client.put("/ip/a/10.32.0.9/24").await.unwrap();
    for (method, path, status, code, text) in [
        ("DELETE", "/ip/b", 400, ErrorCode::NotHeld, "Delete: no addresses for b\n"),
        (
            "PUT",
            "/ip/b/10.32.0.9/24",
            400,
            ErrorCode::InUse,
            "Unable to claim: address 10.32.0.9/24",
        ),
        (
            "POST",
            "/ip/b/10.99.0.0/24",
            400,
            ErrorCode::OutOfRange,
            "range 10.99.0.0/24 out of bounds",
        ),
        ("PUT", "/ip/b/10.32.0/24", 400, ErrorCode::BadRequest, "\"10.32.0"),
        ("PUT", "/ring/c", 400, ErrorCode::NoConflict, "nothing of the ring of c"),
        ("GET", "/name", 404, ErrorCode::NoSuchPart, "this router runs without DNS\n"),
    ] {
        let answer = client.request(method, path).await.unwrap();
        assert_eq!((answer.status, answer.code), (status, Some(code)), "{method} {path}");
        assert!(answer.text.contains(text.trim_start_matches('"')), "{path}: {}", answer.text);
    }
    let answer = client.request("GET", "/ip/a").await.unwrap();
    assert_eq!((answer.status, answer.code), (200, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_keep_nobody_out() {
    // Nobody ever votes with this one.
    let (client, address, _stop) =
        router("10.32.0.0/12", Origin::Consensus { peers: Some(3) }).await;
    let mut waiting = Vec::new();
    for number in 0..MAX_WAITING {
        waiting.push(wait_for_address(address, number).await);
    }
    // All of them are there once one is too many. A question before that takes a place for a while,
    // and may keep out one of those that are to wait: another comes for it.
    let too_many = loop {
        let patient = client.clone().patient();
        let ask = tokio::time::timeout(Duration::from_millis(50), async {
            patient.get("/ring", "*/*").await
        });
        match ask.await {
            Ok(answer) => break answer.unwrap_err().to_string(),
            Err(_) => waiting.push(wait_for_address(address, waiting.len()).await),
        }
    };
    assert!(
        too_many.contains("256 requests wait for addresses already: try again later"),
        "{too_many}"
    );
    assert!(client.get("/status", "*/*").await.unwrap().contains("Service: router"));
    assert_eq!(client.put("/ip/outside/192.168.0.1/24").await.unwrap(), "");
    // Whoever hangs up makes room.
    drop(waiting);
    loop {
        let patient = client.clone().patient();
        let ask = tokio::time::timeout(Duration::from_millis(50), async {
            patient.get("/ring", "*/*").await
        });
        if ask.await.is_err() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_different_addresses() {
    let (client, _, _stop) = router("10.32.0.0/24", seed()).await;
    let mut asked = JoinSet::new();
    for number in 0..120 {
        let client = client.clone();
        asked.spawn(async move { client.post(&format!("/ip/c{number}"), &[]).await.unwrap() });
    }
    let all: std::collections::BTreeSet<String> = asked.join_all().await.into_iter().collect();
    assert_eq!(all.len(), 120);
}
