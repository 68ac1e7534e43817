//! Asking the router, for the commands and the CNI plugin.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::{Address, ERROR_HEADER, ErrorCode};

/// How long a router may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take until an address is free, or enough peers are there to divide the range.
const LONG_TIMEOUT: Duration = Duration::from_secs(290);
/// The longest answer: a report of a large mesh.
const MAX_ANSWER: usize = 256 << 20;

/// Speaks to the control address of a router.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    patience: Duration,
}

/// What a router answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Status, as 200.
    pub status: u16,
    /// Why it refused, if it did and says so.
    pub code: Option<ErrorCode>,
    /// The body.
    pub text: String,
}

/// Runs a question in a thread that runs nothing else, for programs that ask one or two.
///
/// # Errors
/// The system has no room for it.
pub fn block_on<T>(question: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(question))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no weave router answers at {address} ({cause}). Have you launched it?")]
    NotRunning {
        /// Where it was looked for.
        address: Address,
        /// What the kernel said.
        cause: String,
    },
    /// It does not know that page.
    #[error("{0}")]
    NotFound(String),
    /// Somebody else has the address.
    #[error("{0}")]
    InUse(String),
    /// It refused; what it said.
    #[error("{0}")]
    Refused(String),
    /// It broke off.
    #[error("the weave router at {address} gave no proper answer: {cause}")]
    Broken {
        /// Where it listens.
        address: Address,
        /// What came in place of an answer.
        cause: String,
    },
}

impl Client {
    /// Returns a client for this address; it connects for each request.
    pub const fn new(address: Address) -> Self {
        Self { address, patience: TIMEOUT }
    }

    /// Waits for what may take as long as somebody else needs.
    pub fn patient(self) -> Self {
        Self { patience: LONG_TIMEOUT, ..self }
    }

    /// Waits for so long at most.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks, whatever the router makes of it.
    ///
    /// # Errors
    /// Nobody listens, or the answer broke off.
    pub async fn request(&self, method: &str, path: &str) -> Result<Answer, ClientError> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let (status, code, text) = self.ask(request.body(Full::default())).await?;
        Ok(Answer { status: status.as_u16(), code, text })
    }

    /// Gets a page; `accept` is the type of document wanted. Status pages of a router that is
    /// still starting are as good as others.
    pub async fn get(&self, path: &str, accept: &str) -> Result<String, ClientError> {
        let request = Request::get(path).header("accept", accept).body(Full::default());
        let (status, _, text) = self.ask(request).await?;
        match status {
            StatusCode::NOT_FOUND => Err(ClientError::NotFound(text.trim_end().to_owned())),
            StatusCode::SERVICE_UNAVAILABLE if path.starts_with("/status") => Ok(text),
            status if status.is_success() => Ok(text),
            _ => Err(ClientError::Refused(text.trim_end().to_owned())),
        }
    }

    /// Sends a form.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<String, ClientError> {
        let body: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        self.change(Request::post(path), body.join("&")).await
    }

    /// Asks for something to be there.
    pub async fn put(&self, path: &str) -> Result<String, ClientError> {
        self.change(Request::put(path), String::new()).await
    }

    /// Asks for something to be gone.
    pub async fn delete(&self, path: &str) -> Result<String, ClientError> {
        self.change(Request::delete(path), String::new()).await
    }

    async fn change(
        &self,
        request: hyper::http::request::Builder,
        form: String,
    ) -> Result<String, ClientError> {
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::from(form));
        match self.ask(request).await? {
            (status, _, text) if status.is_success() => Ok(text),
            (StatusCode::NOT_FOUND, _, text) => {
                Err(ClientError::NotFound(text.trim_end().to_owned()))
            }
            (StatusCode::CONFLICT, _, text) => Err(ClientError::InUse(text.trim_end().to_owned())),
            (_, _, text) => Err(ClientError::Refused(text.trim_end().to_owned())),
        }
    }

    async fn ask(
        &self,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<(StatusCode, Option<ErrorCode>, String), ClientError> {
        let broken = |cause: String| ClientError::Broken { address: self.address.clone(), cause };
        let request = request.map_err(|error| broken(error.to_string()))?;
        let answer = async {
            match &self.address {
                Address::Tcp { host, port } => {
                    let host = if host.is_empty() { "127.0.0.1" } else { host };
                    let stream = TcpStream::connect((host, *port)).await;
                    self.exchange(stream.map(TokioIo::new), request).await
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await;
                    self.exchange(stream.map(TokioIo::new), request).await
                }
            }
        };
        match timeout(self.patience, answer).await {
            Ok(result) => result,
            Err(_) => Err(broken(format!("it took longer than {} s", self.patience.as_secs()))),
        }
    }

    async fn exchange(
        &self,
        stream: std::io::Result<impl Read + Write + Unpin + Send + 'static>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Option<ErrorCode>, String), ClientError> {
        let address = || self.address.clone();
        let broken = |error: &dyn ToString| ClientError::Broken {
            address: address(),
            cause: error.to_string(),
        };
        let stream = stream.map_err(|error| ClientError::NotRunning {
            address: address(),
            cause: error.to_string(),
        })?;
        request.headers_mut().insert("host", hyper::header::HeaderValue::from_static("weave"));
        let (mut sender, connection) =
            http1::handshake(stream).await.map_err(|error| broken(&error))?;
        let served = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = Response::into_parts(response);
        let body =
            Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| broken(&error))?;
        served.abort();
        let code = head.headers.get(ERROR_HEADER).and_then(|code| code.to_str().ok());
        let code = code.and_then(ErrorCode::of);
        Ok((head.status, code, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }
}

/// A value in a form or a query: everything but letters, digits and a few others as `%XX`.
pub fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// A path of these parts, whatever characters are in them.
pub fn path(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("/{}", escape(part))).collect()
}

/// The path with a query of one parameter.
pub fn with_query(path: &str, name: &str, value: &str) -> String {
    format!("{path}?{name}={}", escape(value))
}
