//! Addresses, the ring, and peers that leave for good (spec ipam.md, section 17).

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use weave_core::driver::Stopped;
use weave_ipam::allocator::{Answer, RequestError};
use weave_ipam::{Cidr, Subnet};

use super::peers::{Fields, fields};
use super::{Control, without};
use crate::ipam::Ipam;

/// The longest name of a holder; container engines use 64 characters.
const MAX_HOLDER: usize = 1024;

/// Why there is no answer.
struct Refused(StatusCode, String);

impl Refused {
    fn bad(text: impl ToString) -> Self {
        Self(StatusCode::BAD_REQUEST, text.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, text) = self;
        tracing::warn!("[http] {text}");
        (status, format!("{text}\n")).into_response()
    }
}

impl From<Stopped> for Refused {
    fn from(_: Stopped) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, "the router is stopping".to_owned())
    }
}

impl From<(StatusCode, String)> for Refused {
    fn from((status, text): (StatusCode, String)) -> Self {
        Self(status, text.trim_end().to_owned())
    }
}

type Body = Result<Form<Fields>, FormRejection>;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/ip", get(list::<C>))
        .route("/ip/{holder}", get(held::<C>).post(allocate::<C>).delete(release_all::<C>))
        .route("/ip/{holder}/{address}", delete(release::<C>))
        .route(
            "/ip/{holder}/{address}/{prefix}",
            get(held_in::<C>).post(allocate_in::<C>).put(claim::<C>),
        )
        .route("/ipinfo/defaultsubnet", get(default_subnet::<C>))
        .route("/ipinfo/tracker", get(tracker::<C>))
        .route("/ring", get(prime::<C>))
        .route("/peer", delete(leave::<C>))
        .route("/peer/{peer}", delete(take_over::<C>))
}

fn ipam<C: Control>(control: &Arc<C>) -> Result<&Ipam, Refused> {
    control.ipam().ok_or_else(|| {
        let (status, text) = without("address allocation");
        Refused(status, text.trim_end().to_owned())
    })
}

fn checked(holder: String) -> Result<String, Refused> {
    if holder.is_empty() || holder.len() > MAX_HOLDER || holder.contains(char::is_control) {
        return Err(Refused::bad(format!("no name of a container: 1 to {MAX_HOLDER} characters")));
    }
    Ok(holder)
}

fn cidr(address: &str, prefix: &str) -> Result<Cidr, Refused> {
    format!("{address}/{prefix}").parse().map_err(Refused::bad)
}

fn subnet(address: &str, prefix: &str) -> Result<Subnet, Refused> {
    cidr(address, prefix)?.try_into().map_err(Refused::bad)
}

fn is_set(fields: &Fields, wanted: &str) -> bool {
    fields.iter().any(|(name, value)| name == wanted && value == "true")
}

/// What became of a request; `before` stands before the text of an error.
fn answer(
    result: Result<Answer, RequestError>,
    before: &str,
    shown: impl FnOnce(Answer) -> Response,
) -> Result<Response, Refused> {
    match result {
        Ok(answer) => Ok(shown(answer)),
        Err(RequestError::Cancelled) => Ok("cancelled".into_response()),
        Err(error) => Err(Refused::bad(format!("{before}{error}"))),
    }
}

