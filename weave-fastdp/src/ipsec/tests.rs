//! The keys of links of two routers, each with a thread and a kernel that records requests.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use weave_core::mesh::{ConnectionId, PeerName, SessionKey};
use weave_core::switch::Waker;
use weave_core::time::Instant;
use weave_xfrm::Spi;

use super::installer::tests::{ENDS, Host, start};
use super::reqid::reqid;
use super::*;

/// Time limit, far more than the threads need.
const PATIENCE: Duration = Duration::from_secs(20);

struct Side {
    ipsec: Ipsec,
    host: Host,
    link: Option<LinkKeys>,
    news: Receiver<()>,
}

fn side(own: u8, remote: u8) -> Side {
    let host = Host::default();
    let ipsec = Ipsec::serve(start(&host), reqid(6784), || Instant::ORIGIN).unwrap();
    let name = |last| PeerName::from_bytes([2, 0, 0, 0, 0, last]);
    let exchange = KeyExchange::new(name(own), name(remote), SessionKey([7; 32]));
    let (wake, news) = mpsc::channel();
    let waker = Waker::new(move || {
        let _ = wake.send(());
    });
    let link = ipsec.link(ConnectionId(1), ENDS, exchange, waker);
    Side { ipsec, host, link: Some(link), news }
}

impl Side {
    /// Waits for the next event.
    fn event(&mut self) -> KeyEvent {
        loop {
            if let Some(event) = self.link().poll() {
                return event;
            }
            self.news.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn link(&mut self) -> &mut LinkKeys {
        self.link.as_mut().unwrap()
    }
}

#[test]
fn both_sides_become_ready_and_leave_nothing() {
    let (mut a, mut b) = (side(1, 2), side(2, 1));
    a.link().confirm();
    let KeyEvent::Announce(from_a) = a.event() else { panic!() };
    b.link().handle_announcement(&from_a);
    b.link().confirm();
    let KeyEvent::Announce(from_b) = b.event() else { panic!() };
    a.link().handle_announcement(&from_b);
    for side in [&mut a, &mut b] {
        assert!(matches!(side.event(), KeyEvent::Ready));
        assert!(side.link().poll().is_none());
        assert_eq!(side.host.counts(), (2, 1, 1));
        side.link = None;
        side.ipsec.stop();
        let (states, policies, _) = side.host.counts();
        assert_eq!((states, policies), (0, 0));
    }
}

#[test]
fn a_key_is_renewed_and_the_neighbour_follows() {
    let (mut a, mut b) = (side(1, 2), side(2, 1));
    a.link().renew();
    assert!(a.link().poll().is_none(), "there is nothing to renew");
    a.link().confirm();
    let KeyEvent::Announce(first) = a.event() else { panic!() };
    a.link().renew();
    let KeyEvent::Announce(second) = a.event() else { panic!() };
    assert_ne!(first, second);
    b.link().confirm();
    let KeyEvent::Announce(_) = b.event() else { panic!() };
    b.link().handle_announcement(&first);
    assert!(matches!(b.event(), KeyEvent::Ready));
    b.link().handle_announcement(&second);
    b.link = None;
    b.ipsec.stop();
    let notes = b.host.notes();
    let first = notes.iter().position(|note| note == "encrypt 257").unwrap();
    let expected = ["encrypt 257", "policy 257", "encrypt 258", "policy 258", "delete 257"];
    assert_eq!(notes[first..first + 5], expected);
}

#[test]
fn keys_that_come_in_a_row_are_not_queued() {
    let mut a = side(1, 2);
    for number in 1..=100 {
        let announcement = Announcement { nonce: [1; 32], spi: Spi::new(number).unwrap() };
        a.link().handle_announcement(&announcement.encode());
    }
    a.link().confirm();
    assert!(matches!(a.event(), KeyEvent::Announce(_)));
    while !matches!(a.event(), KeyEvent::Ready) {}
    a.link = None;
    a.ipsec.stop();
    let installed = a.host.notes().iter().filter(|note| note.starts_with("encrypt ")).count();
    assert!((1..=2).contains(&installed), "{installed}");
}

#[test]
fn a_malformed_announcement_and_the_end_of_the_thread_fail_the_link_once() {
    let mut a = side(1, 2);
    a.link().handle_announcement(&[0; 36]);
    let KeyEvent::Failed(error) = a.event() else { panic!() };
    assert_eq!(error.to_string(), "a key announcement has 36 bytes instead of 64");
    a.ipsec.stop();
    a.link().confirm();
    assert!(a.link().poll().is_none());

    let mut b = side(2, 1);
    b.ipsec.stop();
    b.link().confirm();
    assert!(matches!(b.event(), KeyEvent::Failed(IpsecError::ThreadEnded)));
}
