//! An answer that says why there is none.

use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::code::{ERROR_HEADER, ErrorCode};

/// Why a request is not answered as it was meant: a text for people, and a code for programs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Status of the answer.
    pub status: StatusCode,
    /// What is in the header.
    pub code: ErrorCode,
    /// What is in the body, without the line's end.
    pub text: String,
}

impl Refusal {
    /// Returns a refusal.
    pub fn new(status: StatusCode, code: ErrorCode, text: impl ToString) -> Self {
        Self { status, code, text: text.to_string() }
    }

    /// Returns a refusal of a request that makes no sense.
    pub fn bad(text: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let header = [(HeaderName::from_static(ERROR_HEADER), self.code.as_str())];
        (self.status, header, format!("{}\n", self.text)).into_response()
    }
}
