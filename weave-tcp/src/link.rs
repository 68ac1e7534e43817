//! The state of a link to a neighbour, without sockets.
//!
//! ```text
//!   acceptor: confirm ──▶ offer port and token over the mesh
//!   dialler:  offer ────▶ dial ──▶ greetings ──▶ first record ──▶ up
//!                          ▲                                       │ silent, closed
//!                          └──────── after a pause ◀───────────────┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use weave_core::switch::LinkEvent;
use weave_core::time::Instant;

use crate::seal::Side;
use crate::wire::{TOKEN_LEN, Token};

/// A router that says nothing else says at least this often that it is there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A neighbour that says nothing for so long is not reached any more.
const MAX_SILENCE: Duration = Duration::from_secs(20);
/// From dialling to the first record.
const OPENING_LIMIT: Duration = Duration::from_secs(10);
/// The pause before the second attempt. Each further one is twice as long, up to the limit.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Message of the acceptor to the dialler over the mesh: `| 2 port | 16 token |`.
const OFFER: u8 = 0;

/// What the driver has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Open a TCP connection to this port of the neighbour, and show the token.
    Dial { port: u16, token: Token },
    /// Close the TCP connection, if there is one.
    HangUp,
    /// Send a record that says that this router is there.
    Keepalive,
}

/// The control half of a link as a state machine.
pub(crate) struct Machine {
    side: Side,
    /// Of this router; what the acceptor tells.
    port: u16,
    token: Token,
    confirmed: bool,
    /// What the dialler was told.
    offer: Option<(u16, Token)>,
    state: State,
    established: bool,
    /// Attempts in a row that failed.
    failures: u32,
    /// Why there is no TCP connection.
    problem: Option<String>,
    events: VecDeque<LinkEvent>,
    orders: VecDeque<Order>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing to do until the neighbour does something.
    Idle,
    /// The next attempt is due.
    Pausing { until: Instant },
    /// No record has come over the new TCP connection.
    Opening { until: Instant },
    /// Records come in.
    Up { heard_at: Instant, keepalive_at: Instant },
}

impl Machine {
    pub(crate) fn new(side: Side, port: u16, token: Token) -> Self {
        Self {
            side,
            port,
            token,
            confirmed: false,
            offer: None,
            state: State::Idle,
            established: false,
            failures: 0,
            problem: None,
            events: VecDeque::new(),
            orders: VecDeque::new(),
        }
    }

    /// The link may send.
    pub(crate) fn confirm(&mut self, now: Instant) {
        self.confirmed = true;
        match self.side {
            Side::Acceptor => {
                let data = [&self.port.to_be_bytes()[..], &self.token].concat();
                self.events.push_back(LinkEvent::Control { message: OFFER, data });
            }
            Side::Dialler => self.dial(now),
        }
    }

