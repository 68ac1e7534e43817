//! A state machine that finds out whether the frames of a link get through (spec fastdp.md,
//! section 7).
//!
//! ```text
//!  passive ──confirm──▶ probing ──acknowledged──▶ established
//!
//!              healthy ◀──────────────────▶ unhealthy: our frames do not arrive there, or
//!                        for as often as              none has arrived here for 60 s
//!                        the path changes
//! ```
//!
//! Heartbeats never stop, and each one that arrives counts, so a link that was given up comes back
//! as soon as the path does.
//!
//! Between routers of this kind, [heartbeats](crate::heartbeat) come four times a second, and each
//! side [reports](crate::control_message) when they cease or return. A router whose frames do not
//! arrive stops using the link within about a second; one that receives nothing goes on, as long as
//! its own frames arrive. With Weave Net, the only sign is that no heartbeat arrives for 60 s.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use weave_core::mesh::ConnectionUid;
use weave_core::switch::LinkEvent;
use weave_core::time::Instant;

use crate::control_message::{ACKNOWLEDGED, RECEIVE_STATUS, ReceiveStatus, SECURITY_ASSOCIATION};
use crate::error::TunnelError;
use crate::heartbeat::{self, HeartbeatError, Special};

/// Interval between the first heartbeat and the second: the first is lost if the neighbour is not
/// ready. The interval doubles until it is that of the link.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(20);
/// Interval between heartbeats to a neighbour that reports its receive status: a failure shows
/// within a second.
const REPORTED_HEARTBEAT: Duration = Duration::from_millis(250);
/// Interval between heartbeats to Weave Net until it acknowledges one (spec fastdp.md, section 7).
const FAST_HEARTBEAT: Duration = Duration::from_millis(500);
/// Interval between heartbeats to Weave Net from then on.
const SLOW_HEARTBEAT: Duration = Duration::from_secs(10);
/// Interval between heartbeats that have not got through for [`HEARTBEAT_TIMEOUT`]. It bounds how
/// soon a link is back when the path is repaired, at a kilobyte for each heartbeat.
const RETRY_HEARTBEAT: Duration = Duration::from_secs(5);
/// A link is unhealthy after as long without a heartbeat of the neighbour.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(60);
/// A loss is reported after as long without a heartbeat, three and a half missing ones.
const SILENCE: Duration = Duration::from_millis(900);
/// A timer that is served later than this means that this router was stalled, and that missing
/// frames may still be waiting in its sockets.
const LATE: Duration = Duration::from_millis(400);

/// The state machine of a link.
///
/// The `handle_*` methods take inputs. After each call the caller drains [`Self::poll_transmit`]
/// and [`Self::poll_event`], and asks for [`Self::poll_timeout`].
#[derive(Debug)]
pub struct LinkMachine {
    connection: ConnectionUid,
    /// Length of a heartbeat.
    length: u16,
    /// Whether both sides report their receive status.
    reporting: bool,
    phase: Phase,
    transmits: VecDeque<Transmit>,
    events: VecDeque<LinkEvent>,
}

#[derive(Debug)]
enum Phase {
    Passive,
    Probing(Probing),
    Failed,
}

#[derive(Debug)]
struct Probing {
    /// When the next heartbeat is due.
    next: Instant,
    /// Interval after the next heartbeat while intervals still double.
    growing: Duration,
    /// Silence is measured from here at the earliest.
    listening_since: Instant,
    last_full: Option<Instant>,
    last_small: Option<Instant>,
    /// Whether the first heartbeat of the neighbour was acknowledged.
    acknowledged: bool,
    /// Status that was reported last.
    reported: Option<ReceiveStatus>,
    /// When a heartbeat is last known to have arrived at the neighbour, or the start.
    got_through: Instant,
    /// Status that the neighbour reported last.
    remote: Option<ReceiveStatus>,
    established: bool,
    /// Whether nothing has arrived for [`HEARTBEAT_TIMEOUT`].
    silent: bool,
    /// Health that the router was told last.
    healthy: bool,
}

/// A frame to send to the neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transmit {
    /// A [heartbeat](heartbeat::heartbeat).
    Heartbeat {
        /// Length in bytes, with the Ethernet header.
        length: u16,
    },
    /// A [probe](heartbeat::probe).
    Probe,
}

