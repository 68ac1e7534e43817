//! Connecting to peers, and forgetting them.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::{ConnectError, Control};

/// Name and value of each field, in order.
pub(super) type Fields = Vec<(String, String)>;

/// Why the fields cannot be read.
pub(super) type Refusal = (StatusCode, String);

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new().route("/connect", post(connect::<C>)).route("/forget", post(forget::<C>))
}

async fn connect<C: Control>(
    State(control): State<Arc<C>>,
    Query(query): Query<Fields>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Refusal> {
    let fields = fields(query, form)?;
    let replace = fields.iter().any(|(name, value)| name == "replace" && value == "true");
    Ok(match control.connect(peers(fields), replace).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(ConnectError::Unavailable(error)) => error.into_response(),
        Err(ConnectError::Targets(errors)) => {
            let lines: String = errors.iter().map(|error| format!("{error}\n")).collect();
            (StatusCode::BAD_REQUEST, lines).into_response()
        }
    })
}

async fn forget<C: Control>(
    State(control): State<Arc<C>>,
    Query(query): Query<Fields>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Refusal> {
    let fields = fields(query, form)?;
    Ok(match control.forget(peers(fields)).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.into_response(),
    })
}

/// The fields of the address and of the body, which may be missing altogether.
pub(super) fn fields(
    query: Fields,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Fields, Refusal> {
    match form {
        Ok(Form(form)) => Ok([form, query].concat()),
        Err(FormRejection::InvalidFormContentType(_)) => Ok(query),
        Err(error) => Err((error.status(), format!("unable to parse form: {error}\n"))),
    }
}

fn peers(fields: Fields) -> Vec<String> {
    fields.into_iter().filter(|(name, _)| name == "peer").map(|(_, value)| value).collect()
}
