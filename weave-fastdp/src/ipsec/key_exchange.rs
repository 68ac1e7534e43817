//! The state machine by which two neighbours agree on their keys (spec fastdp.md, section 9.2). It
//! needs no timer, since each message comes exactly once over the mesh connection.
//!
//! ```text
//!  receive   idle ──confirm──▶ asked ──the kernel receives──▶ announced (message 1)
//!                                                              │      ▲
//!                                                              └─renew┘
//!  send      idle ──message 1──▶ asked ──the kernel encrypts──▶ encrypting
//!
//!  ready: announced and encrypting. Only then may anything leave.
//! ```
//!
//! The directions are independent: either side may be first. A later message 1 replaces the key for
//! sending. Weave Net never sends a second one and does not expect one, so keys are only renewed
//! between routers of this kind.

use weave_core::mesh::{PeerName, SessionKey};
use weave_xfrm::{AeadKey, Spi};

use super::announcement::{ANNOUNCEMENT_LEN, Announcement, AnnouncementError};
use super::keys::{NONCE_LEN, derive};

/// The key exchange of one connection.
#[derive(Debug)]
pub struct KeyExchange {
    own: PeerName,
    remote: PeerName,
    session: SessionKey,
    receive: Receive,
    encrypts: bool,
}

#[derive(Debug)]
enum Receive {
    Idle,
    Asked {
        nonce: [u8; NONCE_LEN],
    },
    Announced,
    /// The key before is still in use.
    Renewing {
        nonce: [u8; NONCE_LEN],
    },
}

/// A command about a key for the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyCommand {
    /// Choose an SPI, and receive with a key.
    Receive {
        /// Key for receiving.
        key: AeadKey,
    },
    /// Encrypt with a key.
    Send {
        /// SPI that the neighbour's kernel chose.
        spi: Spi,
        /// Key for sending.
        key: AeadKey,
    },
}

impl KeyExchange {
    /// Creates the key exchange of a connection that is not yet confirmed.
    pub const fn new(own: PeerName, remote: PeerName, session: SessionKey) -> Self {
        Self { own, remote, session, receive: Receive::Idle, encrypts: false }
    }

    /// Starts the exchange, since the connection is registered. `nonce` has random bytes that are
    /// used for no other call.
    pub fn confirm(&mut self, nonce: [u8; NONCE_LEN]) -> Option<KeyCommand> {
        if !matches!(self.receive, Receive::Idle) {
            return None;
        }
        self.receive = Receive::Asked { nonce };
        Some(KeyCommand::Receive { key: derive(&self.session, &nonce, self.own) })
    }

    /// Renews the key for receiving. `nonce` is as for [`Self::confirm`].
    pub fn renew(&mut self, nonce: [u8; NONCE_LEN]) -> Option<KeyCommand> {
        if !matches!(self.receive, Receive::Announced) {
            return None;
        }
        self.receive = Receive::Renewing { nonce };
        Some(KeyCommand::Receive { key: derive(&self.session, &nonce, self.own) })
    }

    /// Handles the kernel's refusal of a key for receiving. Returns whether the link can continue
    /// with the key before.
    pub fn handle_refusal(&mut self) -> bool {
        let renewing = matches!(self.receive, Receive::Renewing { .. });
        if renewing {
            self.receive = Receive::Announced;
        }
        renewing
    }

    /// Handles that the kernel receives under this SPI. Returns message 1 for the neighbour.
    pub fn handle_receiving(&mut self, spi: Spi) -> Option<[u8; ANNOUNCEMENT_LEN]> {
        let (Receive::Asked { nonce } | Receive::Renewing { nonce }) = self.receive else {
            return None;
        };
        self.receive = Receive::Announced;
        Some(Announcement { nonce, spi }.encode())
    }

    /// Handles message 1 of the neighbour.
    ///
    /// # Errors
    /// Fails if the message is malformed.
    pub fn handle_announcement(&mut self, data: &[u8]) -> Result<KeyCommand, AnnouncementError> {
        let Announcement { nonce, spi } = Announcement::decode(data)?;
        Ok(KeyCommand::Send { spi, key: derive(&self.session, &nonce, self.remote) })
    }

    /// Handles that the kernel encrypts.
    pub const fn handle_sending(&mut self) {
        self.encrypts = true;
    }

    /// Returns whether frames may leave.
    pub const fn is_ready(&self) -> bool {
        self.encrypts && matches!(self.receive, Receive::Announced | Receive::Renewing { .. })
    }

