//! The page of the allocator.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use weave_api::{Detail, text};

use crate::http::{self, Control, without};

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new().route("/status/ipam", get(page::<C>))
}

async fn page<C: Control>(State(control): State<Arc<C>>) -> Response {
    match http::report(&*control, Detail::Pages).await {
        Ok(report) if report.ipam.is_none() => without("address allocation").into_response(),
        Ok(report) => text::ipam::page(&report).into_response(),
        Err(error) => error.into_response(),
    }
}
