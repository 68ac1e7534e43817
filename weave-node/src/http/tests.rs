//! The interface as a client sees it, with a router that is only told of.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use weave_api::Address;
use weave_api::client::{Client, ClientError, with_query};
use weave_api::server::{Listener, Names, serve};

use super::*;
use weave_api::metric::Metric;
use weave_api::report::RouterStatus;

#[derive(Default)]
struct Told {
    report: Report,
    calls: Mutex<Vec<String>>,
    /// In how much detail reports were wanted.
    details: Mutex<Vec<Detail>>,
}

impl Control for Told {
    async fn report(&self, detail: Detail) -> Result<Report, Unavailable> {
        self.details.lock().unwrap().push(detail);
        Ok(self.report.clone())
    }

    async fn connect(&self, peers: Vec<String>, replace: bool) -> Result<(), ConnectError> {
        self.calls.lock().unwrap().push(format!("connect {peers:?} {replace}"));
        let bad: Vec<_> = peers.iter().filter(|peer| peer.contains('!')).cloned().collect();
        if bad.is_empty() { Ok(()) } else { Err(ConnectError::Targets(bad)) }
    }

    async fn forget(&self, peers: Vec<String>) -> Result<(), Unavailable> {
        self.calls.lock().unwrap().push(format!("forget {peers:?}"));
        Ok(())
    }

    async fn expose(&self, address: HostAddress) -> Result<(), ExposeError> {
        let (cidr, how) = (address.cidr, if address.masquerade { "masqueraded" } else { "as is" });
        self.calls.lock().unwrap().push(format!("expose {cidr} {how}"));
        if cidr.prefix() == 9 { Err(ExposeError::Failed("no".to_owned())) } else { Ok(()) }
    }

    async fn hide(&self, cidr: Cidr) -> Result<(), ExposeError> {
        self.calls.lock().unwrap().push(format!("hide {cidr}"));
        Ok(())
    }

    fn exposed(&self) -> Vec<HostAddress> {
        vec![HostAddress { cidr: "10.32.0.1/12".parse().unwrap(), masquerade: true }]
    }
}

/// A server on loopback; it stops with the returned sender.
async fn server(
    ready: bool,
    routes: fn(Arc<Told>) -> Router,
) -> (Arc<Told>, Client, std::net::SocketAddr, watch::Sender<bool>) {
    let told = Arc::new(Told {
        report: Report {
            ready,
            version: "1.0".to_owned(),
            router: RouterStatus {
                targets: vec!["a->b".to_owned()],
                metrics: vec![Metric::new("weave_peers", "gauge", "Peers.").value(&[], 3.0)],
                ..RouterStatus::default()
            },
            ..Report::default()
        },
        ..Told::default()
    });
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.tcp_address().unwrap();
    let (stop, stopped) = watch::channel(false);
    let routes = routes(Arc::clone(&told));
    tokio::spawn(async move { serve(listener, &Names::new([]), routes, stopped).await });
    (told, Client::new(address.to_string().parse().unwrap()), address, stop)
}

/// Sends bytes as they are, and returns all that comes back.
async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let request = request.to_owned();
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