impl LinkMachine {
    /// Creates a passive link for IP packets of up to `mtu` bytes. `reporting` says whether the
    /// neighbour announces [`FEATURE`](crate::control_message::FEATURE).
    pub fn new(connection: ConnectionUid, mtu: usize, reporting: bool) -> Self {
        Self {
            connection,
            length: heartbeat::length(mtu),
            reporting,
            phase: Phase::Passive,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Starts probing, since the connection is registered.
    pub fn confirm(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Passive) {
            return;
        }
        self.phase = Phase::Probing(Probing {
            next: now,
            growing: FIRST_HEARTBEAT,
            listening_since: now,
            last_full: None,
            last_small: None,
            acknowledged: false,
            reported: None,
            got_through: now,
            remote: None,
            established: false,
            silent: false,
            healthy: true,
        });
        self.handle_timeout(now);
    }

    /// Handles a message of the neighbour over the mesh connection.
    pub fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]) {
        let Phase::Probing(probing) = &mut self.phase else { return };
        let status = match message {
            ACKNOWLEDGED => ReceiveStatus::Full,
            RECEIVE_STATUS if self.reporting => match ReceiveStatus::decode(data) {
                Ok(status) => status,
                Err(error) => {
                    tracing::debug!(connection = self.connection.0, "receive status: {error}");
                    return;
                }
            },
            SECURITY_ASSOCIATION => {
                tracing::debug!(
                    connection = self.connection.0,
                    "a key for a link without encryption"
                );
                return;
            }
            message => {
                tracing::debug!(connection = self.connection.0, message, "unknown message");
                return;
            }
        };
        probing.remote = Some(status);
        if status == ReceiveStatus::Full {
            probing.got_through = now;
            if !std::mem::replace(&mut probing.established, true) {
                self.events.push_back(LinkEvent::Established);
            }
        }
        self.update_health(now);
    }

    /// Handles a special frame of the neighbour.
    ///
    /// # Errors
    /// Fails if the frame is not of this link, which is to be counted.
    pub fn handle_special(&mut self, now: Instant, frame: &[u8]) -> Result<(), HeartbeatError> {
        let special = heartbeat::decode(frame, self.connection)?;
        let Phase::Probing(probing) = &mut self.phase else { return Ok(()) };
        match special {
            Special::Heartbeat => {
                probing.last_full = Some(now);
                if !std::mem::replace(&mut probing.acknowledged, true) {
                    probing.reported = Some(ReceiveStatus::Full);
                    let acknowledgement =
                        LinkEvent::Control { message: ACKNOWLEDGED, data: Vec::new() };
                    self.events.push_back(acknowledgement);
                }
            }
            Special::Probe => probing.last_small = Some(now),
        }
        self.update_health(now);
        Ok(())
    }

    /// Handles the expiry of [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = self.poll_timeout().is_some_and(|due| now.saturating_since(due) > LATE);
        let (length, reporting) = (self.length, self.reporting);
        let Phase::Probing(probing) = &mut self.phase else { return };
        if late {
            probing.listening_since = now;
        }
        if probing.next <= now {
            self.transmits.push_back(Transmit::Heartbeat { length });
            if reporting && probing.remote != Some(ReceiveStatus::Full) {
                self.transmits.push_back(Transmit::Probe);
            }
            probing.next = now + probing.interval(now, reporting);
        }
        self.update_health(now);
    }

    /// Returns when [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Phase::Probing(probing) = &self.phase else { return None };
        let silence = self.reporting.then(|| probing.silence_at()).flatten();
        let given_up = (!probing.silent).then(|| probing.last_sign() + HEARTBEAT_TIMEOUT);
        [Some(probing.next), silence, given_up].into_iter().flatten().min()
    }

    /// Returns a frame to send now.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next event for the router.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Sends the neighbour the announcement of a key.
    pub fn announce(&mut self, message: &[u8]) {
        let (message, data) = (SECURITY_ASSOCIATION, message.to_vec());
        self.events.push_back(LinkEvent::Control { message, data });
    }

    /// Ends the link, since the tunnel broke, and reports to the neighbour that nothing arrives.
    pub fn fail(&mut self, error: &TunnelError) {
        if !matches!(self.phase, Phase::Failed) {
            if self.reporting && matches!(self.phase, Phase::Probing(_)) {
                let data = vec![ReceiveStatus::Nothing.encode()];
                self.events.push_back(LinkEvent::Control { message: RECEIVE_STATUS, data });
            }
            self.phase = Phase::Failed;
            self.events.push_back(LinkEvent::Failed(error.to_string()));
        }
    }

    /// Returns whether the kernel may carry frames by itself, since they get through.
    pub const fn may_offload(&self) -> bool {
        matches!(&self.phase, Phase::Probing(probing) if probing.established && probing.healthy)
    }

    /// Returns the largest IP packet that is known to get through, in bytes.
    pub fn mtu(&self) -> Option<usize> {
        let Phase::Probing(probing) = &self.phase else { return None };
        probing.established.then(|| usize::from(self.length).saturating_sub(14))
    }

    /// Returns what keeps the link from carrying frames, for the operator.
    pub fn problem(&self) -> Option<String> {
        let Phase::Probing(probing) = &self.phase else { return None };
        let packet = usize::from(self.length).saturating_sub(14);
        // VXLAN, UDP and IPv4 around the frame.
        let outer = usize::from(self.length) + 36;
        match probing.remote {
            Some(ReceiveStatus::Full) if probing.silent => {
                Some(format!("nothing has arrived from the neighbour for {HEARTBEAT_TIMEOUT:?}"))
            }
            Some(ReceiveStatus::Full) => None,
            Some(ReceiveStatus::Small) => Some(format!(
                "packets of {packet} bytes do not get through, small ones do: the path has to \
                 carry {outer} bytes, or --mtu has to be smaller"
            )),
            Some(ReceiveStatus::Nothing) => {
                Some("nothing arrives there: is its UDP port of the fast datapath blocked?".into())
            }
            None if probing.silent => Some(
                "no answer: is UDP blocked, or the path MTU too small for packets of full size?"
                    .into(),
            ),
            None => None,
        }
    }

    /// Reports changes of the receive status to the neighbour, and of the health to the router.
    fn update_health(&mut self, now: Instant) {
        let reporting = self.reporting;
        let Phase::Probing(probing) = &mut self.phase else { return };
        if reporting
            && let Some(status) = probing.receive_status(now)
            && probing.reported != Some(status)
        {
            probing.reported = Some(status);
            let data = vec![status.encode()];
            self.events.push_back(LinkEvent::Control { message: RECEIVE_STATUS, data });
        }
        let silent = now.saturating_since(probing.last_sign()) >= HEARTBEAT_TIMEOUT;
        probing.silent = silent;
        let lost = !matches!(probing.remote, None | Some(ReceiveStatus::Full));
        let healthy = !silent && !lost;
        if std::mem::replace(&mut probing.healthy, healthy) != healthy {
            self.events.push_back(LinkEvent::Healthy(healthy));
        }
    }
}

