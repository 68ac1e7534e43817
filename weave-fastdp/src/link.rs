//! Whether the frames of one link get through (spec fastdp.md, section 7): a state machine without
//! sockets.
//!
//! ```text
//!  passive ──confirm──▶ beating ──acknowledged──▶ established
//!
//!              healthy ◀──────────────────▶ unhealthy: the neighbour does not hear us, or
//!                        for as often as              we have not heard it for 60 s
//!                        the path changes
//! ```
//!
//! Heartbeats never stop, and each one that arrives counts, so a link that was given up comes back
//! as soon as the path does.
//!
//! With a router like this one, [heartbeats](crate::heartbeat) come four times a second, and each
//! side [tells](crate::hearing) when they cease or return. Who is not heard stops sending this
//! way, within about a second; who hears nothing goes on, as long as the neighbour hears it. With
//! Weave Net, the 60 s without a heartbeat of the neighbour are all there is.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use weave_core::mesh::ConnectionUid;
use weave_core::switch::LinkEvent;
use weave_core::time::Instant;

use crate::hearing::{ACKNOWLEDGED, HEARING, Hearing, SECURITY_ASSOCIATION};
use crate::heartbeat::{self, HeartbeatError, Special};

/// Between the first heartbeat and the second: the first is lost if the neighbour is not ready.
/// The time doubles until it is that of the link.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(20);
/// Between heartbeats to a neighbour that tells what it hears: some are missing within a second.
const WATCHED_HEARTBEAT: Duration = Duration::from_millis(250);
/// Between heartbeats to Weave Net until it acknowledges them (spec fastdp.md, section 7).
const FAST_HEARTBEAT: Duration = Duration::from_millis(500);
/// Between heartbeats to Weave Net from then on.
const SLOW_HEARTBEAT: Duration = Duration::from_secs(10);
/// Between heartbeats that have not got through for [`HEARTBEAT_TIMEOUT`]: how soon a link is back
/// when somebody mends the path, at a kilobyte each.
const RETRY_HEARTBEAT: Duration = Duration::from_secs(5);
/// The link is unhealthy after as long without a heartbeat of the neighbour.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);
/// After as long without one, three and a half missing ones, a neighbour that can be told is told.
const SILENCE: Duration = Duration::from_millis(900);
/// If a timer is served later than this, it was this router that stood still, and what is missing
/// may still be waiting for it.
const LATE: Duration = Duration::from_millis(400);

/// The state of one link.
///
/// The `handle_*` methods take what happened; after each call drain [`Self::poll_transmit`] and
/// [`Self::poll_event`], and ask for [`Self::poll_timeout`].
#[derive(Debug)]
pub struct LinkMachine {
    connection: ConnectionUid,
    /// Of a heartbeat.
    length: u16,
    /// The neighbour says what it hears, and understands when it is told.
    watched: bool,
    phase: Phase,
    transmits: VecDeque<Transmit>,
    events: VecDeque<LinkEvent>,
}

#[derive(Debug)]
enum Phase {
    Passive,
    Beating(Beating),
    Failed,
}

#[derive(Debug)]
struct Beating {
    /// When the next heartbeat is due, and the time after it while that is still growing.
    next: Instant,
    growing: Duration,
    /// Silence counts from here at the earliest.
    listening_since: Instant,
    last_full: Option<Instant>,
    last_small: Option<Instant>,
    /// The neighbour was told that its first heartbeat arrived.
    acknowledged: bool,
    /// What the neighbour was told last.
    told: Option<Hearing>,
    /// The last heartbeat of ours that is known to have arrived, or the start.
    got_through: Instant,
    /// What the neighbour said last.
    heard: Option<Hearing>,
    established: bool,
    /// Nothing has arrived for [`HEARTBEAT_TIMEOUT`].
    silent: bool,
    /// As the router was told.
    healthy: bool,
}

/// A frame to send to the neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transmit {
    /// [`heartbeat::heartbeat`] of this length.
    Heartbeat {
        /// In bytes, with the Ethernet header.
        length: u16,
    },
    /// [`heartbeat::probe`].
    Probe,
}

