//! An API server for tests: nodes with a history that can be watched, one ConfigMap with versions,
//! and whatever else an API server does to those who rely on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::api::Api;

/// One server; clones are of the same one.
#[derive(Clone)]
pub(crate) struct Fake {
    address: SocketAddr,
    cluster: Arc<Mutex<Cluster>>,
}

#[derive(Default)]
struct Cluster {
    version: u64,
    nodes: BTreeMap<String, Value>,
    /// What happened to nodes, by version.
    history: Vec<(u64, String)>,
    /// What was before this is forgotten.
    oldest: u64,
    map: Option<Value>,
    watchers: Vec<mpsc::UnboundedSender<String>>,
    /// Requests as `GET /path?query`.
    requests: Vec<String>,
    patches: Vec<Value>,
    events: Vec<Value>,
    /// What every request is answered with instead.
    refusal: Option<(u16, &'static str)>,
    /// Writes of the ConfigMap that somebody else is quicker with, and what he does.
    rivals: Vec<Rival>,
}

type Rival = Box<dyn FnOnce(&mut Value) + Send>;

enum Answer {
    Json(u16, Value),
    Watch(Vec<String>, mpsc::UnboundedReceiver<String>),
    Nothing,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Self { address, cluster: Arc::default() };
        let server = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        fake
    }

