//! From a fresh TCP connection to a [`Session`] (spec mesh.md, sections 3 to 5).
//!
//! ```text
//!   each side sends                                 as soon as it has read
//!   1. header: "weave", lowest, highest version     -
//!   2. 00, or 01 and its X25519 public key          the other's header
//!   3. its features, framed                         the other's flag and key
//!      sealed, if 01: the side that dialled         the other's flag and key
//!                     the side that accepted        the other's features
//! ```
//!
//! The side that dialled never waits within a step, so there is no deadlock, also with the
//! original, which waits on neither side. The side that accepted sends nothing that is sealed with
//! the password's key to a peer that has not shown that it has that key: otherwise anybody could
//! dial in, take the answer away and try passwords on it at leisure. Nothing is sent twice and
//! nothing is negotiated down: a router with a password does not talk to one without.

use bytes::{Buf, Bytes, BytesMut};
use weave_secretbox::TAG_LEN;
use zeroize::Zeroizing;

use super::features::{Features, FeaturesError, MAX_TEXT_LEN};
use super::header::{HEADER_LEN, Header, HeaderError, Version};
use super::key_exchange::{KeyExchange, LowOrderKey, PUBLIC_KEY_LEN};
use super::session::{
    FrameReceiver, FrameSender, MAX_MESSAGE_LEN, Session, SessionError, TooLongToSend,
};
use super::{ConnectionUid, Password, SessionKey};

