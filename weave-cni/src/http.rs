//! The least HTTP that asks a router something: a plugin lives for some milliseconds and asks
//! two or three questions.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// The longest answer: all addresses of a host.
const MAX_ANSWER: u64 = 16 << 20;
/// To reach a host that does not answer at all.
const CONNECT: Duration = Duration::from_secs(5);

/// Where the router is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    /// `host:port`.
    Tcp(String),
    /// The path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks once; `patience` is for each wait in the answer.
pub(crate) fn ask(
    address: &Address,
    method: &str,
    path: &str,
    patience: Duration,
) -> io::Result<Response> {
    // Version 1.0: the end of the answer is the end of the connection.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: weave\r\nContent-Length: 0\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    );
    match address {
        Address::Tcp(address) => {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in address.to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, CONNECT) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(patience))?;
                        return exchange(stream, &request);
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            exchange(stream, &request)
        }
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Response> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no complete answer"))
}

/// None if it ended too early.
fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let complete = length.is_none_or(|length| body.len() >= length);
    complete.then(|| Response { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let answer = |text| parse(text).map(|response| (response.status, response.body));
        assert_eq!(
            answer("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab"),
            Some((200, "ab".to_owned()))
        );
        assert_eq!(answer("HTTP/1.1 204 No Content\r\n\r\n"), Some((204, String::new())));
        for broken in [
            "",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 9\r\n\r\nab",
            "x y\r\n\r\n",
        ] {
            assert_eq!(answer(broken), None, "{broken}");
        }
    }
}