impl LinkMachine {
    /// A passive link for IP packets of up to `mtu` bytes. `watched` if the neighbour announces
    /// [`crate::hearing::FEATURE`].
    pub fn new(connection: ConnectionUid, mtu: usize, watched: bool) -> Self {
        Self {
            connection,
            length: heartbeat::length(mtu),
            watched,
            phase: Phase::Passive,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The connection is registered: the link may send.
    pub fn confirm(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Passive) {
            return;
        }
        self.phase = Phase::Beating(Beating {
            next: now,
            growing: FIRST_HEARTBEAT,
            listening_since: now,
            last_full: None,
            last_small: None,
            acknowledged: false,
            told: None,
            got_through: now,
            heard: None,
            established: false,
            silent: false,
            healthy: true,
        });
        self.handle_timeout(now);
    }

    /// The neighbour says something over the mesh connection.
    pub fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]) {
        let Phase::Beating(beating) = &mut self.phase else { return };
        let heard = match message {
            ACKNOWLEDGED => Hearing::Full,
            HEARING if self.watched => match Hearing::decode(data) {
                Ok(heard) => heard,
                Err(error) => {
                    tracing::debug!(connection = self.connection.0, "hearing: {error}");
                    return;
                }
            },
            SECURITY_ASSOCIATION => {
                tracing::debug!(connection = self.connection.0, "a key for a link that has none");
                return;
            }
            message => {
                tracing::debug!(connection = self.connection.0, message, "unknown message");
                return;
            }
        };
        beating.heard = Some(heard);
        if heard == Hearing::Full {
            beating.got_through = now;
            if !std::mem::replace(&mut beating.established, true) {
                self.events.push_back(LinkEvent::Established);
            }
        }
        self.assess(now);
    }

    /// A special frame of the neighbour arrived.
    ///
    /// # Errors
    /// It is not one of this link: to be counted.
    pub fn handle_special(&mut self, now: Instant, frame: &[u8]) -> Result<(), HeartbeatError> {
        let special = heartbeat::decode(frame, self.connection)?;
        let Phase::Beating(beating) = &mut self.phase else { return Ok(()) };
        match special {
            Special::Heartbeat => {
                beating.last_full = Some(now);
                if !std::mem::replace(&mut beating.acknowledged, true) {
                    beating.told = Some(Hearing::Full);
                    let acknowledgement =
                        LinkEvent::Control { message: ACKNOWLEDGED, data: Vec::new() };
                    self.events.push_back(acknowledgement);
                }
            }
            Special::Probe => beating.last_small = Some(now),
        }
        self.assess(now);
        Ok(())
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = self.poll_timeout().is_some_and(|due| now.saturating_since(due) > LATE);
        let (length, watched) = (self.length, self.watched);
        let Phase::Beating(beating) = &mut self.phase else { return };
        if late {
            beating.listening_since = now;
        }
        if beating.next <= now {
            self.transmits.push_back(Transmit::Heartbeat { length });
            if watched && beating.heard != Some(Hearing::Full) {
                self.transmits.push_back(Transmit::Probe);
            }
            beating.next = now + beating.interval(now, watched);
        }
        self.assess(now);
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Phase::Beating(beating) = &self.phase else { return None };
        let silence = self.watched.then(|| beating.silence_at()).flatten();
        let given_up = (!beating.silent).then(|| beating.last_sign() + HEARTBEAT_TIMEOUT);
        [Some(beating.next), silence, given_up].into_iter().flatten().min()
    }

    /// A frame to send now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Tells the neighbour what its end of a sealed tunnel needs.
    pub fn announce(&mut self, message: &[u8]) {
        let (message, data) = (SECURITY_ASSOCIATION, message.to_vec());
        self.events.push_back(LinkEvent::Control { message, data });
    }

    /// The tunnel broke: the link has come to its end. The neighbour is told that nothing arrives
    /// here any more.
    pub fn fail(&mut self, reason: String) {
        if !matches!(self.phase, Phase::Failed) {
            if self.watched && matches!(self.phase, Phase::Beating(_)) {
                let data = vec![Hearing::Nothing.encode()];
                self.events.push_back(LinkEvent::Control { message: HEARING, data });
            }
            self.phase = Phase::Failed;
            self.events.push_back(LinkEvent::Failed(reason));
        }
    }

    /// Whether frames get through and the link is that of the first choice: the kernel may carry
    /// what it can.
    pub const fn carries(&self) -> bool {
        matches!(&self.phase, Phase::Beating(beating) if beating.established && beating.healthy)
    }

    /// The largest IP packet that is known to get through, in bytes.
    pub fn mtu(&self) -> Option<usize> {
        let Phase::Beating(beating) = &self.phase else { return None };
        beating.established.then(|| usize::from(self.length).saturating_sub(14))
    }

    /// What keeps the link from carrying frames, for the operator.
    pub fn problem(&self) -> Option<String> {
        let Phase::Beating(beating) = &self.phase else { return None };
        let packet = usize::from(self.length).saturating_sub(14);
        // VXLAN, UDP and IPv4 around the frame.
        let outer = usize::from(self.length) + 36;
        match beating.heard {
            Some(Hearing::Full) if beating.silent => {
                Some(format!("nothing has arrived from there for {HEARTBEAT_TIMEOUT:?}"))
            }
            Some(Hearing::Full) => None,
            Some(Hearing::Small) => Some(format!(
                "packets of {packet} bytes do not get through, small ones do: a way that takes \
                 {outer} bytes is needed, or a smaller --mtu"
            )),
            Some(Hearing::Nothing) => {
                Some("nothing arrives there: is its UDP port of the fast datapath blocked?".into())
            }
            None if beating.silent => Some(
                "no answer: is UDP blocked, or the way too narrow for packets of full size?".into(),
            ),
            None => None,
        }
    }

    /// Draws the conclusions.
    fn assess(&mut self, now: Instant) {
        let watched = self.watched;
        let Phase::Beating(beating) = &mut self.phase else { return };
        if watched
            && let Some(hearing) = beating.hearing(now)
            && beating.told != Some(hearing)
        {
            beating.told = Some(hearing);
            let data = vec![hearing.encode()];
            self.events.push_back(LinkEvent::Control { message: HEARING, data });
        }
        let silent = now.saturating_since(beating.last_sign()) >= HEARTBEAT_TIMEOUT;
        beating.silent = silent;
        let unheard = !matches!(beating.heard, None | Some(Hearing::Full));
        let healthy = !silent && !unheard;
        if std::mem::replace(&mut beating.healthy, healthy) != healthy {
            self.events.push_back(LinkEvent::Healthy(healthy));
        }
    }
}

