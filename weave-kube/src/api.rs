//! The API server, as far as a router needs it: nodes, one ConfigMap, one condition, events.
//!
//! Of Node objects only what is kept is decoded, a hundred at a time, so that a large cluster costs
//! little memory. Every request ends after some seconds, whatever becomes of its connection.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{
    Api as Resource, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams,
};
use kube::core::{Request, WatchEvent};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::json;

use crate::annotations::{Annotations, Unreadable};
use crate::nodes::{NETWORK_UNAVAILABLE, NodeObject, Nodes};
use crate::watching::GONE;

/// Where Weave Net keeps what its routers agree on.
const NAMESPACE: &str = "kube-system";
const MAP: &str = "weave-net";
/// Whose changes these are, as Weave Net names itself.
const MANAGER: &str = "kube-peers.weave.works";
const NODES: &str = "/api/v1/nodes";
/// Node objects in one answer: each may have 10 KiB and more.
const PAGE: u32 = 100;
/// Pages of one list: more nodes than are kept are of no use.
const MAX_PAGES: usize = 200;
/// How long an answer may take: an API server that is alive needs no second.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the API server is asked to keep a watch, in seconds. Balancers on the way end what is
/// silent for longer; bookmarks come about once a minute.
const WATCH: u32 = 290;

/// Why the API server did not do what it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Somebody else was first.
    #[error("somebody else changed it at the same time")]
    Conflict,
    /// The version is too old.
    #[error("the version is too old")]
    Gone,
    /// The rights of the ServiceAccount do not do.
    #[error(
        "the API server does not let the router do this: {0}; apply the ClusterRole and Role of the \
         manifest (`weave kube manifest`)"
    )]
    Forbidden(String),
    /// The token is not accepted.
    #[error("the API server does not know the router's ServiceAccount: {0}")]
    Unauthorized(String),
    /// What is there makes no sense.
    #[error(transparent)]
    Unreadable(Unreadable),
    /// It does not want it.
    #[error("the API server refuses this: {0}")]
    Refused(String),
    /// There is no usable answer.
    #[error("the API server does not answer: {0}")]
    Away(String),
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                409 => Self::Conflict,
                GONE => Self::Gone,
                403 => Self::Forbidden(status.message),
                401 => Self::Unauthorized(status.message),
                code @ (429 | 500..) => Self::Away(format!("HTTP {code}: {}", status.message)),
                _ => Self::Refused(status.message),
            },
            error => Self::Away(chain(&error)),
        }
    }
}

/// An error with its causes, each told once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The ConfigMap as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) uid: String,
    /// Seconds since 1970 when it was made.
    pub(crate) made: i64,
    pub(crate) annotations: Annotations,
    object: ConfigMap,
}

/// One page of a list.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<NodeObject>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: Option<String>,
}

