//! How two neighbours agree on their keys (spec fastdp.md, section 9.2): a state machine without
//! sockets, and without time, since each message comes exactly once over the mesh connection.
//!
//! ```text
//!  receive   idle ──confirm──▶ asked ──the kernel receives──▶ announced (message 1)
//!                                                              │      ▲
//!                                                              └─renew┘
//!  send      idle ──message 1──▶ asked ──the kernel seals──▶ sealing
//!
//!  ready: announced and sealing. Only then may anything leave.
//! ```
//!
//! The directions know nothing of each other: either side may be first. A later message 1
//! replaces the key of what is sent. Weave Net sends none, and takes none for granted, so keys are
//! renewed between routers like this one alone.

use weave_core::mesh::{PeerName, SessionKey};
use weave_xfrm::{AeadKey, Spi};

use super::announcement::{ANNOUNCEMENT_LEN, Announcement, AnnouncementError};
use super::keys::{NONCE_LEN, derive};

/// The keys of one connection.
#[derive(Debug)]
pub struct Exchange {
    own: PeerName,
    remote: PeerName,
    session: SessionKey,
    receive: Receive,
    seals: bool,
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

/// What the kernel is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Choose a number, and receive with this key.
    Receive {
        /// The key.
        key: AeadKey,
    },
    /// Seal what is sent.
    Send {
        /// The number that the neighbour's kernel chose.
        spi: Spi,
        /// The key.
        key: AeadKey,
    },
}

impl Exchange {
    /// For a connection with this session key, not yet confirmed.
    pub const fn new(own: PeerName, remote: PeerName, session: SessionKey) -> Self {
        Self { own, remote, session, receive: Receive::Idle, seals: false }
    }

    /// The connection is registered. `nonce` is of random bytes, for this call alone.
    pub fn confirm(&mut self, nonce: [u8; NONCE_LEN]) -> Option<Order> {
        if !matches!(self.receive, Receive::Idle) {
            return None;
        }
        self.receive = Receive::Asked { nonce };
        Some(Order::Receive { key: derive(&self.session, &nonce, self.own) })
    }

    /// The key that is received with has been in use for long enough. `nonce` as for
    /// [`Self::confirm`].
    pub fn renew(&mut self, nonce: [u8; NONCE_LEN]) -> Option<Order> {
        if !matches!(self.receive, Receive::Announced) {
            return None;
        }
        self.receive = Receive::Renewing { nonce };
        Some(Order::Receive { key: derive(&self.session, &nonce, self.own) })
    }

    /// The kernel does not receive with a key. Whether the link can go on, with the key before.
    pub fn handle_refusal(&mut self) -> bool {
        let renewing = matches!(self.receive, Receive::Renewing { .. });
        if renewing {
            self.receive = Receive::Announced;
        }
        renewing
    }

    /// The kernel receives under this number. What is to be sent as message 1.
    pub fn handle_receiving(&mut self, spi: Spi) -> Option<[u8; ANNOUNCEMENT_LEN]> {
        let (Receive::Asked { nonce } | Receive::Renewing { nonce }) = self.receive else {
            return None;
        };
        self.receive = Receive::Announced;
        Some(Announcement { nonce, spi }.encode())
    }

