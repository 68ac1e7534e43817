//! One TCP connection, from dialling or accepting to its records.

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;

use mio::net::TcpStream;
use ring::rand::{SecureRandom as _, SystemRandom};
use weave_core::switch::{Inject, Worker};
use weave_core::time::Instant;

use crate::buffer::{Buffer, Greeting, Record};
use crate::seal::{Opener, Side, keys};
use crate::state::LinkState;
use crate::wire::{
    ACCEPTOR_GREETING_LEN, Content, DIALLER_GREETING_LEN, DiallerGreeting, Salt, StreamError, Token,
};

pub(crate) struct Connection {
    pub(crate) socket: Arc<TcpStream>,
    pub(crate) remote: IpAddr,
    pub(crate) phase: Phase,
}

pub(crate) enum Phase {
    /// The TCP connection is being opened.
    Dialling { link: Arc<LinkState>, token: Token },
    /// The neighbour has to answer the greeting.
    Greeted { link: Arc<LinkState>, salt: Salt, greeting: Greeting<ACCEPTOR_GREETING_LEN> },
    /// The dialler has to show a token.
    Accepted { until: Instant, greeting: Greeting<DIALLER_GREETING_LEN> },
    /// Records come in.
    Open(Box<Open>),
}

/// A connection over which records come in.
pub(crate) struct Open {
    pub(crate) link: Arc<LinkState>,
    opener: Opener,
    pub(crate) buffer: Buffer,
}

/// Why a connection comes to its end.
pub(crate) enum End {
    Closed,
    Io(io::Error),
    Stream(StreamError),
    /// The dialler showed no token of a link.
    Token,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the neighbour closed the TCP connection"),
            Self::Io(error) => write!(f, "TCP: {error}"),
            Self::Stream(error) => write!(f, "{error}"),
            Self::Token => f.write_str("no token of a link"),
        }
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl Connection {
    pub(crate) fn link(&self) -> Option<&Arc<LinkState>> {
        match &self.phase {
            Phase::Accepted { .. } => None,
            Phase::Dialling { link, .. } | Phase::Greeted { link, .. } => Some(link),
            Phase::Open(open) => Some(&open.link),
        }
    }

    /// The TCP connection that was dialled is there, or is not.
    pub(crate) fn greet(&mut self, random: &SystemRandom) -> Result<(), End> {
        let Phase::Dialling { link, token } = &self.phase else { return Ok(()) };
        if let Some(error) = self.socket.take_error().map_err(End::Io)? {
            return Err(End::Io(error));
        }
        if self.socket.peer_addr().is_err() {
            return Ok(());
        }
        let (link, token) = (link.clone(), *token);
        let salt = random_salt(random)?;
        send(&self.socket, &DiallerGreeting { token, salt }.encode())?;
        self.phase = Phase::Greeted { link, salt, greeting: Greeting::new() };
        Ok(())
    }

    /// Both greetings are there: records follow.
    pub(crate) fn open(
        &mut self,
        link: Arc<LinkState>,
        side: Side,
        dialler: &Salt,
        acceptor: &Salt,
    ) {
        let (sealer, opener) = keys(link.session_key.as_ref(), side, dialler, acceptor);
        link.outgoing().connect(self.socket.clone(), sealer);
        link.counters.connections.increment();
        link.send_keepalive();
        self.phase = Phase::Open(Box::new(Open { link, opener, buffer: Buffer::new() }));
    }

    /// Closes the socket, of which data threads may hold a reference.
    pub(crate) fn shut_down(&self) {
        if let Some(link) = self.link() {
            link.outgoing().disconnect(&self.socket);
        }
        // It may not be connected.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Open {
    /// Hands over the frames of the records that are complete.
    pub(crate) fn take_in(
        &mut self,
        now: Instant,
        worker: &mut Worker,
        port: &mut dyn Inject,
    ) -> Result<(), StreamError> {
        let Self { link, opener, buffer } = self;
        let mut pass = worker.pass(now, port);
        let mut heard = false;
        while let Some(Record { length, body }) = buffer.next_record()? {
            let content = Content::decode(opener.open(length, body)?)?;
            heard = true;
            if let Some((arrival, frame)) = content.arrival(link.neighbour) {
                link.counters.rx_frames.increment();
                link.counters.rx_bytes.add(frame.bytes.len());
                pass.received(arrival, frame);
            }
        }
        drop(pass);
        if heard && link.machine().is_up() {
            link.machine().heard(now);
        } else if heard {
            link.update(|machine| machine.heard(now));
        }
        Ok(())
    }
}

/// Sends a greeting, for which a new socket always has room.
pub(crate) fn send(mut socket: &TcpStream, greeting: &[u8]) -> Result<(), End> {
    socket.write_all(greeting).map_err(End::Io)
}

pub(crate) fn random_salt(random: &SystemRandom) -> Result<Salt, End> {
    let mut salt = Salt::default();
    random.fill(&mut salt).map_err(|_| End::Io(io::Error::other("no random numbers")))?;
    Ok(salt)
}
