//! The overlay switch: which transport of a connection carries the frames (spec router.md,
//! section 5).
//!
//! All transports that both sides have are prepared, confirmed and kept running. In use is the
//! first, in order of preference, that is established and healthy; while there is none, the first
//! that is healthy at all. It is chosen anew at each event, so falling back and climbing back take
//! no longer than a transport takes to notice.
//!
//! ```text
//!                  established            unhealthy
//!   prepared ───────────────▶ in service ◀──────────▶ on hold
//!       │                         │        healthy       │
//!       └──────── failed ─────────┴────────── failed ────┘──▶ gone (for good)
//! ```
//!
//! Transports talk to their peers over the mesh connection in messages of tag 7:
//!
//! ```text
//! 0        1         2
//! ┌────────┬─────────┬──────────┐
//! │ index  │ message │ data ... │     index: place in the common list, from 0
//! └────────┴─────────┴──────────┘
//! ```
//!
//! A peer that does not announce its transports has sleeve alone, whose messages have the tags 1
//! to 3 (spec mesh.md, section 18).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Forwarder, Link, LinkEvent, LinkStatus, Overlay, Waker};
use crate::mesh::{Control, LinkRequest};
use crate::time::Instant;

/// The transport that every peer has.
const SLEEVE: &str = "sleeve";

/// As many as the index in control messages can tell apart.
const MAX_COMMON: usize = 1 << 8;

/// The transports of one connection.
pub struct Selector {
    form: Form,
    /// In order of preference; the place is the index in control messages.
    members: Vec<Member>,
    in_use: Option<usize>,
    established: bool,
    failed: bool,
    events: VecDeque<SelectorEvent>,
}

/// How control messages travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Switched,
    Legacy,
}

struct Member {
    name: &'static str,
    state: State,
}

enum State {
    Running { link: Box<dyn Link>, established: bool, held: bool },
    Gone { reason: String },
}

/// What became of the transports of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SelectorEvent {
    /// Carry this to the neighbour.
    Control(Control),
    /// The first transport carries frames. Told once.
    Established,
    /// Another transport is in use now.
    InUse {
        /// The one before; none at first.
        from: Option<&'static str>,
        /// The one now.
        to: &'static str,
        /// What brought it about.
        reason: String,
    },
    /// A transport other than the one in use came to its end. One less to fall back to.
    Lost {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// No transport works any more. Told once, as the last event.
    Failed(String),
}

/// One transport of a connection, for reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberReport {
    /// Its name.
    pub name: &'static str,
    /// How it does.
    pub state: MemberState,
    /// What it says of itself; none when it is gone.
    pub status: Option<LinkStatus>,
}

/// How a transport of a connection does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberState {
    /// No frame is known to have got through yet.
    Pending,
    /// Frames get through.
    Established,
    /// Frames stopped to get through; it may recover.
    Held,
    /// It will not work any more.
    Gone {
        /// Why.
        reason: String,
    },
}

impl Selector {
    /// Prepares what this router and the neighbour have in common. `overlays` are in order of
    /// preference.
    ///
    /// # Errors
    /// There is nothing, or nothing of it works; a line for the log.
    pub fn prepare(
        now: Instant,
        overlays: &mut [Box<dyn Overlay>],
        request: &LinkRequest,
        waker: &Waker,
    ) -> Result<Self, String> {
        let (form, common) = match &request.overlays {
            None => (Form::Legacy, vec![SLEEVE]),
            Some(theirs) => {
                let ours = overlays.iter().map(|overlay| overlay.name());
                let both = ours.filter(|name| theirs.iter().any(|other| other == name));
                (Form::Switched, both.take(MAX_COMMON).collect())
            }
        };
        let members: Vec<Member> = overlays
            .iter_mut()
            .filter(|overlay| common.contains(&overlay.name()))
            .take(common.len())
            .map(|overlay| {
                let state = match overlay.prepare(now, request, waker.clone()) {
                    Ok(link) => State::Running { link, established: false, held: false },
                    Err(error) => State::Gone { reason: error.0 },
                };
                Member { name: overlay.name(), state }
            })
            .collect();
        if members.is_empty() {
            return Err("no overlays in common".to_owned());
        }
        let mut selector = Self {
            form,
            members,
            in_use: None,
            established: false,
            failed: false,
            events: VecDeque::new(),
        };
        if selector.best().is_none() {
            return Err(selector.no_forwarders());
        }
        selector.events.extend(selector.members.iter().filter_map(|member| match &member.state {
            State::Gone { reason } => {
                Some(SelectorEvent::Lost { name: member.name, reason: reason.clone() })
            }
            State::Running { .. } => None,
        }));
        selector.choose("first choice");
        selector.drain_all();
        Ok(selector)
    }

    /// The connection is registered: the links may send.
    pub fn confirm(&mut self, now: Instant) {
        for link in self.links_mut() {
            link.confirm(now);
        }
        self.drain_all();
    }

    /// The neighbour's transports say something. What does not fit the connection is ignored:
    /// the original would crash on it, and nothing that follows depends on it.
    pub fn handle_control(&mut self, now: Instant, control: &Control) {
        let (index, message, data) = match (self.form, control) {
            (Form::Switched, Control::Switched(bytes)) => match &bytes[..] {
                [index, message, data @ ..] => (usize::from(*index), *message, data),
                _ => return,
            },
            (Form::Legacy, Control::Legacy { message, data }) => (0, *message, &data[..]),
            _ => return,
        };
        let Some(Member { state: State::Running { link, .. }, .. }) = self.members.get_mut(index)
        else {
            return;
        };
        link.handle_control(now, message, data);
        self.drain(index);
    }