    /// The neighbour says something over the mesh. What is no offer is ignored: a later version
    /// may say more.
    pub(crate) fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]) {
        let Some(([a, b], token)) = data.split_first_chunk::<2>() else { return };
        let Ok(token) = <[u8; TOKEN_LEN]>::try_from(token) else { return };
        if (message, self.side) == (OFFER, Side::Dialler) && self.offer.is_none() {
            self.offer = Some((u16::from_be_bytes([*a, *b]), token));
            if self.confirmed {
                self.dial(now);
            }
        }
    }

    fn dial(&mut self, now: Instant) {
        let Some((port, token)) = self.offer else { return };
        self.state = State::Opening { until: now + OPENING_LIMIT };
        self.orders.push_back(Order::Dial { port, token });
    }

    /// Records came in over the TCP connection, perhaps the first ones.
    pub(crate) fn heard(&mut self, now: Instant) {
        if let State::Up { heard_at, .. } = &mut self.state {
            *heard_at = now;
            return;
        }
        self.state = State::Up { heard_at: now, keepalive_at: now + KEEPALIVE_INTERVAL };
        self.failures = 0;
        self.problem = None;
        let first = !std::mem::replace(&mut self.established, true);
        self.events.push_back(if first {
            LinkEvent::Established
        } else {
            LinkEvent::Healthy(true)
        });
    }

    /// There is no TCP connection any more, or an attempt to open one failed.
    pub(crate) fn closed(&mut self, now: Instant, reason: &str) {
        if let State::Up { .. } = self.state {
            self.events.push_back(LinkEvent::Healthy(false));
        }
        self.problem = Some(reason.to_owned());
        self.state = match self.side {
            Side::Acceptor => State::Idle,
            Side::Dialler => {
                let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(10));
                self.failures = self.failures.saturating_add(1);
                State::Pausing { until: now + pause.min(MAX_PAUSE) }
            }
        };
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Pausing { until } if *until <= now => self.dial(now),
            State::Opening { until } if *until <= now => {
                self.orders.push_back(Order::HangUp);
                self.closed(now, "no answer over TCP");
            }
            State::Up { heard_at, .. } if *heard_at + MAX_SILENCE <= now => {
                self.orders.push_back(Order::HangUp);
                self.closed(now, "the neighbour is silent");
            }
            State::Up { keepalive_at, .. } if *keepalive_at <= now => {
                *keepalive_at = now + KEEPALIVE_INTERVAL;
                self.orders.push_back(Order::Keepalive);
            }
            _ => {}
        }
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Pausing { until } | State::Opening { until } => Some(until),
            State::Up { heard_at, keepalive_at } => Some(keepalive_at.min(heard_at + MAX_SILENCE)),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    pub(crate) fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// What a dialler has to show.
    pub(crate) const fn token(&self) -> &Token {
        &self.token
    }

    /// Whether this router takes in TCP connections for this link.
    pub(crate) fn accepts(&self) -> bool {
        self.confirmed && self.side == Side::Acceptor
    }

    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether records come in.
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = [9; 16];
    const PORT: u16 = 6785;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn offer() -> Vec<u8> {
        let mut acceptor = Machine::new(Side::Acceptor, PORT, TOKEN);
        acceptor.confirm(at(0));
        let Some(LinkEvent::Control { message: OFFER, data }) = acceptor.poll_event() else {
            panic!("no offer");
        };
        data
    }

    fn dialler() -> Machine {
        let mut dialler = Machine::new(Side::Dialler, 1, [0; 16]);
        dialler.handle_control(at(0), OFFER, &offer());
        dialler.confirm(at(0));
        assert_eq!(dialler.poll_order(), Some(Order::Dial { port: PORT, token: TOKEN }));
        dialler
    }

    #[test]
    fn the_offer_may_come_before_or_after_the_confirmation() {
        dialler();
        let mut late = Machine::new(Side::Dialler, 1, [0; 16]);
        late.confirm(at(0));
        assert_eq!(late.poll_order(), None);
        late.handle_control(at(1), OFFER, &offer());
        assert_eq!(late.poll_order(), Some(Order::Dial { port: PORT, token: TOKEN }));
    }

    #[test]
    fn what_is_no_offer_changes_nothing() {
        let mut machine = Machine::new(Side::Dialler, 1, [0; 16]);
        machine.confirm(at(0));
        for (message, data) in [(1, offer()), (0, vec![]), (0, vec![1; 17]), (0, vec![1; 19])] {
            machine.handle_control(at(0), message, &data);
            assert_eq!(machine.poll_order(), None, "{message} {data:?}");
        }
        let mut acceptor = Machine::new(Side::Acceptor, PORT, TOKEN);
        acceptor.confirm(at(0));
        acceptor.handle_control(at(0), OFFER, &offer());
        assert_eq!(acceptor.poll_order(), None, "one side alone dials");
    }

    #[test]
    fn a_second_offer_does_not_move_the_link() {
        let mut machine = dialler();
        let mut other = offer();
        other[0] ^= 1;
        machine.handle_control(at(1), OFFER, &other);
        assert_eq!(machine.poll_order(), None);
    }

    #[test]
    fn a_lost_connection_is_opened_again_after_growing_pauses() {
        let mut machine = dialler();
        machine.heard(at(1));
        assert_eq!(machine.poll_event(), Some(LinkEvent::Established));
        machine.closed(at(2), "reset");
        assert_eq!(machine.poll_event(), Some(LinkEvent::Healthy(false)));
        assert_eq!(machine.problem(), Some("reset"));
        let mut now = at(2);
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let due = machine.poll_timeout().unwrap();
            assert_eq!(due, now + Duration::from_secs(pause));
            machine.handle_timeout(due);
            assert!(matches!(machine.poll_order(), Some(Order::Dial { .. })));
            machine.closed(due, "refused");
            assert_eq!(machine.poll_event(), None, "told once");
            now = due;
        }
        machine.handle_timeout(now + MAX_PAUSE);
        machine.heard(now + MAX_PAUSE);
        assert_eq!(machine.poll_event(), Some(LinkEvent::Healthy(true)));
        assert_eq!(machine.problem(), None);
        machine.closed(now + MAX_PAUSE, "reset");
        let pause = machine.poll_timeout().unwrap().saturating_since(now + MAX_PAUSE);
        assert_eq!(pause, FIRST_PAUSE, "it worked in between");
    }

    #[test]
    fn a_silent_neighbour_is_given_up() {
        let mut machine = dialler();
        machine.heard(at(0));
        assert_eq!(machine.poll_event(), Some(LinkEvent::Established));
        let mut keepalives = 0;
        let mut now = at(0);
        while machine.is_up() {
            now = machine.poll_timeout().unwrap();
            machine.handle_timeout(now);
            keepalives += usize::from(machine.poll_order() == Some(Order::Keepalive));
        }
        assert_eq!((now, keepalives), (at(20), 3));
        assert_eq!(machine.poll_event(), Some(LinkEvent::Healthy(false)));
    }

    #[test]
    fn one_that_speaks_stays() {
        let mut machine = dialler();
        machine.heard(at(0));
        for second in 1..100 {
            machine.heard(at(second));
            machine.handle_timeout(at(second));
        }
        assert!(machine.is_up());
    }

    #[test]
    fn an_attempt_without_an_answer_ends() {
        let mut machine = dialler();
        assert_eq!(machine.poll_timeout(), Some(at(10)));
        machine.handle_timeout(at(10));
        assert_eq!(machine.poll_order(), Some(Order::HangUp));
        assert_eq!(machine.poll_timeout(), Some(at(11)));
        assert_eq!(machine.poll_event(), None, "it never worked");
    }
}
