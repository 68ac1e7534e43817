//! What a request says besides its path.

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest, Query, Request};
use axum::http::StatusCode;

/// Names and values, in order: those of the body, which may be missing altogether, before those of
/// the query.
#[derive(Debug)]
pub struct Fields(Vec<(String, String)>);

/// Why the fields cannot be read.
type Refusal = (StatusCode, String);

impl Fields {
    /// All values of that name.
    pub fn all(self, name: &str) -> Vec<String> {
        self.0.into_iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect()
    }

    /// Whether one of that name says `true`.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, value)| other == name && value == "true")
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let refused = |status, text| (status, format!("unable to parse form: {text}\n"));
        let query: Query<Vec<_>> = Query::try_from_uri(request.uri())
            .map_err(|error| refused(error.status(), error.to_string()))?;
        match Form::<Vec<_>>::from_request(request, state).await {
            Ok(Form(form)) => Ok(Self([form, query.0].concat())),
            Err(FormRejection::InvalidFormContentType(_)) => Ok(Self(query.0)),
            Err(error) => Err(refused(error.status(), error.to_string())),
        }
    }
}
