//! Connecting to peers, and forgetting them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::part::Part;
use super::{ConnectError, Control};
use weave_api::ErrorCode;
use weave_api::server::{Fields, Refusal};

pub(super) fn part<C: Control>() -> Part<C> {
    Part { control: routes, ..Part::default() }
}

fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new().route("/connect", post(connect::<C>)).route("/forget", post(forget::<C>))
}

async fn connect<C: Control>(State(control): State<Arc<C>>, fields: Fields) -> Response {
    let replace = fields.has("replace");
    match control.connect(fields.all("peer"), replace).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(ConnectError::Unavailable(error)) => error.into_response(),
        Err(ConnectError::Targets(errors)) => {
            let (status, lines) = (StatusCode::BAD_REQUEST, errors.join("\n"));
            Refusal::new(status, ErrorCode::BadTarget, lines).into_response()
        }
    }
}

async fn forget<C: Control>(State(control): State<Arc<C>>, fields: Fields) -> Response {
    match control.forget(fields.all("peer")).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.into_response(),
    }
}