/// The API server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// The API server of the cluster this pod is in; else that of the user's kubeconfig.
    pub(crate) async fn of_environment() -> Result<Self, String> {
        let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let config = if in_cluster {
            Config::incluster().map_err(|error| chain(&error))?
        } else {
            Config::infer().await.map_err(|error| chain(&error))?
        };
        Self::with(config).map_err(|error| chain(&error))
    }

    /// The one of a configuration.
    pub(crate) fn with(mut config: Config) -> kube::Result<Self> {
        // What is tried again, and when, is decided here.
        config.default_retry = false;
        config.connect_timeout = Some(PATIENCE);
        Ok(Self { client: Client::try_from(config)? })
    }

    /// All nodes, and the version up to which that holds.
    pub(crate) async fn list_nodes(&self) -> Result<(Nodes, String), ApiError> {
        let mut parameters = ListParams::default().limit(PAGE);
        let mut objects = Vec::new();
        for _ in 0..MAX_PAGES {
            let request = Request::new(NODES).list(&parameters);
            let request = request.map_err(kube::Error::BuildRequest)?;
            let page: Page = patiently(self.client.request(request)).await?;
            objects.extend(page.items.unwrap_or_default());
            match page.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => return Ok((Nodes::all(objects), page.metadata.resource_version)),
            }
        }
        Err(ApiError::Away(format!("its list of nodes has more than {MAX_PAGES} pages")))
    }

    /// What happens to nodes after a version.
    pub(crate) async fn watch_nodes(
        &self,
        version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<NodeObject>, ApiError>> + use<>, ApiError>
    {
        let parameters = WatchParams::default().timeout(WATCH);
        let request = Request::new(NODES).watch(&parameters, version);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let events = patiently(self.client.request_events(request)).await?;
        Ok(events.map(|event| event.map_err(ApiError::from)))
    }

    /// Whether a node is there, as of now.
    pub(crate) async fn has_node(&self, name: &str) -> Result<bool, ApiError> {
        let request = Request::new(NODES).get(name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        match patiently_or_status(self.client.request::<NodeObject>(request)).await? {
            Err(status) if status.code == 404 => Ok(false),
            Err(status) => Err(kube::Error::Api(status).into()),
            Ok(_) => Ok(true),
        }
    }

    fn maps(&self) -> Resource<ConfigMap> {
        Resource::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The ConfigMap, which is made if there is none.
    pub(crate) async fn map(&self) -> Result<Map, ApiError> {
        let parameters =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let new = ConfigMap {
            metadata: ObjectMeta { name: Some(MAP.to_owned()), ..Default::default() },
            ..Default::default()
        };
        // Whoever makes it at the same time was first: it is there then.
        for _ in 0..2 {
            if let Some(object) = patiently(self.maps().get_opt(MAP)).await? {
                return Ok(Map::of(object));
            }
            match patiently(self.maps().create(&parameters, &new)).await {
                Ok(object) => return Ok(Map::of(object)),
                Err(ApiError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::Conflict)
    }

    /// Writes the annotations of a ConfigMap, if nobody did since it was read.
    pub(crate) async fn write(&self, map: Map) -> Result<Map, ApiError> {
        let parameters =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let mut object = map.object;
        object.metadata.annotations = Some(map.annotations.0);
        patiently(self.maps().replace(MAP, &parameters, &object)).await.map(Map::of)
    }

    /// Says that the pods of a node have a network.
    pub(crate) async fn clear_network_unavailable(&self, node: &str) -> Result<(), ApiError> {
        let now = k8s_openapi::jiff::Timestamp::now();
        // RFC 3339 in whole seconds, as Kubernetes writes times.
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": NETWORK_UNAVAILABLE,
            "status": "False",
            "reason": "WeaveIsUp",
            "message": "Weave pod has set this",
            "lastTransitionTime": now,
            "lastHeartbeatTime": now,
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let request =
            Request::new(NODES).patch_subresource("status", node, &PatchParams::default(), &patch);
        let request = request.map_err(kube::Error::BuildRequest)?;
        patiently(self.client.request::<NodeObject>(request)).await.map(drop)
    }

    /// Tells of something at a node, for `kubectl describe node`.
    pub(crate) async fn tell(
        &self,
        node: &str,
        reason: &'static str,
        note: &str,
    ) -> Result<(), ApiError> {
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some("weave-net-".to_owned()),
                ..Default::default()
            },
            event_time: Some(MicroTime(k8s_openapi::jiff::Timestamp::now())),
            reporting_controller: Some("weave.works/weave-net".to_owned()),
            reporting_instance: Some(node.to_owned()),
            action: Some("Network".to_owned()),
            reason: Some(reason.to_owned()),
            type_: Some("Warning".to_owned()),
            note: Some(note.chars().take(MAX_NOTE).collect()),
            regarding: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                // As kubelet writes it: by that kubectl finds them.
                uid: Some(node.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let events: Resource<Event> = Resource::namespaced(self.client.clone(), "default");
        patiently(events.create(&PostParams::default(), &event)).await.map(drop)
    }
}

/// The longest note of an event that the API server takes is 1 kB.
const MAX_NOTE: usize = 250;

impl Map {
    fn of(mut object: ConfigMap) -> Self {
        let annotations = object.metadata.annotations.take().unwrap_or_default();
        let annotations: BTreeMap<_, _> = annotations.into_iter().collect();
        let made = object.metadata.creation_timestamp.as_ref();
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            made: made.map_or(i64::MAX, |time| time.0.as_second()),
            annotations: Annotations(annotations),
            object,
        }
    }
}

type Answered<T> = Result<T, Box<kube::core::Status>>;

/// The answer, or what the API server says instead.
async fn patiently_or_status<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<Answered<T>, ApiError> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(kube::Error::Api(status))) => Ok(Err(status)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ApiError::Away(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn patiently<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    let answer = patiently_or_status(request).await?;
    answer.map_err(|status| kube::Error::Api(status).into())
}