#[tokio::test]
async fn pages_and_codes() {
    let (_, client, address, _stop) = server(true, control_routes).await;
    assert_eq!(client.get("/status/targets", "*/*").await.unwrap(), "a->b\n");
    assert!(client.get("/status", "*/*").await.unwrap().contains("        Version: 1.0 ("));
    for path in ["/status/dns", "/status/ipam", "/ip/abc", "/nonsense", "/"] {
        let error = client.get(path, "*/*").await.unwrap_err();
        assert!(matches!(error, ClientError::NotFound(_)), "{path}: {error}");
    }
    let answer =
        raw(address, "POST /status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let answer =
        raw(address, "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.to_lowercase().contains("content-type: text/plain; charset=utf-8"), "{answer}");
}

#[tokio::test]
async fn a_router_that_is_starting_says_so_with_the_page() {
    let (_, client, address, _stop) = server(false, status_routes).await;
    let answer =
        raw(address, "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(client.get("/status", "*/*").await.unwrap().contains("Service: router"));
}

#[tokio::test]
async fn reports() {
    let (_, client, _, _stop) = server(true, control_routes).await;
    for accept in ["application/json", "*/*"] {
        let json = client.get("/report", accept).await.unwrap();
        assert!(json.contains("\n        \"Targets\": [\n            \"a-\\u003eb\"\n"), "{json}");
    }
    let format = |template| with_query("/report", "format", template);
    let text = client.get(&format("{{.Version}} {{if .DNS}}dns{{end}}"), "*/*").await.unwrap();
    assert_eq!(text, "1.0 ");
    for (path, accept, expected) in [
        ("/report".to_owned(), "text/html", "say either"),
        (format("{{"), "*/*", "unclosed action"),
        (format("{{.Nonsense}}"), "*/*", "can't evaluate field Nonsense"),
        (format("a") + "&format=b", "*/*", "say either"),
    ] {
        let error = client.get(&path, accept).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
    }
}

#[tokio::test]
async fn only_the_report_lists_what_may_be_long() {
    let (told, client, _, _stop) = server(true, control_routes).await;
    for path in ["/status", "/status/connections", "/status/peers", "/metrics", "/report"] {
        client.get(path, "*/*").await.unwrap();
    }
    let details = told.details.lock().unwrap();
    let pages = [Detail::Pages; 3];
    assert_eq!(details[..3], pages);
    assert_eq!(details[3..], [Detail::Metrics, Detail::Everything]);
}

#[tokio::test]
async fn peers_are_connected_and_forgotten() {
    let (told, client, address, _stop) = server(true, control_routes).await;
    let fields = [("peer", "host1"), ("peer", "[fd00::1]:6783"), ("replace", "true")];
    client.post("/connect", &fields).await.unwrap();
    let error = client.post("/connect", &[("peer", "bad!"), ("peer", "good")]).await.unwrap_err();
    assert_eq!(error.to_string(), "bad!");
    client.post("/forget", &[("peer", "host1")]).await.unwrap();
    raw(
        address,
        "POST /connect?peer=query HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    )
    .await;
    let calls = told.calls.lock().unwrap();
    assert_eq!(
        *calls,
        [
            r#"connect ["host1", "[fd00::1]:6783"] true"#,
            r#"connect ["bad!", "good"] false"#,
            r#"forget ["host1"]"#,
            r#"connect ["query"] false"#,
        ]
    );
}

#[tokio::test]
async fn the_host_is_exposed_and_hidden() {
    let (told, client, _, _stop) = server(true, control_routes).await;
    client.post("/expose/10.32.0.1/12", &[]).await.unwrap();
    client.post("/expose/10.32.0.1/12?skipNAT=true", &[]).await.unwrap();
    client.delete("/expose/10.32.0.1/12").await.unwrap();
    assert_eq!(client.get("/expose", "*/*").await.unwrap(), "10.32.0.1/12\n");
    let calls = std::mem::take(&mut *told.calls.lock().unwrap());
    assert_eq!(
        calls,
        ["expose 10.32.0.1/12 masqueraded", "expose 10.32.0.1/12 as is", "hide 10.32.0.1/12"]
    );
    for path in ["1.2.3.4/x", "1.2.3/8", "fd00::1/64", "10.0.0.1/0", "10.32.0.1/12?skipNAT=maybe"] {
        let error = client.post(&format!("/expose/{path}"), &[]).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused(_)), "{path}: {error}");
    }
    assert_eq!(told.calls.lock().unwrap().len(), 0);
    assert_eq!(client.post("/expose/10.0.0.1/9", &[]).await.unwrap_err().to_string(), "no");
}

#[tokio::test]
async fn a_body_that_is_too_long_changes_nothing() {
    let (told, client, _, _stop) = server(true, control_routes).await;
    let long = "x".repeat(MAX_BODY);
    let error = client.post("/connect", &[("peer", &long)]).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    assert_eq!(told.calls.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn foreign_web_pages_get_nothing_by_any_method() {
    let (told, client, address, _stop) = server(true, control_routes).await;
    let requests = [
        "GET /report",
        "GET /metrics",
        "HEAD /status",
        "POST /forget?peer=host1",
        "PUT /ring",
        "DELETE /peer/host1",
        "DELETE /expose/10.32.0.1/12",
        "OPTIONS /connect",
        "GET /nothing",
    ];
    for request in requests {
        for headers in [
            "Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n",
            "Host: 127.0.0.1\r\nOrigin: null\r\n",
            "Host: evil.example:6784\r\n",
            "Host: evil.example:6784\r\nOrigin: http://evil.example:6784\r\n",
        ] {
            let request = format!("{request} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
            let answer = raw(address, &request).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{request}{answer}");
        }
    }
    assert_eq!(told.calls.lock().unwrap().len(), 0);
    assert_eq!(told.details.lock().unwrap().len(), 0);
    // Programs are served as before, also those of version 1.0.
    client.get("/status", "*/*").await.unwrap();
    let answer = raw(address, "GET /status HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}

/// The time of the test jumps ahead whenever nothing else can be done.
#[tokio::test(start_paused = true)]
async fn slow_clients_are_cut_off() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let (_, _, address, _stop) = server(true, control_routes).await;
    let form = "POST /connect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\npeer=";
    for (sent, answer) in [("", ""), ("GET /status HT", ""), (form, "HTTP/1.1 408 ")] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).await.unwrap();
        let wrong = answer.is_empty() && !received.is_empty();
        assert!(received.starts_with(answer) && !wrong, "{sent:?} was answered with {received:?}");
    }
}

#[tokio::test]
async fn only_the_control_address_changes_things() {
    let (told, client, _, _stop) = server(true, status_routes).await;
    assert!(client.post("/connect", &[("peer", "host1")]).await.is_err());
    let (_, metrics_only, _, _stop) = server(true, metrics_routes).await;
    assert!(metrics_only.get("/metrics", "*/*").await.unwrap().contains("weave_peers 3"));
    assert!(metrics_only.get("/status", "*/*").await.is_err());
    assert_eq!(told.calls.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_unix_socket_is_replaced_if_nobody_listens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weave.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address: Address = path.to_str().unwrap().parse().unwrap();
    let listener = Listener::bind(&address).await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    let routes = control_routes(Arc::new(Told::default()));
    tokio::spawn(async move { serve(listener, &Names::new([]), routes, stopped).await });
    // Whatever the mask of the process is, and nothing else is left.
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(Client::new(address.clone()).get("/status/peers", "*/*").await.unwrap(), "");

    let error = Listener::bind(&address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = Listener::bind(&Address::Unix(file.clone())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[tokio::test]
async fn without_a_router_the_client_says_what_to_do() {
    let (_, client, _, stop) = server(true, control_routes).await;
    stop.send(true).unwrap();
    // The listener goes once its task ran.
    let mut error = None;
    while error.is_none() {
        tokio::task::yield_now().await;
        error = client.get("/status", "*/*").await.err();
    }
    let text = error.unwrap().to_string();
    assert!(text.contains("Have you launched it?") || text.contains("no proper answer"), "{text}");
}