    /// The neighbour sent message 1.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn handle_announcement(&mut self, data: &[u8]) -> Result<Order, AnnouncementError> {
        let Announcement { nonce, spi } = Announcement::decode(data)?;
        Ok(Order::Send { spi, key: derive(&self.session, &nonce, self.remote) })
    }

    /// The kernel seals what is sent.
    pub const fn handle_sending(&mut self) {
        self.seals = true;
    }

    /// Whether frames may leave.
    pub const fn is_ready(&self) -> bool {
        self.seals && matches!(self.receive, Receive::Announced | Receive::Renewing { .. })
    }

    /// What it waits for, for the operator; none if it is ready.
    pub const fn waits_for(&self) -> Option<&'static str> {
        match (&self.receive, self.seals) {
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

    fn pair() -> [Exchange; 2] {
        let session = SessionKey([0xa0; 32]);
        [Exchange::new(name(1), name(2), session.clone()), Exchange::new(name(2), name(1), session)]
    }

    fn spi(number: u32) -> Spi {
        Spi::new(number).unwrap()
    }

    #[test]
    fn what_one_side_seals_the_other_opens() {
        let [mut a, mut b] = pair();
        let Some(Order::Receive { key: a_opens }) = a.confirm([1; 32]) else { panic!() };
        let Some(Order::Receive { key: b_opens }) = b.confirm([2; 32]) else { panic!() };
        assert_ne!(a_opens, b_opens);
        let from_a = a.handle_receiving(spi(0x100)).unwrap();
        let from_b = b.handle_receiving(spi(0x200)).unwrap();
        let sends = |spi, key| Ok(Order::Send { spi, key });
        assert_eq!(a.handle_announcement(&from_b), sends(spi(0x200), b_opens));
        assert_eq!(b.handle_announcement(&from_a), sends(spi(0x100), a_opens));
        assert!(!a.is_ready() && !b.is_ready(), "the kernel has not done it yet");
        a.handle_sending();
        assert!(a.is_ready() && a.waits_for().is_none() && !b.is_ready());
    }

    #[test]
    fn the_neighbour_may_be_first() {
        let [mut a, mut b] = pair();
        b.confirm([2; 32]).unwrap();
        let from_b = b.handle_receiving(spi(0x200)).unwrap();
        a.handle_announcement(&from_b).unwrap();
        a.handle_sending();
        assert_eq!((a.is_ready(), a.waits_for()), (false, Some("setting up IPsec")));
        assert_eq!(b.waits_for(), Some("waiting for the neighbour's key for IPsec"));
        a.confirm([1; 32]).unwrap();
        assert!(!a.is_ready());
        a.handle_receiving(spi(0x100)).unwrap();
        assert!(a.is_ready());
    }

    #[test]
    fn each_side_announces_once() {
        let [mut a, _] = pair();
        assert_eq!(a.handle_receiving(spi(0x100)), None, "nobody asked");
        assert!(a.confirm([1; 32]).is_some());
        assert_eq!(a.confirm([2; 32]), None, "a nonce too many would be a key too many");
        assert!(a.handle_receiving(spi(0x100)).is_some());
        assert_eq!(a.handle_receiving(spi(0x101)), None);
    }

    #[test]
    fn a_key_is_renewed_while_the_one_before_is_in_use() {
        let [mut a, mut b] = pair();
        assert_eq!(a.renew([3; 32]), None, "there is none yet");
        let Some(Order::Receive { key: first }) = a.confirm([1; 32]) else { panic!() };
        a.handle_receiving(spi(0x100)).unwrap();
        a.handle_sending();
        let Some(Order::Receive { key: second }) = a.renew([2; 32]) else { panic!() };
        assert_ne!(first, second);
        assert!(a.is_ready() && a.waits_for().is_none());
        assert_eq!(a.renew([3; 32]), None, "one at a time");
        let message = a.handle_receiving(spi(0x101)).unwrap();
        let expected = Order::Send { spi: spi(0x101), key: second };
        assert_eq!(b.handle_announcement(&message), Ok(expected));
        assert!(a.renew([3; 32]).is_some());
        assert!(a.handle_refusal() && a.is_ready(), "the second stays");
        assert!(!a.handle_refusal());
    }

    #[test]
    fn other_passwords_make_other_keys() {
        let [mut a, _] = pair();
        let mut other = Exchange::new(name(2), name(1), SessionKey([0xa1; 32]));
        let Some(Order::Receive { key }) = a.confirm([1; 32]) else { panic!() };
        let message = a.handle_receiving(spi(0x100)).unwrap();
        let Ok(Order::Send { key: sealed, .. }) = other.handle_announcement(&message) else {
            panic!()
        };
        assert_ne!(sealed, key);
    }
}
