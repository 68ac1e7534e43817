//! Addresses, the ring, and peers that leave for good (spec ipam.md, section 17).

mod metrics;
mod report;
mod status;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use serde::Deserialize;
use weave_core::driver::Stopped;
use weave_ipam::allocator::{Answer, RequestError};
use weave_ipam::{Cidr, Label, Subnet};

use super::part::Part;
use super::{Control, without};
use crate::ipam::{Holder, Ipam, MAX_WAITING, NoAnswer};
use weave_api::server::{Fields, Refusal};
use weave_api::{ErrorCode, text};

/// Those that wait for addresses keep nobody from asking for the status.
const _: () = assert!(MAX_WAITING * 2 <= weave_api::server::MAX_CONNECTIONS);

/// The longest name of a holder; container engines use 64 characters.
const MAX_HOLDER: usize = 1024;

pub(super) fn part<C: Control>() -> Part<C> {
    Part {
        control: routes,
        status: status::routes,
        report: report::fill,
        text: text::ipam::lines,
        metrics: metrics::metrics,
    }
}

fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/ip", get(list))
        .route("/ip/{holder}", get(held).post(allocate).delete(release_all))
        .route("/ip/{holder}/{address}", delete(release))
        .route("/ip/{holder}/{address}/{prefix}", get(held).post(allocate).put(claim))
        .route("/ipinfo/defaultsubnet", get(default_subnet))
        .route("/ipinfo/tracker", get(tracker))
        .route("/ring", get(prime))
        .route("/ring/{peer}", put(give_in))
        .route("/peer", delete(leave::<C>))
        .route("/peer/{peer}", delete(take_over::<C>))
}

async fn allocate(
    Allocator(ipam): Allocator,
    place: Place,
    fields: Fields,
) -> Result<Response, Refused> {
    let subnet = place.subnet(&ipam)?;
    let is_container = is_namespace(&fields);
    let result = ipam.allocate(place.holder()?, subnet, is_container, label(fields)?).await?;
    answer(result, "")
}

async fn claim(
    Allocator(ipam): Allocator,
    place: Place,
    fields: Fields,
) -> Result<Response, Refused> {
    let cidr = place.cidr()?;
    let (is_container, lenient) = (is_namespace(&fields), fields.has("noErrorOnUnknown"));
    let label = label(fields)?;
    let result = ipam.claim(place.holder()?, cidr, is_container, lenient, label).await?;
    answer(result, "Unable to claim: ")
}

/// Whether the holder is the id of a network namespace, which ends without a word. The original's
/// `check-alive` says that it is a container of Docker, of which nobody tells this router.
fn is_namespace(fields: &Fields) -> bool {
    fields.has("namespace")
}

/// What the holder is to those who run it.
fn label(fields: Fields) -> Result<Option<Label>, Refused> {
    let Some(text) = fields.all("label").into_iter().next() else { return Ok(None) };
    let label = Label::new(&text).ok_or_else(|| {
        let most = Label::MAX_LEN;
        Refused::bad(format!("{text:?} is no label: 1 to {most} letters, digits and -_./:@"))
    })?;
    Ok(Some(label))
}

async fn prime(Allocator(ipam): Allocator) -> Result<Response, Refused> {
    answer(ipam.prime().await?, "")
}

/// What became of a request; `before` stands before the text of an error.
fn answer(result: Result<Answer, RequestError>, before: &str) -> Result<Response, Refused> {
    match result {
        Ok(Answer::Allocated(cidr)) => Ok(cidr.to_string().into_response()),
        Ok(Answer::Claimed) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Answer::Primed) => Ok(StatusCode::OK.into_response()),
        Err(RequestError::Cancelled) => Ok("cancelled".into_response()),
        Err(error) => Err(Refused::by_allocator(before, &error)),
    }
}

async fn held(Allocator(ipam): Allocator, place: Place) -> Result<String, Refused> {
    let cidrs = ipam.held(&place.holder, place.subnet(&ipam)?);
    Ok(cidrs.iter().map(Cidr::to_string).collect::<Vec<_>>().join(" "))
}

