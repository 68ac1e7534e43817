//! The metrics: Prometheus text, version 0.0.4 (spec cli-http.md, section 8).

mod process;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use weave_api::Detail;

use super::Control;
use process::process;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new().route("/metrics", get(metrics::<C>))
}

/// Those of the router, of its parts and of the process.
async fn metrics<C: Control>(State(control): State<Arc<C>>) -> Response {
    match super::report(&*control, Detail::Metrics).await {
        Ok(report) => {
            let parts = super::parts::<C>();
            let of_parts = parts.iter().flat_map(|part| (part.metrics)(&report));
            let mut text = String::new();
            for metric in report.router.metrics.iter().cloned().chain(of_parts).chain(process()) {
                metric.print(&mut text);
            }
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(error) => error.into_response(),
    }
}