/// The answer to a first message that does not open: an empty message whose seal opens with no
/// key (but one in 2^128). The peer finds the same error as this side, as it would with the
/// original, and learns nothing about the password.
const UNOPENABLE: [u8; 4 + TAG_LEN] = [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The longest first message: its text, and room for gob's lengths and the seal. Until the peer
/// is known it gets no more memory than this; what routers send is a few hundred bytes.
pub const MAX_FEATURES_MESSAGE_LEN: usize = MAX_TEXT_LEN + (2 << 10);

const PLAIN: u8 = 0;
const ENCRYPTED: u8 = 1;

/// What one side brings into a handshake.
pub struct HandshakeParams {
    /// Whether this side dialled.
    pub outbound: bool,
    /// With a password everything after the key exchange is sealed, and the peer must have the
    /// same.
    pub password: Option<Password>,
    /// Fresh random bytes, for this connection alone: the key pair is made of them.
    pub secret: Zeroizing<[u8; 32]>,
    /// What the peer is to know about this side.
    pub features: Features,
}

/// A handshake as a state machine.
///
/// It says something first: call [`Self::poll_transmit`] once it is made, and again after each
/// [`Self::handle_bytes`].
pub struct Handshake {
    outbound: bool,
    features: Features,
    transmit: BytesMut,
    received: BytesMut,
    step: Step,
}

/// What the peer is to send next.
enum Step {
    Header {
        credentials: Credentials,
    },
    Encryption {
        version: Version,
        credentials: Credentials,
    },
    Features {
        version: Version,
        key: Option<SessionKey>,
        sender: FrameSender,
        receiver: FrameReceiver,
    },
    /// Nothing: the handshake succeeded or failed.
    Over,
}

/// What this side has to say about encryption.
enum Credentials {
    None,
    Password { password: Password, pair: KeyExchange },
}

/// How far a handshake is.
#[derive(Debug)]
pub enum Progress {
    /// The peer has to send more.
    Pending,
    /// It is done. What came after it is in the session: poll it before reading more.
    Done(Box<Established>),
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Established {
    /// Carries the messages from here on.
    pub session: Session,
    /// The protocol in use.
    pub version: Version,
    /// What the peer tells about itself.
    pub remote: Features,
    /// Equal on both sides.
    pub connection_uid: ConnectionUid,
    /// Whether both sides trust the network between them (spec mesh.md, section 6).
    pub trusted: bool,
    /// What both sides derived, if there is a password. It seals the session whether or not the
    /// network is trusted.
    pub session_key: Option<SessionKey>,
}

impl Established {
    /// The key with which the transports have to seal frames: none if the network is trusted.
    pub fn overlay_key(&self) -> Option<&SessionKey> {
        self.session_key.as_ref().filter(|_| !self.trusted)
    }
}

/// Why no connection can be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It is no router, or one too old or too new.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The peer asks for a kind of encryption that does not exist.
    #[error("the peer sent encryption flag {0}, where 0 and 1 are known")]
    EncryptionFlag(u8),
    /// A password is set on this side only.
    #[error("this router has a password and the peer has none: set the same one on both")]
    PasswordOnlyHere,
    /// A password is set on the other side only.
    #[error("the peer has a password and this router has none: set the same one on both")]
    PasswordOnlyThere,
    /// The peer tries to choose the key by itself.
    #[error(transparent)]
    LowOrderKey(#[from] LowOrderKey),
    /// The first message is longer than any router sends.
    #[error("the first message: {0}")]
    Frame(SessionError),
    /// The passwords differ, or somebody changed the bytes on the way.
    #[error("the first message did not open: is the password the same on both sides?")]
    WrongPassword,
    /// This side has more to say about itself than fits.
    #[error("the features of this router: {0}")]
    OwnFeatures(TooLongToSend),
    /// The peer says something about itself that no connection can be made with.
    #[error(transparent)]
    Features(#[from] FeaturesError),
}

impl HandshakeError {
    /// Whether an operator has to look at the passwords of both sides.
    pub const fn is_about_passwords(&self) -> bool {
        matches!(self, Self::WrongPassword | Self::PasswordOnlyHere | Self::PasswordOnlyThere)
    }
}

impl Handshake {
    /// A handshake on a connection that was just opened.
    pub fn new(params: HandshakeParams) -> Self {
        let HandshakeParams { outbound, password, secret, features } = params;
        let credentials = match password {
            None => Credentials::None,
            Some(password) => Credentials::Password { password, pair: KeyExchange::new(*secret) },
        };
        Self {
            outbound,
            features,
            transmit: BytesMut::from(Header::OWN.encode().as_slice()),
            received: BytesMut::new(),
            step: Step::Header { credentials },
        }
    }

    /// What to send to the peer now.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let transmit = self.transmit.split().freeze();
        (!transmit.is_empty()).then_some(transmit)
    }

    /// Takes bytes as they come from the connection, cut anywhere. Ignores them once the
    /// handshake is over: from then on they belong to the session.
    ///
    /// # Errors
    /// The connection must be closed.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Progress, HandshakeError> {
        if matches!(self.step, Step::Over) {
            return Ok(Progress::Pending);
        }
        self.received.extend_from_slice(bytes);
        loop {
            match std::mem::replace(&mut self.step, Step::Over) {
                Step::Header { credentials } => {
                    let Some(theirs) = Header::decode(&self.received)? else {
                        self.step = Step::Header { credentials };
                        return Ok(Progress::Pending);
                    };
                    self.received.advance(HEADER_LEN);
                    let version = Header::OWN.negotiate(theirs)?;
                    self.transmit_encryption(&credentials);
                    self.step = Step::Encryption { version, credentials };
                }
                Step::Encryption { version, credentials } => {
                    let Some((len, key)) = credentials.agree(&self.received)? else {
                        self.step = Step::Encryption { version, credentials };
                        return Ok(Progress::Pending);
                    };
                    self.received.advance(len);
                    let mut sender = FrameSender::new(key.clone(), self.outbound);
                    if self.speaks_first(key.as_ref()) {
                        self.transmit_features(&mut sender)?;
                    }
                    let (limit, buffer) = (MAX_FEATURES_MESSAGE_LEN, BytesMut::new());
                    let receiver = FrameReceiver::new(key.clone(), self.outbound, limit, buffer);
                    self.step = Step::Features { version, key, sender, receiver };
                }
                Step::Features { version, key, mut sender, mut receiver } => {
                    // All further bytes are the receiver's.
                    receiver.handle_bytes(&self.received.split());
                    let message = match receiver.poll_message() {
                        Ok(message) => message,
                        Err(SessionError::BrokenSeal { .. }) => {
                            if !self.speaks_first(key.as_ref()) {
                                self.transmit.extend_from_slice(&UNOPENABLE);
                            }
                            return Err(HandshakeError::WrongPassword);
                        }
                        Err(error) => return Err(HandshakeError::Frame(error)),
                    };
                    let Some(message) = message else {
                        self.step = Step::Features { version, key, sender, receiver };
                        return Ok(Progress::Pending);
                    };
                    if !self.speaks_first(key.as_ref()) {
                        self.transmit_features(&mut sender)?;
                    }
                    let remote = Features::decode(&message)?;
                    receiver.set_limit(MAX_MESSAGE_LEN);
                    return Ok(Progress::Done(Box::new(Established {
                        session: Session::new(sender, receiver),
                        version,
                        connection_uid: self.features.connection_uid(&remote),
                        trusted: self.features.trusted && remote.trusted,
                        session_key: key,
                        remote,
                    })));
                }
                Step::Over => return Ok(Progress::Pending),
            }
        }
    }

    /// What the peer is to send next, for the message about a peer that does not.
    pub const fn waiting_for(&self) -> &'static str {
        match self.step {
            Step::Header { .. } => "the protocol header",
            Step::Encryption { .. } => "the public key",
            Step::Features { .. } => "the features",
            Step::Over => "nothing",
        }
    }

    fn transmit_encryption(&mut self, credentials: &Credentials) {
        match credentials {
            Credentials::None => self.transmit.extend_from_slice(&[PLAIN]),
            Credentials::Password { pair, .. } => {
                self.transmit.extend_from_slice(&[ENCRYPTED]);
                self.transmit.extend_from_slice(&pair.public_key());
            }
        }
    }

    /// Whether the features go out before those of the peer have come.
    const fn speaks_first(&self, key: Option<&SessionKey>) -> bool {
        self.outbound || key.is_none()
    }

    fn transmit_features(&mut self, sender: &mut FrameSender) -> Result<(), HandshakeError> {
        let frame = sender.frame(&[&self.features.encode()]);
        self.transmit.extend_from_slice(&frame.map_err(HandshakeError::OwnFeatures)?);
        Ok(())
    }
}

impl Credentials {
    /// Reads the peer's flag and key: how many bytes these are, and the key of the connection if
    /// it is to have one. `None` while there are too few bytes.
    fn agree(&self, bytes: &[u8]) -> Result<Option<(usize, Option<SessionKey>)>, HandshakeError> {
        match (self, bytes) {
            (_, []) => Ok(None),
            (Self::None, [PLAIN, ..]) => Ok(Some((1, None))),
            (Self::Password { password, pair }, [ENCRYPTED, rest @ ..]) => {
                let Some(public_key) = rest.first_chunk() else { return Ok(None) };
                let key = pair.session_key(*public_key, password)?;
                Ok(Some((1 + PUBLIC_KEY_LEN, Some(key))))
            }
            (Self::Password { .. }, [PLAIN, ..]) => Err(HandshakeError::PasswordOnlyHere),
            (Self::None, [ENCRYPTED, ..]) => Err(HandshakeError::PasswordOnlyThere),
            (_, [flag, ..]) => Err(HandshakeError::EncryptionFlag(*flag)),
        }
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("waiting_for", &self.waiting_for())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