    /// Returns what the exchange waits for, for the operator; `None` if it is ready.
    pub const fn problem(&self) -> Option<&'static str> {
        match (&self.receive, self.encrypts) {
            (Receive::Announced | Receive::Renewing { .. }, true) => None,
            (Receive::Announced | Receive::Renewing { .. }, false) => {
                Some("waiting for the neighbour's key for IPsec")
            }
            (Receive::Idle | Receive::Asked { .. }, _) => Some("setting up IPsec"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(last: u8) -> PeerName {
        PeerName::from_bytes([2, 0, 0, 0, 0, last])
    }

    fn pair() -> [KeyExchange; 2] {
        let session = SessionKey([0xa0; 32]);
        [
            KeyExchange::new(name(1), name(2), session.clone()),
            KeyExchange::new(name(2), name(1), session),
        ]
    }

    fn spi(number: u32) -> Spi {
        Spi::new(number).unwrap()
    }

    #[test]
    fn each_side_decrypts_with_the_key_of_the_other() {
        let [mut a, mut b] = pair();
        let Some(KeyCommand::Receive { key: a_receives }) = a.confirm([1; 32]) else { panic!() };
        let Some(KeyCommand::Receive { key: b_receives }) = b.confirm([2; 32]) else { panic!() };
        assert_ne!(a_receives, b_receives);
        let from_a = a.handle_receiving(spi(0x100)).unwrap();
        let from_b = b.handle_receiving(spi(0x200)).unwrap();
        let sends = |spi, key| Ok(KeyCommand::Send { spi, key });
        assert_eq!(a.handle_announcement(&from_b), sends(spi(0x200), b_receives));
        assert_eq!(b.handle_announcement(&from_a), sends(spi(0x100), a_receives));
        assert!(!a.is_ready() && !b.is_ready(), "the kernel has not done it yet");
        a.handle_sending();
        assert!(a.is_ready() && a.problem().is_none() && !b.is_ready());
    }

    #[test]
    fn the_neighbour_may_be_first() {
        let [mut a, mut b] = pair();
        b.confirm([2; 32]).unwrap();
        let from_b = b.handle_receiving(spi(0x200)).unwrap();
        a.handle_announcement(&from_b).unwrap();
        a.handle_sending();
        assert_eq!((a.is_ready(), a.problem()), (false, Some("setting up IPsec")));
        assert_eq!(b.problem(), Some("waiting for the neighbour's key for IPsec"));
        a.confirm([1; 32]).unwrap();
        assert!(!a.is_ready());
        a.handle_receiving(spi(0x100)).unwrap();
        assert!(a.is_ready());
    }

    #[test]
    fn each_side_announces_once() {
        let [mut a, _] = pair();
        assert_eq!(a.handle_receiving(spi(0x100)), None, "no key was asked for");
        assert!(a.confirm([1; 32]).is_some());
        assert_eq!(a.confirm([2; 32]), None, "a nonce too many would be a key too many");
        assert!(a.handle_receiving(spi(0x100)).is_some());
        assert_eq!(a.handle_receiving(spi(0x101)), None);
    }

    #[test]
    fn a_key_is_renewed_while_the_one_before_is_in_use() {
        let [mut a, mut b] = pair();
        assert_eq!(a.renew([3; 32]), None, "there is none yet");
        let Some(KeyCommand::Receive { key: first }) = a.confirm([1; 32]) else { panic!() };
        a.handle_receiving(spi(0x100)).unwrap();
        a.handle_sending();
        let Some(KeyCommand::Receive { key: second }) = a.renew([2; 32]) else { panic!() };
        assert_ne!(first, second);
        assert!(a.is_ready() && a.problem().is_none());
        assert_eq!(a.renew([3; 32]), None, "one at a time");
        let message = a.handle_receiving(spi(0x101)).unwrap();
        let expected = KeyCommand::Send { spi: spi(0x101), key: second };
        assert_eq!(b.handle_announcement(&message), Ok(expected));
        assert!(a.renew([3; 32]).is_some());
        assert!(a.handle_refusal() && a.is_ready(), "the second stays");
        assert!(!a.handle_refusal());
    }

    #[test]
    fn other_passwords_make_other_keys() {
        let [mut a, _] = pair();
        let mut other = KeyExchange::new(name(2), name(1), SessionKey([0xa1; 32]));
        let Some(KeyCommand::Receive { key }) = a.confirm([1; 32]) else { panic!() };
        let message = a.handle_receiving(spi(0x100)).unwrap();
        let Ok(KeyCommand::Send { key: other_key, .. }) = other.handle_announcement(&message)
        else {
            panic!()
        };
        assert_ne!(other_key, key);
    }
}
