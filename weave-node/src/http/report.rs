//! The report, as JSON or through a template.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Mutex;

use super::Control;
use crate::sys::heap;
use weave_api::Detail;
use weave_api::json::indented;
use weave_api::report::Report;
use weave_api::template::Template;

/// Held by whoever makes a report: the memory it takes on the way is needed once, whoever asks and
/// how often, and at whichever address.
static MAKING: Mutex<()> = Mutex::const_new(());

/// Stations, from which on a report leaves so much free memory that the kernel should have it back.
const MANY: usize = 1024;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new().route("/report", get(report::<C>))
}

/// JSON for who accepts just that, or asks for nothing in particular without a template.
async fn report<C: Control>(
    State(control): State<Arc<C>>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get(header::ACCEPT).map(|value| value.as_bytes());
    let formats: Vec<_> =
        parameters.iter().filter(|(name, _)| name == "format").map(|(_, text)| text).collect();
    let template = match (accept, formats.as_slice()) {
        (Some(b"application/json"), _) | (None | Some(b"*/*"), []) => None,
        (_, [format]) => match Template::parse(format) {
            Ok(template) => Some(template),
            Err(error) => return wrong(format!("template: {error}\n")),
        },
        _ => {
            return wrong(
                "say either `Accept: application/json` or one `format` with a template\n"
                    .to_owned(),
            );
        }
    };
    let _making = MAKING.lock().await;
    let report = match super::report(&*control, Detail::Everything).await {
        Ok(report) => report,
        Err(error) => return error.into_response(),
    };
    let is_large = report.router.stations.max(report.router.flows.unwrap_or(0)) >= MANY;
    let response = match template {
        None => json(&report),
        Some(template) => render(&report, &template),
    };
    drop(report);
    if is_large {
        heap::give_back();
    }
    response
}

fn json(report: &Report) -> Response {
    match indented(report) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => failed(&error.to_string()),
    }
}

fn render(report: &Report, template: &Template) -> Response {
    let mut data = match serde_json::to_value(report) {
        Ok(data) => data,
        Err(error) => return failed(&error.to_string()),
    };
    // Parts that are off are left out of the document, but a template may ask for them.
    if let Some(top) = data.as_object_mut() {
        for part in ["IPAM", "DNS", "Proxy", "Plugin"] {
            top.entry(part).or_insert(serde_json::Value::Null);
        }
    }
    match template.render(&data) {
        Ok(text) => text.into_response(),
        Err(error) => failed(&format!("template: {error}")),
    }
}

fn wrong(text: String) -> Response {
    (StatusCode::BAD_REQUEST, text).into_response()
}

fn failed(text: &str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{text}\n")).into_response()
}
