//! The status pages: text, and 503 with the page while the router is starting.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{Control, without};
use weave_api::Detail;
use weave_api::report::Report;
use weave_api::text;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/status", get(|state| page::<C>(state, whole::<C>)))
        .route("/status/targets", get(|state| page::<C>(state, text::targets)))
        .route("/status/connections", get(|state| page::<C>(state, text::connections)))
        .route("/status/peers", get(|state| page::<C>(state, text::peers)))
        .route("/status/dns", get(async || without("DNS")))
}

/// The router, and each part that it has.
fn whole<C: Control>(report: &Report) -> String {
    let parts = super::parts::<C>();
    let parts = parts.iter().map(|part| (part.text)(report));
    [text::router_section(report)].into_iter().chain(parts).collect()
}

async fn page<C: Control>(State(control): State<Arc<C>>, text: fn(&Report) -> String) -> Response {
    let report = match super::report(&*control, Detail::Pages).await {
        Ok(report) => report,
        Err(error) => return error.into_response(),
    };
    let code = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, text(&report)).into_response()
}
