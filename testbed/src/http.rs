//! The least HTTP/1.0 that asks a router something.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Namespace;

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

pub(crate) fn request(
    namespace: &Namespace,
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<Response> {
    let (address, request) = (
        address.to_owned(),
        format!(
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let answer = namespace.enter(move || -> Result<String> {
        let mut stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the HTTP header")?;
    let status = head.split(' ').nth(1).context("no HTTP status")?.parse()?;
    Ok(Response { status, body: body.to_owned() })
}