    /// The real client, of this server.
    pub(crate) fn api(&self) -> Api {
        let url = format!("http://{}", self.address).parse().unwrap();
        Api::with(kube::Config::new(url)).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_node(&self, name: &str, address: &str) {
        let mut cluster = self.lock();
        cluster.version += 1;
        let kind = if cluster.nodes.contains_key(name) { "MODIFIED" } else { "ADDED" };
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "resourceVersion": cluster.version.to_string()},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        });
        cluster.nodes.insert(name.to_owned(), node.clone());
        cluster.happened(kind, &node);
    }

    /// Sets the condition of a node.
    pub(crate) fn set_condition(&self, name: &str, status: &str) {
        let mut cluster = self.lock();
        cluster.set_condition(name, status);
    }

    pub(crate) fn remove_node(&self, name: &str) {
        let mut cluster = self.lock();
        cluster.version += 1;
        let mut node = cluster.nodes.remove(name).unwrap();
        node["metadata"]["resourceVersion"] = cluster.version.to_string().into();
        cluster.happened("DELETED", &node);
    }

    /// Ends all watches.
    pub(crate) fn end_watches(&self) {
        self.lock().watchers.clear();
    }

    /// Forgets what happened before.
    pub(crate) fn compact(&self) {
        let mut cluster = self.lock();
        cluster.history.clear();
        cluster.version += 1;
        cluster.oldest = cluster.version;
    }

    /// Answers everything with this code, or with nothing at all for 0.
    pub(crate) fn refuse(&self, code: u16, message: &'static str) {
        let mut cluster = self.lock();
        cluster.refusal = Some((code, message));
        cluster.watchers.clear();
    }

    pub(crate) fn answer(&self) {
        self.lock().refusal = None;
    }

    /// Somebody changes the annotations right before the next write of ours.
    pub(crate) fn rival(&self, change: impl FnOnce(&mut Value) + Send + 'static) {
        self.lock().rivals.push(Box::new(change));
    }

    pub(crate) fn set_annotation(&self, key: &str, value: &str) {
        let mut cluster = self.lock();
        cluster.map_or_new()["metadata"]["annotations"][key] = value.into();
        cluster.map_changed();
    }

    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        let cluster = self.lock();
        let annotations = cluster.map.as_ref().map(|map| map["metadata"]["annotations"].clone());
        annotations.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    pub(crate) fn patches(&self) -> Vec<Value> {
        self.lock().patches.clone()
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.lock().events.clone()
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        if stream.read_line(&mut line).await.is_err() {
            return;
        }
        loop {
            let mut header = String::new();
            match stream.read_line(&mut header).await {
                Ok(0) | Err(_) => return,
                Ok(_) if header == "\r\n" => break,
                Ok(_) => {}
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = self.lock().handle(method, path, &body);
        match answer {
            Answer::Nothing => {}
            Answer::Json(code, value) => {
                let text = value.to_string();
                let head = format!(
                    "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n",
                    text.len()
                );
                drop(stream.write_all((head + &text).as_bytes()).await);
            }
            Answer::Watch(before, mut after) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
                drop(stream.write_all((head.to_owned() + &before.concat()).as_bytes()).await);
                while let Some(line) = after.recv().await {
                    if stream.write_all(line.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn status(code: u16, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": message, "reason": match code {
            404 => "NotFound", 409 => "Conflict", 410 => "Expired", 403 => "Forbidden", _ => "X"
        },
    })
}

impl Cluster {
    fn happened(&mut self, kind: &str, node: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": node}));
        self.history.push((self.version, line.clone()));
        self.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
    }

    fn set_condition(&mut self, name: &str, status: &str) {
        self.version += 1;
        let version = self.version.to_string();
        let node = self.nodes.get_mut(name).unwrap();
        node["metadata"]["resourceVersion"] = version.into();
        node["status"]["conditions"] = json!([{"type": "NetworkUnavailable", "status": status}]);
        let node = node.clone();
        self.happened("MODIFIED", &node);
    }

    fn map_or_new(&mut self) -> &mut Value {
        self.map.get_or_insert_with(|| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": "weave-net", "namespace": "kube-system", "uid": "uid-1",
                    "creationTimestamp": "2020-01-01T00:00:00Z", "annotations": {},
                },
            })
        })
    }

    fn map_changed(&mut self) {
        self.version += 1;
        let version = self.version.to_string();
        self.map_or_new()["metadata"]["resourceVersion"] = version.into();
    }

    fn handle(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        self.requests.push(format!("{method} {path}"));
        if let Some((code, message)) = self.refusal {
            return match code {
                0 => Answer::Nothing,
                code => Answer::Json(code, status(code, message)),
            };
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parameter =
            |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        match (method, path) {
            ("GET", "/api/v1/nodes") if parameter("watch") == Some("true") => {
                let from: u64 = parameter("resourceVersion").unwrap().parse().unwrap();
                if from < self.oldest {
                    return Answer::Json(410, status(410, "too old resource version"));
                }
                let before = self.history.iter().filter(|(version, _)| *version > from);
                let before = before.map(|(_, line)| line.clone()).collect();
                let (sender, receiver) = mpsc::unbounded_channel();
                self.watchers.push(sender);
                Answer::Watch(before, receiver)
            }
            // A page has two nodes.
            ("GET", "/api/v1/nodes") => {
                let after = parameter("continue").unwrap_or_default();
                let rest = self.nodes.range::<str, _>((
                    std::ops::Bound::Excluded(after),
                    std::ops::Bound::Unbounded,
                ));
                let items: Vec<_> = rest.clone().take(2).map(|(_, node)| node.clone()).collect();
                let last = rest.clone().nth(2).and_then(|_| rest.clone().nth(1));
                let next = last.map(|(name, _)| name.as_str()).unwrap_or_default();
                let version = self.version.to_string();
                let metadata = json!({"resourceVersion": version, "continue": next});
                Answer::Json(200, json!({"kind": "NodeList", "metadata": metadata, "items": items}))
            }
            ("PATCH", path) if path.ends_with("/status") => {
                self.patches.push(body.clone());
                let name = path.split('/').nth(4).unwrap().to_owned();
                self.set_condition(&name, "False");
                Answer::Json(200, self.nodes[&name].clone())
            }
            ("GET", path) if path.starts_with("/api/v1/nodes/") => {
                match self.nodes.get(path.rsplit('/').next().unwrap()) {
                    Some(node) => Answer::Json(200, node.clone()),
                    None => Answer::Json(404, status(404, "no such node")),
                }
            }
            ("GET", "/api/v1/namespaces/kube-system/configmaps/weave-net") => match &self.map {
                Some(map) => Answer::Json(200, map.clone()),
                None => Answer::Json(404, status(404, "no such map")),
            },
            ("POST", "/api/v1/namespaces/kube-system/configmaps") => {
                if self.map.is_some() {
                    return Answer::Json(409, status(409, "already exists"));
                }
                self.map_changed();
                Answer::Json(201, self.map.clone().unwrap())
            }
            ("PUT", "/api/v1/namespaces/kube-system/configmaps/weave-net") => {
                if !self.rivals.is_empty() {
                    let rival = self.rivals.remove(0);
                    rival(&mut self.map_or_new()["metadata"]["annotations"]);
                    self.map_changed();
                }
                let held = &self.map_or_new()["metadata"]["resourceVersion"];
                if body["metadata"]["resourceVersion"] != *held {
                    return Answer::Json(409, status(409, "the object has been modified"));
                }
                self.map = Some(body.clone());
                self.map_changed();
                Answer::Json(200, self.map.clone().unwrap())
            }
            ("POST", "/apis/events.k8s.io/v1/namespaces/default/events") => {
                self.events.push(body.clone());
                Answer::Json(201, body.clone())
            }
            _ => Answer::Json(404, status(404, path)),
        }
    }
}
