//! Addresses of the host on the bridge (spec router.md, section 8). The original hides them by a
//! script; here the router does that too, and tells which there are.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use weave_host::{Cidr, HostAddress};

use weave_api::ErrorCode;
use weave_api::server::Refusal;

use super::part::Part;
use super::{Control, ExposeError};

pub(super) fn part<C: Control>() -> Part<C> {
    Part { control: routes, ..Part::default() }
}

fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/expose", get(list::<C>))
        .route("/expose/{address}/{prefix}", post(expose::<C>).delete(hide::<C>))
}

async fn expose<C: Control>(
    State(control): State<Arc<C>>,
    Path((address, prefix)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<StatusCode, ExposeError> {
    let cidr = cidr(&address, &prefix)?;
    let skip = match query.iter().find(|(name, _)| name == "skipNAT") {
        Some((_, text)) => weave_api::parse_bool(text)
            .map_err(|error| ExposeError::Refused(format!("skipNAT: {text:?}: {error}")))?,
        None => false,
    };
    control.expose(HostAddress { cidr, masquerade: !skip }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn hide<C: Control>(
    State(control): State<Arc<C>>,
    Path((address, prefix)): Path<(String, String)>,
) -> Result<StatusCode, ExposeError> {
    control.hide(cidr(&address, &prefix)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list<C: Control>(State(control): State<Arc<C>>) -> String {
    control.exposed().iter().map(|exposed| format!("{}\n", exposed.cidr)).collect()
}

/// Rules and allocation are for IPv4, and a network of everything has no outside.
fn cidr(address: &str, prefix: &str) -> Result<Cidr, ExposeError> {
    let refused = |error: &dyn ToString| ExposeError::Refused(error.to_string());
    let cidr: Cidr = format!("{address}/{prefix}").parse().map_err(|error| refused(&error))?;
    if !cidr.address().is_ipv4() || cidr.prefix() == 0 {
        return Err(refused(&format!("{cidr} is no IPv4 address in a network")));
    }
    Ok(cidr)
}

impl IntoResponse for ExposeError {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::Refused(_) => (StatusCode::BAD_REQUEST, ErrorCode::BadRequest),
            Self::InUse(_) => (StatusCode::CONFLICT, ErrorCode::InUse),
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::HostFailed),
        };
        Refusal::new(status, code, self).into_response()
    }
}
