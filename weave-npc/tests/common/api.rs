//! An API server: lists and watches of the objects that a test gives it, and troubles.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

/// What the server has, and what happened to it.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<Store>>,
    /// Its number grows with each change, and each trouble.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Store {
    objects: BTreeMap<(String, String), Value>,
    /// Version, path, and what a watch tells.
    events: Vec<(u64, String, Value)>,
    version: u64,
    /// A watch from an earlier version is refused.
    oldest: u64,
    /// Watches that began before end.
    generation: u64,
    /// Nothing is answered.
    away: bool,
}

impl Api {
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }

    fn with(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.state.lock().unwrap());
        self.changed.send_modify(|number| *number += 1);
    }

    /// Adds an object, or changes it.
    pub fn set(&self, path: &str, mut object: Value) {
        self.with(|store| {
            store.version += 1;
            object["metadata"]["resourceVersion"] = json!(store.version.to_string());
            let old = store.objects.insert((path.to_owned(), name(&object)), object.clone());
            let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
            let event = json!({"type": kind, "object": object});
            store.events.push((store.version, path.to_owned(), event));
        });
    }

    pub fn delete(&self, path: &str, object: &Value) {
        self.with(|store| {
            store.version += 1;
            let mut object = store.objects.remove(&(path.to_owned(), name(object))).unwrap();
            object["metadata"]["resourceVersion"] = json!(store.version.to_string());
            let event = json!({"type": "DELETED", "object": object});
            store.events.push((store.version, path.to_owned(), event));
        });
    }

    /// Ends all watches. Whether their versions are forgotten is what `forget` says.
    pub fn end_watches(&self, forget: bool) {
        self.with(|store| {
            store.generation += 1;
            if forget {
                store.oldest = store.version + 1;
                store.version += 1;
                store.events.clear();
            }
        });
    }

    /// Answers nothing, or does again.
    pub fn be_away(&self, away: bool) {
        self.with(|store| {
            store.away = away;
            store.generation += 1;
        });
    }

    /// Serves it on loopback, and returns where.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }
}

fn name(object: &Value) -> String {
    format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"])
}

async fn answer(
    State(api): State<Api>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let path = uri.path().to_owned();
    let store = api.state.lock().unwrap();
    if store.away {
        return (StatusCode::SERVICE_UNAVAILABLE, "away").into_response();
    }
    if !query.contains_key("watch") {
        let own = store.objects.iter().filter(|((own, _), _)| *own == path);
        let items: Vec<_> = own.map(|(_, object)| object.clone()).collect();
        let version = store.version.to_string();
        let list = json!({"metadata": {"resourceVersion": version}, "items": items});
        return list.to_string().into_response();
    }
    let from: u64 = query["resourceVersion"].parse().unwrap();
    let generation = store.generation;
    if from < store.oldest {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
            "reason": "Expired", "message": "too old resource version", "metadata": {},
        });
        return (StatusCode::GONE, status.to_string()).into_response();
    }
    drop(store);
    let changed = api.changed.subscribe();
    let events = stream::unfold((api, changed, from), move |(api, mut changed, from)| {
        let path = path.clone();
        async move {
            loop {
                let next = {
                    let store = api.state.lock().unwrap();
                    if store.generation != generation {
                        return None;
                    }
                    let own =
                        |(version, own, _): &&(u64, String, Value)| *version > from && *own == path;
                    store
                        .events
                        .iter()
                        .find(own)
                        .map(|(version, _, event)| (*version, event.clone()))
                };
                if let Some((version, event)) = next {
                    return Some((
                        Ok::<_, Infallible>(format!("{event}\n")),
                        (api, changed, version),
                    ));
                }
                changed.changed().await.ok()?;
            }
        }
    });
    Body::from_stream(events).into_response()
}
