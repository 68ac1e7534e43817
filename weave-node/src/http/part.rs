//! What a part of the router shows by HTTP: its paths, its section in the report, its lines in the
//! page of the whole router, its metrics.
//!
//! A new part has a file with a function that returns its [`Part`], and a line in [`super::parts`].

use std::sync::Arc;

use axum::Router;
use weave_api::metric::Metric;
use weave_api::report::Report;

/// A part of the router as it is seen from outside.
pub(super) struct Part<C> {
    /// Paths that change something, or are for this host alone: at the address for control.
    pub(super) control: fn() -> Router<Arc<C>>,
    /// Paths that only read: at the address for status, too.
    pub(super) status: fn() -> Router<Arc<C>>,
    /// Fills its section of the report, if the router runs with this part.
    pub(super) report: fn(&C, &mut Report),
    /// Lines in the page of the whole router; nothing if the router runs without this part.
    pub(super) text: fn(&Report) -> String,
    /// What it counts.
    pub(super) metrics: fn(&Report) -> Vec<Metric>,
}

impl<C: Send + Sync + 'static> Default for Part<C> {
    /// A part that shows nothing.
    fn default() -> Self {
        Self {
            control: Router::new,
            status: Router::new,
            report: |_, _| {},
            text: |_| String::new(),
            metrics: |_| Vec::new(),
        }
    }
}
