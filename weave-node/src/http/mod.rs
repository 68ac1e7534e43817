//! The HTTP interface (spec cli-http.md, sections 5 to 8; router.md, section 12).
//!
//! Three addresses serve more or less of it: control all, status what only reads, metrics the
//! metrics alone. There is no authentication: control listens on a loopback address or on a
//! Unix socket, whose permissions say who may use it, and web pages are refused everywhere.

mod expose;
mod ip;
mod kubernetes;
mod metrics;
mod part;
mod report;
mod status;
mod targets;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use weave_api::ErrorCode;
use weave_api::server::Refusal;
use weave_host::{Cidr, HostAddress};

use crate::ipam::Ipam;
use part::Part;
use weave_api::Detail;
use weave_api::report::{KubernetesStatus, Report};

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// What the interface needs of the router.
pub(crate) trait Control: Send + Sync + 'static {
    /// What is known of it, without its parts.
    fn report(&self, detail: Detail) -> impl Future<Output = Result<Report, Unavailable>> + Send;

    /// Connects to these peers, and if `replace` is set to no others the user asked for.
    fn connect(
        &self,
        peers: Vec<String>,
        replace: bool,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send;

    /// Stops connecting to these peers.
    fn forget(&self, peers: Vec<String>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Gives the host an address on the bridge.
    fn expose(&self, address: HostAddress) -> impl Future<Output = Result<(), ExposeError>> + Send;

    /// Takes it away.
    fn hide(&self, cidr: Cidr) -> impl Future<Output = Result<(), ExposeError>> + Send;

    /// The addresses the host has.
    fn exposed(&self) -> Vec<HostAddress>;

    /// The address allocator, if this router has one.
    fn ipam(&self) -> Option<&Ipam> {
        None
    }

    /// The cluster, if this router is the pod network of one.
    fn kubernetes(&self) -> Option<KubernetesStatus> {
        None
    }
}

/// The router cannot answer: it is stopping, or cannot keep its state.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// Why peers were not connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ConnectError {
    /// These are no addresses; the others are used all the same.
    Targets(Vec<String>),
    Unavailable(Unavailable),
}

/// Why an address of the host is not as asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ExposeError {
    /// The request makes no sense here.
    #[error("{0}")]
    Refused(String),
    /// Somebody on the switch has the address.
    #[error("{0}")]
    InUse(String),
    /// The host does not do it.
    #[error("{0}")]
    Failed(String),
}

/// The parts, in the order in which they are shown.
fn parts<C: Control>() -> [Part<C>; 4] {
    [ip::part(), targets::part(), expose::part(), kubernetes::part()]
}

/// What is known of the router and its parts.
pub(crate) async fn report<C: Control>(control: &C, detail: Detail) -> Result<Report, Unavailable> {
    let mut report = control.report(detail).await?;
    parts().iter().for_each(|part| (part.report)(control, &mut report));
    Ok(report)
}

/// Everything.
pub(crate) fn control_routes<C: Control>(control: Arc<C>) -> Router {
    let routes = parts().iter().fold(reading(), |routes, part| routes.merge((part.control)()));
    finish(routes, control)
}

/// What only reads.
pub(crate) fn status_routes<C: Control>(control: Arc<C>) -> Router {
    finish(reading(), control)
}

fn reading<C: Control>() -> Router<Arc<C>> {
    let whole =
        Router::new().merge(status::routes()).merge(report::routes()).merge(metrics::routes());
    parts().iter().fold(whole, |routes, part| routes.merge((part.status)()))
}

/// The metrics alone.
pub(crate) fn metrics_routes<C: Control>(control: Arc<C>) -> Router {
    finish(metrics::routes(), control)
}

fn finish<C: Control>(routes: Router<Arc<C>>, control: Arc<C>) -> Router {
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(async || {
            (StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(control)
}

/// Paths of parts that this router does not have say so.
async fn not_found(uri: Uri) -> Response {
    let part = match uri.path().split('/').nth(1) {
        Some("domain" | "name" | "dns-address" | "dns-address-port") => "DNS",
        Some("proxyaddrs") => "the Docker proxy",
        _ => return (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    };
    without(part).into_response()
}

fn without(part: &str) -> Refusal {
    let text = format!("this router runs without {part}");
    Refusal::new(StatusCode::NOT_FOUND, ErrorCode::NoSuchPart, text)
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, self).into_response()
    }
}

#[cfg(test)]
mod tests;
