//! What is known of the cluster and told of it: in the log, as events, in reports.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weave_api::report::KubernetesStatus;

use crate::api::{Api, ApiError};

/// The same trouble is not told again before this.
const AGAIN: Duration = Duration::from_secs(600);

/// The state of a router's dealings with the cluster; clones are of the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct State(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    report: KubernetesStatus,
    /// What was told last, and when.
    told: Option<(String, SystemTime)>,
    /// Events are not taken.
    mute: bool,
}

impl State {
    pub(crate) fn new(node: &str) -> Self {
        let state = Self::default();
        state.lock().report.node = node.to_owned();
        state
    }

    pub(crate) fn report(&self) -> KubernetesStatus {
        self.lock().report.clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut KubernetesStatus)) {
        change(&mut self.lock().report);
    }

    /// The API server did what it was asked for.
    pub(crate) fn works(&self) {
        let mut inner = self.lock();
        let was_told = inner.told.take().is_some();
        let was_reachable = std::mem::replace(&mut inner.report.reachable, true);
        if !was_reachable {
            inner.report.since = now();
            if was_told {
                tracing::info!("[kube] the API server answers again");
            }
        }
    }

    /// It did not. Told once for each reason, and again after some time.
    pub(crate) fn fails(&self, doing: &str, error: &ApiError) {
        if *error == ApiError::Conflict {
            return;
        }
        let text = format!("{doing}: {error}");
        let mut inner = self.lock();
        let is_away = matches!(error, ApiError::Away(_));
        if is_away && inner.report.reachable || inner.report.since == 0 {
            inner.report.since = now();
        }
        inner.report.reachable &= !is_away;
        let time = SystemTime::now();
        let is_old = |(told, at): &(String, SystemTime)| {
            *told == text && time.duration_since(*at).is_ok_and(|age| age < AGAIN)
        };
        if !inner.told.as_ref().is_some_and(is_old) {
            tracing::warn!("[kube] {text}; frames go on, and it is tried again");
            inner.told = Some((text.clone(), time));
        }
        inner.report.last_error = text;
    }

    /// Tells the cluster's users of something they have to look after, besides the log.
    pub(crate) async fn warn(&self, api: &Api, node: &str, reason: &'static str, text: &str) {
        tracing::warn!("[kube] {text}");
        self.tell(api, node, reason, text).await;
    }

    /// The same, for what the log says elsewhere.
    pub(crate) async fn tell(&self, api: &Api, node: &str, reason: &'static str, text: &str) {
        if self.lock().mute {
            return;
        }
        if let Err(error) = api.tell(node, reason, text).await {
            tracing::debug!("[kube] no event: {error}");
            self.lock().mute |= matches!(error, ApiError::Forbidden(_));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_does_is_seen() {
        let state = State::new("node-1");
        assert!(!state.report().reachable);
        state.works();
        let working = state.report();
        assert!(working.reachable && working.since > 0 && working.last_error.is_empty());
        state.fails("list nodes", &ApiError::Conflict);
        assert_eq!(state.report(), working);
        state.fails("list nodes", &ApiError::Forbidden("nodes is forbidden".to_owned()));
        let forbidden = state.report();
        assert!(forbidden.reachable);
        assert!(
            forbidden.last_error.contains("list nodes: the API server does not let the router")
        );
        assert!(forbidden.last_error.contains("weave kube manifest"));
        state.fails("list nodes", &ApiError::Away("refused".to_owned()));
        assert!(!state.report().reachable);
        state.works();
        assert!(state.report().reachable);
    }
}