async fn list(Allocator(ipam): Allocator) -> Response {
    let holders = ipam.holders();
    let owned = holders.iter().map(|Holder { name, cidrs, presence, label }| {
        let cidrs: Vec<_> = cidrs.iter().map(Cidr::to_string).collect();
        let mut entry =
            serde_json::json!({ "containerid": name, "addrs": cidrs, "presence": presence.text() });
        if let Some(label) = label {
            entry["label"] = label.as_str().into();
        }
        entry
    });
    let owned = (!holders.is_empty()).then(|| owned.collect::<Vec<_>>());
    let text = serde_json::json!({ "owned": owned }).to_string() + "\n";
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn release_all(Allocator(ipam): Allocator, place: Place) -> Result<StatusCode, Refused> {
    let released = ipam.release_all(place.holder).await?;
    released.map_err(|error| Refused::by_allocator("", &error))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn release(Allocator(ipam): Allocator, place: Place) -> Result<StatusCode, Refused> {
    let released = ipam.release(place.holder.clone(), place.address()?).await?;
    released.map_err(|error| Refused::by_allocator("Unable to free: ", &error))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn default_subnet(Allocator(ipam): Allocator) -> String {
    ipam.default_subnet().to_string()
}

/// There is none.
async fn tracker(_: Allocator) -> &'static str {
    "\n"
}

/// Without an allocator there is nothing to hand over.
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
    let count = ipam.take_over(peer.clone()).await?.ok_or_else(|| {
        let code = ErrorCode::PeerInReach;
        Refused::new(code, format!(
            "{peer} is in reach, and its containers have its addresses: stop it first; one that is gone \
             is missed within a minute"
        ))
    })?;
    Ok(format!("{count} IPs taken over from {peer}\n"))
}

/// Decides a conflict of rings for another peer.
async fn give_in(Allocator(ipam): Allocator, Path(peer): Path<String>) -> Result<String, Refused> {
    if ipam.give_in(peer.clone()).await? {
        return Ok(format!("gave in to {peer}\n"));
    }
    Err(Refused::new(
        ErrorCode::NoConflict,
        format!(
            "nothing of the ring of {peer} conflicts with ours: `weave status ipam` names those it does"
        ),
    ))
}

/// The allocator of this router; without one, a path is not found.
struct Allocator(Ipam);

impl<C: Control> FromRequestParts<Arc<C>> for Allocator {
    type Rejection = Refused;

    async fn from_request_parts(_: &mut Parts, control: &Arc<C>) -> Result<Self, Refused> {
        let ipam = control.ipam().cloned();
        ipam.map(Self).ok_or_else(|| without("address allocation").into())
    }
}

/// What stands behind `/ip`: a holder, and which address or subnet is meant, if one is.
#[derive(Deserialize)]
struct Place {
    holder: String,
    address: Option<String>,
    prefix: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::from_request_parts(parts, state).await;
        let refused = |status, text| Refusal::new(status, ErrorCode::BadRequest, text);
        path.map(|Path(place)| place)
            .map_err(|error| refused(error.status(), error.body_text()).into())
    }
}

impl Place {
    /// Someone who may hold addresses from now on.
    fn holder(self) -> Result<String, Refused> {
        let holder = self.holder;
        if holder.is_empty() || holder.len() > MAX_HOLDER || holder.contains(char::is_control) {
            let text = format!("no name of a container: 1 to {MAX_HOLDER} characters");
            return Err(Refused::bad(text));
        }
        Ok(holder)
    }

    fn address(&self) -> Result<Ipv4Addr, Refused> {
        let text = self.address.as_deref().unwrap_or_default();
        text.parse().map_err(|_| Refused::bad(format!("{text:?} is not an IPv4 address")))
    }

    fn cidr(&self) -> Result<Cidr, Refused> {
        let [address, prefix] =
            [&self.address, &self.prefix].map(|part| part.as_deref().unwrap_or_default());
        format!("{address}/{prefix}").parse().map_err(Refused::bad)
    }

    /// The default subnet if none is named.
    fn subnet(&self, ipam: &Ipam) -> Result<Subnet, Refused> {
        match self.prefix {
            Some(_) => self.cidr()?.try_into().map_err(Refused::bad),
            None => Ok(ipam.default_subnet()),
        }
    }
}

/// Why a request is not answered as it was meant.
#[derive(Debug)]
struct Refused(Refusal);

impl Refused {
    fn bad(text: impl ToString) -> Self {
        Self(Refusal::bad(text))
    }

    fn new(code: ErrorCode, text: impl ToString) -> Self {
        Self(Refusal::new(StatusCode::BAD_REQUEST, code, text))
    }

    /// `before` stands before the text.
    fn by_allocator(before: &str, error: &RequestError) -> Self {
        let code = match error {
            RequestError::OutOfBounds { .. } => ErrorCode::OutOfRange,
            RequestError::AlreadyInUse { .. } | RequestError::AlreadyOwned { .. } => {
                ErrorCode::InUse
            }
            RequestError::OwnedByOther { .. } => ErrorCode::OwnedByPeer,
            RequestError::NothingHeld(_) | RequestError::NotHeld { .. } => ErrorCode::NotHeld,
            _ => ErrorCode::BadRequest,
        };
        Self::new(code, format!("{before}{error}"))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self.0.code {
            // Runtimes delete what is deleted: each pod two or three times.
            ErrorCode::NotHeld => tracing::debug!("[http] {}", self.0.text),
            _ => tracing::warn!("[http] {}", self.0.text),
        }
        self.0.into_response()
    }
}

impl From<NoAnswer> for Refused {
    fn from(error: NoAnswer) -> Self {
        let code = match error {
            NoAnswer::Stopped => ErrorCode::Stopping,
            NoAnswer::Crowded => ErrorCode::Crowded,
            NoAnswer::Unstored(_) => ErrorCode::NotStored,
        };
        Self(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, error))
    }
}

impl From<Stopped> for Refused {
    fn from(error: Stopped) -> Self {
        NoAnswer::from(error).into()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

#[cfg(test)]
mod tests;
