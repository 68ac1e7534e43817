//! What the API server has of one kind of objects, from lists and events.

use std::collections::BTreeSet;
use std::fmt::Debug;

use kube::core::WatchEvent;
use serde::de::DeserializeOwned;

use crate::api::{self, Metadata};
use crate::cluster::Change;
use crate::object::ObjectName;

/// A kind of objects.
pub(super) trait Kind {
    type Object: DeserializeOwned + Clone + Send + 'static;
    /// In logs.
    const NAME: &'static str;
    const PATH: &'static str;

    fn metadata(object: &Self::Object) -> &Metadata;
    fn change(object: Self::Object) -> Change;
    fn gone(name: ObjectName) -> Change;
}

/// The namespaces.
#[derive(Debug)]
pub(super) enum Namespaces {}
/// The pods.
#[derive(Debug)]
pub(super) enum Pods {}
/// The NetworkPolicies.
#[derive(Debug)]
pub(super) enum Policies {}

impl Kind for Namespaces {
    type Object = api::Namespace;
    const NAME: &'static str = "namespaces";
    const PATH: &'static str = "/api/v1/namespaces";

    fn metadata(object: &api::Namespace) -> &Metadata {
        &object.metadata
    }

    fn change(object: api::Namespace) -> Change {
        Change::Namespace(object.read())
    }

    fn gone(name: ObjectName) -> Change {
        Change::NamespaceGone(name.name)
    }
}

impl Kind for Pods {
    type Object = api::Pod;
    const NAME: &'static str = "pods";
    const PATH: &'static str = "/api/v1/pods";

    fn metadata(object: &api::Pod) -> &Metadata {
        &object.metadata
    }

    fn change(object: api::Pod) -> Change {
        Change::Pod(Box::new(object.read()))
    }

    fn gone(name: ObjectName) -> Change {
        Change::PodGone(name)
    }
}

impl Kind for Policies {
    type Object = api::NetworkPolicy;
    const NAME: &'static str = "policies";
    const PATH: &'static str = "/apis/networking.k8s.io/v1/networkpolicies";

    fn metadata(object: &api::NetworkPolicy) -> &Metadata {
        &object.metadata
    }

    fn change(object: api::NetworkPolicy) -> Change {
        let (policy, problems) = object.read();
        for problem in problems {
            let policy = &policy.name;
            tracing::warn!(%policy, %problem, "not understood: this part of it allows nothing");
        }
        Change::Policy(policy)
    }

    fn gone(name: ObjectName) -> Change {
        Change::PolicyGone(name)
    }
}

/// What is known of one kind of objects.
#[derive(Debug)]
pub(super) struct Mirror<K> {
    known: BTreeSet<ObjectName>,
    /// Those that the list under way has named so far.
    listed: BTreeSet<ObjectName>,
    /// Where a watch goes on; none if the objects have to be listed.
    version: Option<String>,
    kind: std::marker::PhantomData<K>,
}

/// What a watch leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Take these, and go on.
    Changes(Vec<Change>),
    /// The server has forgotten the version, or failed: ask again.
    Ask,
}

impl<K: Kind> Mirror<K> {
    pub(super) fn new() -> Self {
        let (known, listed) = (BTreeSet::new(), BTreeSet::new());
        Self { known, listed, version: None, kind: std::marker::PhantomData }
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// A list begins from its first page.
    pub(super) fn begin_list(&mut self) {
        self.listed.clear();
    }

    /// Takes a page of a list.
    pub(super) fn handle_page(&mut self, objects: Vec<K::Object>) -> Vec<Change> {
        let take = |object: K::Object| {
            let name = name::<K>(&object);
            self.known.insert(name.clone());
            self.listed.insert(name);
            K::change(object)
        };
        objects.into_iter().map(take).collect()
    }

    /// A list is complete: what it did not name is gone.
    pub(super) fn end_list(&mut self, version: String) -> Vec<Change> {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<_> = self.known.difference(&listed).cloned().collect();
        self.known = listed;
        self.version = Some(version);
        gone.into_iter().map(K::gone).collect()
    }

    /// Takes an event of a watch.
    pub(super) fn handle_event(&mut self, event: WatchEvent<K::Object>) -> Next {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.advance(&object);
                self.known.insert(name::<K>(&object));
                Next::Changes(vec![K::change(object)])
            }
            WatchEvent::Deleted(object) => {
                self.advance(&object);
                let name = name::<K>(&object);
                self.known.remove(&name);
                Next::Changes(vec![K::gone(name)])
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = Some(bookmark.metadata.resource_version);
                Next::Changes(Vec::new())
            }
            WatchEvent::Error(status) => {
                self.handle_status(status.code);
                Next::Ask
            }
        }
    }

    /// Takes a refusal: 410 says that the version is too old to go on from.
    pub(super) fn handle_status(&mut self, code: u16) {
        if code == 410 {
            self.version = None;
        }
    }

    fn advance(&mut self, object: &K::Object) {
        if let Some(version) = &K::metadata(object).resource_version {
            self.version = Some(version.clone());
        }
    }
}

fn name<K: Kind>(object: &K::Object) -> ObjectName {
    K::metadata(object).object_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(names: &[&str]) -> Vec<api::Pod> {
        names.iter().map(|name| pod(name, "1")).collect()
    }

    fn pod(name: &str, version: &str) -> api::Pod {
        let metadata = Metadata {
            name: name.to_owned(),
            namespace: Some("n".to_owned()),
            resource_version: Some(version.to_owned()),
            ..Metadata::default()
        };
        api::Pod { metadata, ..api::Pod::default() }
    }

    fn gone(name: &str) -> Change {
        Change::PodGone(ObjectName::new("n", name))
    }

    #[test]
    fn what_was_lost_between_two_lists_is_found() {
        let mut mirror = Mirror::<Pods>::new();
        mirror.begin_list();
        assert_eq!(mirror.handle_page(pods(&["a", "b"])).len(), 2);
        assert_eq!(mirror.handle_page(pods(&["c"])).len(), 1);
        assert_eq!(mirror.end_list("5".to_owned()), []);
        assert_eq!(
            mirror.handle_event(WatchEvent::Deleted(pod("a", "6"))),
            Next::Changes(vec![gone("a")])
        );
        assert!(matches!(
            mirror.handle_event(WatchEvent::Added(pod("d", "7"))),
            Next::Changes(changes) if changes.len() == 1
        ));
        assert_eq!(mirror.version(), Some("7"));
        mirror.handle_status(500);
        assert_eq!(mirror.version(), Some("7"), "the watch goes on where it was");
        mirror.handle_status(410);
        assert_eq!(mirror.version(), None);
        // A list that breaks off has said nothing about what is gone.
        mirror.begin_list();
        mirror.handle_page(pods(&["c"]));
        mirror.begin_list();
        mirror.handle_page(pods(&["d"]));
        assert_eq!(mirror.end_list("9".to_owned()), [gone("b"), gone("c")]);
    }
}