impl Beating {
    /// The last full heartbeat; if there was none, the start.
    fn last_sign(&self) -> Instant {
        self.last_full.map_or(self.listening_since, |last| last.max(self.listening_since))
    }

    /// Until the heartbeat after the one that is sent now.
    fn interval(&mut self, now: Instant, watched: bool) -> Duration {
        let is_heard = self.heard == Some(Hearing::Full);
        let lost = !is_heard && now.saturating_since(self.got_through) >= HEARTBEAT_TIMEOUT;
        let steady = match (lost, watched, is_heard) {
            (true, ..) => return RETRY_HEARTBEAT,
            (false, true, _) => WATCHED_HEARTBEAT,
            (false, false, false) => FAST_HEARTBEAT,
            (false, false, true) if self.silent => return RETRY_HEARTBEAT,
            (false, false, true) => return SLOW_HEARTBEAT,
        };
        let interval = self.growing.min(steady);
        self.growing = interval * 2;
        interval
    }

    /// What arrives, if that can be said already.
    fn hearing(&self, now: Instant) -> Option<Hearing> {
        let recent = |last: Option<Instant>| {
            last.is_some_and(|last| now.saturating_since(last.max(self.listening_since)) < SILENCE)
        };
        if recent(self.last_full) {
            Some(Hearing::Full)
        } else if now.saturating_since(self.listening_since) < SILENCE {
            None
        } else if recent(self.last_small) {
            Some(Hearing::Small)
        } else {
            Some(Hearing::Nothing)
        }
    }

    /// When what arrives may become less.
    fn silence_at(&self) -> Option<Instant> {
        match self.told {
            Some(Hearing::Nothing) => None,
            Some(Hearing::Small) => self.last_small.map(|last| last.max(self.listening_since)),
            Some(Hearing::Full) | None => Some(self.last_sign()),
        }
        .map(|since| since + SILENCE)
    }
}