impl Probing {
    /// Returns when the last full heartbeat arrived; if there was none, the start.
    fn last_sign(&self) -> Instant {
        self.last_full.map_or(self.listening_since, |last| last.max(self.listening_since))
    }

    /// Returns the interval until the heartbeat after the one that is sent now.
    fn interval(&mut self, now: Instant, reporting: bool) -> Duration {
        let arrives = self.remote == Some(ReceiveStatus::Full);
        let lost = !arrives && now.saturating_since(self.got_through) >= HEARTBEAT_TIMEOUT;
        let steady = match (lost, reporting, arrives) {
            (true, ..) => return RETRY_HEARTBEAT,
            (false, true, _) => REPORTED_HEARTBEAT,
            (false, false, false) => FAST_HEARTBEAT,
            (false, false, true) if self.silent => return RETRY_HEARTBEAT,
            (false, false, true) => return SLOW_HEARTBEAT,
        };
        let interval = self.growing.min(steady);
        self.growing = interval * 2;
        interval
    }

    /// Returns which frames arrive, if that is known already.
    fn receive_status(&self, now: Instant) -> Option<ReceiveStatus> {
        let recent = |last: Option<Instant>| {
            last.is_some_and(|last| now.saturating_since(last.max(self.listening_since)) < SILENCE)
        };
        if recent(self.last_full) {
            Some(ReceiveStatus::Full)
        } else if now.saturating_since(self.listening_since) < SILENCE {
            None
        } else if recent(self.last_small) {
            Some(ReceiveStatus::Small)
        } else {
            Some(ReceiveStatus::Nothing)
        }
    }

    /// Returns when the receive status may become worse without an event.
    fn silence_at(&self) -> Option<Instant> {
        match self.reported {
            Some(ReceiveStatus::Nothing) => None,
            Some(ReceiveStatus::Small) => {
                self.last_small.map(|last| last.max(self.listening_since))
            }
            Some(ReceiveStatus::Full) | None => Some(self.last_sign()),
        }
        .map(|since| since + SILENCE)
    }
}