    /// The waker of a link fired.
    pub fn handle_wake(&mut self) {
        self.drain_all();
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        for link in self.links_mut() {
            if link.poll_timeout().is_some_and(|at| at <= now) {
                link.handle_timeout(now);
            }
        }
        self.drain_all();
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.members
            .iter()
            .filter_map(|member| match &member.state {
                State::Running { link, .. } => link.poll_timeout(),
                State::Gone { .. } => None,
            })
            .min()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<SelectorEvent> {
        self.events.pop_front()
    }

    /// The transport in use.
    pub fn in_use(&self) -> Option<&'static str> {
        self.in_use.and_then(|index| self.members.get(index)).map(|member| member.name)
    }

    /// The data halves, that of the transport in use first, then those after it in order of
    /// preference.
    pub fn forwarders(&self) -> Vec<Arc<dyn Forwarder>> {
        let from = self.in_use.unwrap_or(self.members.len());
        self.members
            .iter()
            .skip(from)
            .filter_map(|member| match &member.state {
                State::Running { link, .. } => Some(link.forwarder()),
                State::Gone { .. } => None,
            })
            .collect()
    }

    /// All transports in order of preference.
    pub fn report(&self) -> Vec<MemberReport> {
        self.members
            .iter()
            .map(|member| {
                let (state, status) = match &member.state {
                    State::Gone { reason } => (MemberState::Gone { reason: reason.clone() }, None),
                    State::Running { link, established, held } => {
                        let state = match (held, established) {
                            (true, _) => MemberState::Held,
                            (false, true) => MemberState::Established,
                            (false, false) => MemberState::Pending,
                        };
                        (state, Some(link.status()))
                    }
                };
                MemberReport { name: member.name, state, status }
            })
            .collect()
    }

    fn drain_all(&mut self) {
        for index in 0..self.members.len() {
            self.drain(index);
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(member) = self.members.get_mut(index)
            && let State::Running { link, .. } = &mut member.state
            && let Some(event) = link.poll_event()
        {
            self.handle_event(index, event);
        }
    }

    fn handle_event(&mut self, index: usize, event: LinkEvent) {
        let Some(Member { name, state }) = self.members.get_mut(index) else { return };
        let name = *name;
        let State::Running { established, held, .. } = state else { return };
        match event {
            LinkEvent::Control { message, data } => {
                let control = self.wrap(index, message, &data);
                self.events.extend(control.map(SelectorEvent::Control));
            }
            LinkEvent::Established => {
                *established = true;
                if !std::mem::replace(&mut self.established, true) {
                    self.events.push_back(SelectorEvent::Established);
                }
                self.choose(&format!("{name} is established"));
            }
            LinkEvent::Healthy(healthy) => {
                *held = !healthy;
                let what = if healthy { "gets frames through again" } else { "lost contact" };
                self.choose(&format!("{name} {what}"));
            }
            LinkEvent::Failed(reason) => {
                *state = State::Gone { reason: reason.clone() };
                if self.in_use != Some(index) {
                    self.events.push_back(SelectorEvent::Lost { name, reason: reason.clone() });
                }
                self.choose(&format!("{name} failed: {reason}"));
            }
        }
    }

    fn wrap(&self, index: usize, message: u8, data: &[u8]) -> Option<Control> {
        match self.form {
            Form::Switched => {
                let mut bytes = BytesMut::with_capacity(2 + data.len());
                bytes.put_u8(u8::try_from(index).ok()?);
                bytes.put_u8(message);
                bytes.put_slice(data);
                Some(Control::Switched(bytes.freeze()))
            }
            // Other tags mean other things.
            Form::Legacy if (1..=3).contains(&message) => {
                Some(Control::Legacy { message, data: Bytes::copy_from_slice(data) })
            }
            Form::Legacy => None,
        }
    }

    /// Looks for the best member; `reason` is what made it necessary.
    fn choose(&mut self, reason: &str) {
        let best = self.best();
        if self.failed || best == self.in_use {
            return;
        }
        let from = self.in_use();
        self.in_use = best;
        self.events.push_back(match self.in_use() {
            Some(to) => SelectorEvent::InUse { from, to, reason: reason.to_owned() },
            None => {
                self.failed = true;
                SelectorEvent::Failed(self.no_forwarders())
            }
        });
    }

    fn best(&self) -> Option<usize> {
        let first = |must_be_established: bool| {
            self.members.iter().position(|member| match member.state {
                State::Running { established, held, .. } => {
                    !held && (established || !must_be_established)
                }
                State::Gone { .. } => false,
            })
        };
        first(true).or_else(|| first(false))
    }

    fn no_forwarders(&self) -> String {
        let mut text = "no working forwarders".to_owned();
        for (index, member) in self.members.iter().enumerate() {
            text.push_str(if index == 0 { ": " } else { "; " });
            text.push_str(member.name);
            match &member.state {
                State::Gone { reason } => {
                    text.push_str(": ");
                    text.push_str(reason);
                }
                State::Running { .. } => text.push_str(" lost contact"),
            }
        }
        text
    }

    fn links_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn Link>> {
        self.members.iter_mut().filter_map(|member| match &mut member.state {
            State::Running { link, .. } => Some(link),
            State::Gone { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests;
