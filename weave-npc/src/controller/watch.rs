//! Lists, and then watches, one kind of objects, for ever.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use tokio::sync::mpsc::Sender;

use crate::cluster::Change;

use super::mirror::{Kind, Mirror, Next};
use super::{MIN_BACKOFF, News, pause};

/// Objects a page of a list: the answer is held in memory while it is decoded.
const PAGE: u32 = 500;

/// A page of a list.
#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    r#continue: String,
}

/// Tells all objects of a kind, and what becomes of them, until nobody listens.
pub(super) async fn watch<K: Kind>(client: &Client, kind: usize, news: Sender<News>) {
    let mut mirror = Mirror::<K>::new();
    let mut backoff = MIN_BACKOFF;
    while !news.is_closed() {
        let result = match mirror.version() {
            None => list(client, kind, &mut mirror, &news).await,
            Some(version) => {
                let version = version.to_owned();
                follow(client, kind, &mut mirror, &version, &news).await
            }
        };
        match result {
            Ok(()) => backoff = MIN_BACKOFF,
            Err(error) => {
                if let kube::Error::Api(status) = &error {
                    mirror.handle_status(status.code);
                }
                let what = K::NAME;
                tracing::warn!(%error, "{what} cannot be asked for: what is known stays in force");
                pause(&mut backoff).await;
            }
        }
    }
}

/// Returns all objects of a kind, as they are now.
pub(super) async fn all<K: Kind>(client: &Client) -> kube::Result<Vec<Change>> {
    let (mut mirror, mut changes) = (Mirror::<K>::new(), Vec::new());
    let mut next = Some(String::new());
    while let Some(token) = next {
        let page = page::<K>(client, &token).await?;
        changes.extend(mirror.handle_page(page.items));
        next = Some(page.metadata.r#continue).filter(|token| !token.is_empty());
    }
    Ok(changes)
}

async fn page<K: Kind>(client: &Client, token: &str) -> kube::Result<Page<K::Object>> {
    let mut parameters = ListParams::default().limit(PAGE);
    if !token.is_empty() {
        parameters = parameters.continue_token(token);
    }
    let request = Request::new(K::PATH).list(&parameters).map_err(kube::Error::BuildRequest)?;
    client.request(request).await
}

async fn list<K: Kind>(
    client: &Client,
    kind: usize,
    mirror: &mut Mirror<K>,
    news: &Sender<News>,
) -> kube::Result<()> {
    mirror.begin_list();
    let mut token = String::new();
    loop {
        let page = page::<K>(client, &token).await?;
        let PageMetadata { resource_version, r#continue: next } = page.metadata;
        let mut changes = mirror.handle_page(page.items);
        let complete = next.is_empty();
        if complete {
            changes.extend(mirror.end_list(resource_version));
        }
        let _ = news.send(News { kind, changes, complete }).await;
        if complete {
            return Ok(());
        }
        token = next;
    }
}

async fn follow<K: Kind>(
    client: &Client,
    kind: usize,
    mirror: &mut Mirror<K>,
    version: &str,
    news: &Sender<News>,
) -> kube::Result<()> {
    let request = Request::new(K::PATH).watch(&WatchParams::default(), version);
    let request = request.map_err(kube::Error::BuildRequest)?;
    let mut events = pin!(client.request_events::<K::Object>(request).await?);
    while let Some(event) = events.try_next().await? {
        match mirror.handle_event(event) {
            Next::Changes(changes) => {
                if news.send(News { kind, changes, complete: false }).await.is_err() {
                    return Ok(());
                }
            }
            Next::Ask => return Ok(()),
        }
    }
    Ok(())
}