fn address(answer: Answer) -> Response {
    match answer {
        Answer::Allocated(cidr) => cidr.to_string().into_response(),
        Answer::Claimed | Answer::Primed => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn allocate<C: Control>(
    State(control): State<Arc<C>>,
    Path(holder): Path<String>,
    Query(query): Query<Fields>,
    form: Body,
) -> Result<Response, Refused> {
    let ipam = ipam(&control)?;
    let is_container = is_set(&fields(query, form)?, "check-alive");
    let result = ipam.allocate(checked(holder)?, ipam.default_subnet(), is_container).await?;
    answer(result, "", address)
}

async fn allocate_in<C: Control>(
    State(control): State<Arc<C>>,
    Path((holder, start, prefix)): Path<(String, String, String)>,
    Query(query): Query<Fields>,
    form: Body,
) -> Result<Response, Refused> {
    let is_container = is_set(&fields(query, form)?, "check-alive");
    let ipam = ipam(&control)?;
    let subnet = subnet(&start, &prefix)?;
    let result = ipam.allocate(checked(holder)?, subnet, is_container).await?;
    answer(result, "", address)
}

async fn claim<C: Control>(
    State(control): State<Arc<C>>,
    Path((holder, claimed, prefix)): Path<(String, String, String)>,
    Query(query): Query<Fields>,
    form: Body,
) -> Result<Response, Refused> {
    let fields = fields(query, form)?;
    let (is_container, lenient) =
        (is_set(&fields, "check-alive"), is_set(&fields, "noErrorOnUnknown"));
    let cidr = cidr(&claimed, &prefix)?;
    let result = ipam(&control)?.claim(checked(holder)?, cidr, is_container, lenient).await?;
    answer(result, "Unable to claim: ", address)
}

async fn held<C: Control>(
    State(control): State<Arc<C>>,
    Path(holder): Path<String>,
) -> Result<String, Refused> {
    let ipam = ipam(&control)?;
    Ok(joined(&ipam.held(&holder, ipam.default_subnet())))
}

async fn held_in<C: Control>(
    State(control): State<Arc<C>>,
    Path((holder, start, prefix)): Path<(String, String, String)>,
) -> Result<String, Refused> {
    Ok(joined(&ipam(&control)?.held(&holder, subnet(&start, &prefix)?)))
}

fn joined(cidrs: &[Cidr]) -> String {
    cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

async fn list<C: Control>(State(control): State<Arc<C>>) -> Result<Response, Refused> {
    let owned: Vec<_> = ipam(&control)?
        .holders()
        .into_iter()
        .map(|(holder, cidrs)| {
            let cidrs: Vec<_> = cidrs.iter().map(ToString::to_string).collect();
            serde_json::json!({ "containerid": holder, "addrs": cidrs })
        })
        .collect();
    let owned = if owned.is_empty() { serde_json::Value::Null } else { owned.into() };
    let text = serde_json::json!({ "owned": owned }).to_string() + "\n";
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn release_all<C: Control>(
    State(control): State<Arc<C>>,
    Path(holder): Path<String>,
) -> Result<StatusCode, Refused> {
    ipam(&control)?.release_all(holder).await?.map_err(Refused::bad)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn release<C: Control>(
    State(control): State<Arc<C>>,
    Path((holder, address)): Path<(String, String)>,
) -> Result<StatusCode, Refused> {
    let ipam = ipam(&control)?;
    let address: Ipv4Addr =
        address.parse().map_err(|_| Refused::bad(format!("{address:?} is not an IPv4 address")))?;
    let released = ipam.release(holder, address).await?;
    released.map_err(|error| Refused::bad(format!("Unable to free: {error}")))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn default_subnet<C: Control>(State(control): State<Arc<C>>) -> Result<String, Refused> {
    Ok(ipam(&control)?.default_subnet().to_string())
}

/// There is none.
async fn tracker<C: Control>(State(control): State<Arc<C>>) -> Result<&'static str, Refused> {
    ipam(&control)?;
    Ok("\n")
}

async fn prime<C: Control>(State(control): State<Arc<C>>) -> Result<Response, Refused> {
    let result = ipam(&control)?.prime().await?;
    answer(result, "", |_| StatusCode::OK.into_response())
}

async fn leave<C: Control>(State(control): State<Arc<C>>) -> Result<StatusCode, Refused> {
    if let Some(ipam) = control.ipam() {
        ipam.shut_down().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn take_over<C: Control>(
    State(control): State<Arc<C>>,
    Path(peer): Path<String>,
) -> Result<String, Refused> {
    let Some(ipam) = control.ipam() else { return Ok(String::new()) };
    let count = ipam.take_over(peer.clone()).await?;
    Ok(format!("{count} IPs taken over from {peer}\n"))
}
