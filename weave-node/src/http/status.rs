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
        .route("/status", get(|state| page::<C>(state, text::status)))
        .route("/status/targets", get(|state| page::<C>(state, text::targets)))
        .route("/status/connections", get(|state| page::<C>(state, text::connections)))
        .route("/status/peers", get(|state| page::<C>(state, text::peers)))
        .route("/status/dns", get(async || without("DNS")))
        .route("/status/ipam", get(ipam::<C>))
}

async fn page<C: Control>(State(control): State<Arc<C>>, text: fn(&Report) -> String) -> Response {
    let report = match control.report(Detail::Pages).await {
        Ok(report) => report,
        Err(error) => return error.into_response(),
    };
    let code = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, text(&report)).into_response()
}

async fn ipam<C: Control>(State(control): State<Arc<C>>) -> Response {
    match control.report(Detail::Pages).await {
        Ok(report) if report.ipam.is_none() => without("address allocation").into_response(),
        Ok(report) => text::ipam(&report).into_response(),
        Err(error) => error.into_response(),
    }
}
