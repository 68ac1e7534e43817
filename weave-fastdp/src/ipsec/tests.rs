//! Links of two routers, each with a thread and a kernel that only takes notes.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use weave_core::mesh::{PeerName, SessionKey};

use super::keeper::tests::{ENDS, Host, start};
use super::*;

/// Far more than the threads take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Side {
    ipsec: Ipsec,
    host: Host,
    link: Option<SealedLink>,
    news: Receiver<()>,
}

fn side(own: u8, remote: u8) -> Side {
    let host = Host::default();
    let ipsec = Ipsec::serve(start(&host), reqid(6784), || Instant::ORIGIN).unwrap();
    let name = |last| PeerName::from_bytes([2, 0, 0, 0, 0, last]);
    let exchange = Exchange::new(name(own), name(remote), SessionKey([7; 32]));
    let (wake, news) = mpsc::channel();
    let waker = Waker::new(move || {
        let _ = wake.send(());
    });
    let link = ipsec.link(ConnectionId(1), ENDS, exchange, waker);
    Side { ipsec, host, link: Some(link), news }
}

impl Side {
    /// The next event, when there is one.
    fn event(&mut self) -> SealEvent {
        loop {
            if let Some(event) = self.link().poll() {
                return event;
            }
            self.news.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn link(&mut self) -> &mut SealedLink {
        self.link.as_mut().unwrap()
    }
}

#[test]
fn both_sides_become_ready_and_leave_nothing() {
    let (mut a, mut b) = (side(1, 2), side(2, 1));
    a.link().confirm();
    let SealEvent::Announce(from_a) = a.event() else { panic!() };
    b.link().handle_announcement(&from_a);
    b.link().confirm();
    let SealEvent::Announce(from_b) = b.event() else { panic!() };
    a.link().handle_announcement(&from_b);
    for side in [&mut a, &mut b] {
        assert_eq!(side.event(), SealEvent::Ready);
        assert_eq!(side.link().poll(), None);
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
    assert_eq!(a.link().poll(), None, "there is nothing to renew");
    a.link().confirm();
    let SealEvent::Announce(first) = a.event() else { panic!() };
    a.link().renew();
    let SealEvent::Announce(second) = a.event() else { panic!() };
    assert_ne!(first, second);
    b.link().confirm();
    let SealEvent::Announce(_) = b.event() else { panic!() };
    b.link().handle_announcement(&first);
    assert_eq!(b.event(), SealEvent::Ready);
    b.link().handle_announcement(&second);
    b.link = None;
    b.ipsec.stop();
    let notes = b.host.notes();
    let first = notes.iter().position(|note| note == "seal 257").unwrap();
    let expected = ["seal 257", "policy 257", "seal 258", "policy 258", "delete 257"];
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
    assert!(matches!(a.event(), SealEvent::Announce(_)));
    while a.event() != SealEvent::Ready {}
    a.link = None;
    a.ipsec.stop();
    let sealed = a.host.notes().iter().filter(|note| note.starts_with("seal ")).count();
    assert!((1..=2).contains(&sealed), "{sealed}");
}

#[test]
fn nonsense_and_the_end_of_the_thread_fail_the_link_once() {
    let mut a = side(1, 2);
    a.link().handle_announcement(&[0; 36]);
    let expected = "a key announcement has 36 bytes instead of 64".to_owned();
    assert_eq!(a.event(), SealEvent::Failed(expected));
    a.ipsec.stop();
    a.link().confirm();
    assert_eq!(a.link().poll(), None);

    let mut b = side(2, 1);
    b.ipsec.stop();
    b.link().confirm();
    let expected = "the thread for IPsec has ended".to_owned();
    assert_eq!(b.event(), SealEvent::Failed(expected));
}
