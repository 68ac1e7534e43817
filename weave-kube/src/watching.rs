//! How the nodes are kept up to date: listed once, then watched from that moment on.
//!
//! ```text
//!        ┌──────────── the version is too old (410 Gone) ───────────┐
//!        ▼                                                          │
//!     Listing ──all nodes──▶ Watching ──ended──▶ Watching … ──event──▶ the nodes, a later version
//!        │                      │ failed
//!        └──── failed ────▶ a pause, longer each time, and the same again
//! ```
//!
//! A watch ends after some minutes by itself and goes on where it ended, so that a cluster at rest
//! costs few requests.

use std::time::Duration;

use kube::core::WatchEvent;

use crate::nodes::{NodeObject, Nodes};

/// A watch that ended sooner than this is not made anew at once: something is wrong.
const SHORT: Duration = Duration::from_secs(1);

/// Pauses between attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

/// What is to be asked next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// For all nodes.
    List,
    /// For changes since this version.
    Watch(String),
}

/// The next question, after a pause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Next {
    pub(crate) pause: Duration,
    pub(crate) ask: Ask,
}

/// Where the watch of the nodes is.
#[derive(Debug)]
pub(crate) struct Watching {
    pauses: Pauses,
    /// The version up to which the nodes are known; none before they were listed.
    version: Option<String>,
    failures: u32,
}

/// What an event came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// The nodes are others.
    News,
    /// They are the same.
    Nothing,
    /// The watch does not go on from there: they have to be listed anew.
    Gone,
    /// The watch failed.
    Failed,
}

impl Watching {
    pub(crate) const fn new(pauses: Pauses) -> Self {
        Self { pauses, version: None, failures: 0 }
    }

    /// What to ask next.
    pub(crate) fn next(&self) -> Next {
        let doubled = self.pauses.first * 2_u32.saturating_pow(self.failures.saturating_sub(1));
        let pause = if self.failures == 0 { Duration::ZERO } else { doubled };
        Next {
            pause: pause.min(self.pauses.longest),
            ask: self.version.clone().map_or(Ask::List, Ask::Watch),
        }
    }

    /// All nodes were listed.
    pub(crate) fn handle_list(&mut self, version: String) {
        self.version = Some(version);
        self.failures = 0;
    }

    /// The watch said something.
    pub(crate) fn handle_event(
        &mut self,
        event: WatchEvent<NodeObject>,
        nodes: &mut Nodes,
    ) -> Heard {
        let (object, is_news) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let is_news = nodes.set(&object);
                (object, is_news)
            }
            WatchEvent::Deleted(object) => {
                let is_news = nodes.remove(&object.metadata.name);
                (object, is_news)
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = Some(bookmark.metadata.resource_version);
                return Heard::Nothing;
            }
            WatchEvent::Error(status) if status.code == GONE || status.code == TOO_LARGE => {
                self.handle_gone();
                return Heard::Gone;
            }
            WatchEvent::Error(_) => return Heard::Failed,
        };
        if !object.metadata.resource_version.is_empty() {
            self.version = Some(object.metadata.resource_version);
        }
        if is_news { Heard::News } else { Heard::Nothing }
    }

    /// What was known is too old to go on from.
    pub(crate) fn handle_gone(&mut self) {
        self.version = None;
    }

    /// The watch ended in good order after some time.
    pub(crate) fn handle_end(&mut self, after: Duration) {
        if after < SHORT {
            self.handle_failure();
        } else {
            self.failures = 0;
        }
    }

    /// A question got no answer.
    pub(crate) fn handle_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }
}

/// HTTP 410: the version is older than what the API server remembers.
pub(crate) const GONE: u16 = 410;
/// HTTP 504 in an event: the version is one that the API server does not know yet.
const TOO_LARGE: u16 = 504;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::tests::object;

    const PAUSES: Pauses =
        Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

    fn event(kind: &str, name: &str, version: &str) -> WatchEvent<NodeObject> {
        let text = format!(
            r#"{{"type": "{kind}", "object": {{"kind": "Node", "apiVersion": "v1", "code": {GONE},
            "metadata": {{"name": "{name}", "resourceVersion": "{version}"}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn ask(watching: &Watching) -> Ask {
        watching.next().ask
    }

    #[test]
    fn a_list_and_then_changes() {
        let (mut watching, mut nodes) = (Watching::new(PAUSES), Nodes::default());
        assert_eq!(watching.next(), Next { pause: Duration::ZERO, ask: Ask::List });
        nodes.set(&object("a", &[]));
        watching.handle_list("7".to_owned());
        assert_eq!(ask(&watching), Ask::Watch("7".to_owned()));
        for (kind, name, version, heard) in [
            ("ADDED", "b", "8", Heard::News),
            ("MODIFIED", "b", "9", Heard::Nothing),
            ("BOOKMARK", "", "12", Heard::Nothing),
            ("DELETED", "a", "13", Heard::News),
            ("DELETED", "a", "14", Heard::Nothing),
        ] {
            assert_eq!(watching.handle_event(event(kind, name, version), &mut nodes), heard);
            assert_eq!(ask(&watching), Ask::Watch(version.to_owned()));
        }
        assert!(nodes.contains("b") && !nodes.contains("a"));
    }

    #[test]
    fn a_version_that_is_too_old_means_another_list() {
        let (mut watching, mut nodes) = (Watching::new(PAUSES), Nodes::default());
        watching.handle_list("7".to_owned());
        let gone = event("ERROR", "", "");
        assert_eq!(watching.handle_event(gone, &mut nodes), Heard::Gone);
        assert_eq!(watching.next(), Next { pause: Duration::ZERO, ask: Ask::List });
    }

    #[test]
    fn pauses_grow_until_something_works() {
        let mut watching = Watching::new(PAUSES);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            watching.handle_failure();
            pauses.push(watching.next().pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        watching.handle_list("1".to_owned());
        assert_eq!(watching.next().pause, Duration::ZERO);
        // One that ends at once would be asked for without end.
        watching.handle_end(Duration::from_millis(10));
        assert_eq!(watching.next(), Next { pause: PAUSES.first, ask: Ask::Watch("1".to_owned()) });
        watching.handle_end(Duration::from_secs(300));
        assert_eq!(watching.next().pause, Duration::ZERO);
        for _ in 0..100 {
            watching.handle_failure();
        }
        assert_eq!(watching.next().pause, PAUSES.longest);
    }
}
