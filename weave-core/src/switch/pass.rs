//! What data threads call: a worker each, and a pass for each batch of frames.
//!
//! ```text
//! let mut worker = Worker::new(switch)?;
//! loop {
//!     // block until the device or the socket has something
//!     let mut pass = worker.pass(now, &mut port);
//!     for frame in batch { pass.captured(frame) }       // or pass.received(arrival, frame)
//!     // dropping the pass flushes what it touched
//! }
//! ```
//!
//! A pass holds on to the forwarding table it started with; after warm-up a frame costs no
//! allocation and no lock.

use std::sync::Arc;

use arc_swap::Guard;

use super::counters::WorkerCounters;
use super::decision::{self, Addresses, Arrival, Decision, DropCause, Onward};
use super::shared::{Switch, TooManyWorkers};
use super::table::{ForwardingTable, Neighbour};
use super::{Envelope, Forwarded, Frame, WorkerId};
use crate::time::Instant;
use crate::wire::too_big;

/// Gives frames to the local bridge.
pub trait Inject {
    /// Takes a frame; it may stay buffered until [`Inject::flush`]. Errors are counted by the
    /// port: nobody up here could do anything about them.
    fn inject(&mut self, frame: Frame<'_>);

    /// Writes what is buffered.
    fn flush(&mut self) {}
}

/// The part of a data thread that knows where frames go. One for each thread.
pub struct Worker {
    switch: Arc<Switch>,
    id: WorkerId,
    counters: Arc<WorkerCounters>,
    touched: Touched,
    /// Room for an answer, kept to be used again.
    answer: Vec<u8>,
}

/// Which forwarders of a table hold frames of this worker.
#[derive(Default)]
struct Touched {
    list: Vec<usize>,
    /// By index of the forwarder: whether it is in the list.
    marks: Vec<bool>,
}

impl Worker {
    /// A worker of this switch.
    ///
    /// # Errors
    /// There are too many.
    pub fn new(switch: Arc<Switch>) -> Result<Self, TooManyWorkers> {
        let (id, counters) = switch.register()?;
        Ok(Self { switch, id, counters, touched: Touched::default(), answer: Vec::new() })
    }

    /// Which one it is.
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    /// The switch it works for.
    pub const fn switch(&self) -> &Arc<Switch> {
        &self.switch
    }

    /// Starts on a batch of frames, all of which came in `now`. Frames for the local bridge go
    /// to `port`.
    pub fn pass<'a, P: Inject + ?Sized>(
        &'a mut self,
        now: Instant,
        port: &'a mut P,
    ) -> Pass<'a, P> {
        let table = self.switch.table();
        self.touched.fit(table.forwarder_count());
        Pass { now, table, worker: self, port }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.switch.unregister(self.id);
    }
}

/// A batch of frames on their way. Dropping it flushes the links it touched, and the port.
pub struct Pass<'a, P: Inject + ?Sized> {
    now: Instant,
    table: Guard<Arc<ForwardingTable>>,
    worker: &'a mut Worker,
    port: &'a mut P,
}

impl<P: Inject + ?Sized> Pass<'_, P> {
    /// A frame was captured on the local bridge.
    pub fn captured(&mut self, frame: Frame<'_>) {
        let Self { now, table, worker, port } = self;
        let Worker { switch, id, counters, touched, answer } = &mut **worker;
        counters.captured.increment_alone();
        let Some(addresses) = Addresses::of(frame.bytes) else {
            return counters.dropped(DropCause::Short);
        };
        let decision = switch.captured(table, *now, addresses);
        Egress { table, id: *id, counters, touched, answer, port: &mut **port }
            .carry_out(decision, frame, 0);
    }

    /// A frame was received from a neighbour.
    pub fn received(&mut self, arrival: Arrival, frame: Frame<'_>) {
        self.take_in(arrival, frame, |decision| decision);
    }

    /// Handles a frame that the kernel has received from a neighbour and has already passed to the
    /// local bridge: the router only learns from it and relays it.
    pub fn relay_only(&mut self, arrival: Arrival, frame: Frame<'_>) {
        self.take_in(arrival, frame, |decision| Decision { inject: false, ..decision });
    }

    fn take_in(
        &mut self,
        arrival: Arrival,
        frame: Frame<'_>,
        left_to_do: impl FnOnce(Decision<'_>) -> Decision<'_>,
    ) {
        let Self { now, table, worker, port } = self;
        let Worker { switch, id, counters, touched, answer } = &mut **worker;
        counters.received.increment_alone();
        let Some(addresses) = Addresses::of(frame.bytes) else {
            return counters.dropped(DropCause::Short);
        };
        let decision = switch.received(table, *now, arrival, addresses).map(left_to_do);
        Egress { table, id: *id, counters, touched, answer, port: &mut **port }.carry_out(
            decision,
            frame,
            arrival.relays.saturating_add(1),
        );
    }
}

impl<P: Inject + ?Sized> Drop for Pass<'_, P> {
    fn drop(&mut self) {
        let Worker { id, touched, .. } = &mut *self.worker;
        touched.drain(|index| {
            if let Some(forwarder) = self.table.forwarder(index) {
                forwarder.flush(*id);
            }
        });
        self.port.flush();
    }
}

/// The ways out of the switch.
struct Egress<'a, P: Inject + ?Sized> {
    table: &'a ForwardingTable,
    id: WorkerId,
    counters: &'a WorkerCounters,
    touched: &'a mut Touched,
    answer: &'a mut Vec<u8>,
    port: &'a mut P,
}

impl<P: Inject + ?Sized> Egress<'_, P> {
    /// `relays` is how often the frame will have been relayed if it leaves by a link.
    fn carry_out(
        &mut self,
        decision: Result<Decision<'_>, DropCause>,
        frame: Frame<'_>,
        relays: u8,
    ) {
        let decision = match decision {
            Ok(decision) => decision,
            Err(cause) => return self.counters.dropped(cause),
        };
        if decision.inject {
            self.inject(frame);
        }
        match decision.onward {
            Onward::Nowhere => {}
            Onward::Withheld(cause) => self.counters.dropped(cause),
            Onward::Unicast { source, destination, hop } => {
                let envelope = Envelope { source, destination, frame, broadcast: false, relays };
                if let Err(TooBig { mtu }) = self.forward(hop, envelope) {
                    self.answer_too_big(envelope, mtu);
                }
            }
            Onward::Flood { source, hops } => {
                for hop in hops.iter() {
                    let (destination, broadcast) = (hop.name(), true);
                    let envelope = Envelope { source, destination, frame, broadcast, relays };
                    if self.forward(hop, envelope).is_err() {
                        self.counters.dropped(DropCause::TooBig);
                    }
                }
            }
        }
    }

    fn inject(&mut self, frame: Frame<'_>) {
        self.counters.injected.increment_alone();
        self.port.inject(frame);
    }

    /// Hands a frame to the best link that takes it (spec router.md, section 5).
    fn forward(&mut self, hop: &Neighbour, envelope: Envelope<'_>) -> Result<(), TooBig> {
        for index in self.table.forwarder_indices(hop) {
            let Some(forwarder) = self.table.forwarder(index) else { continue };
            match forwarder.forward(self.id, envelope) {
                Forwarded::Accepted => {
                    self.counters.forwarded.increment_alone();
                    self.touched.add(index);
                    return Ok(());
                }
                Forwarded::Refused => {}
                Forwarded::TooBig { mtu } => return Err(TooBig { mtu }),
                Forwarded::Dropped => {
                    self.counters.dropped(DropCause::Link);
                    return Ok(());
                }
            }
        }
        self.counters.dropped(DropCause::Refused);
        Ok(())
    }

    /// Tells the sender of a frame that it was too big: the answer travels as if the frame's
    /// destination had sent it (spec sleeve.md, section 5).
    fn answer_too_big(&mut self, refused: Envelope<'_>, mtu: usize) {
        let mut answer = std::mem::take(self.answer);
        if too_big(refused.frame.bytes, mtu, &mut answer).is_ok() {
            self.send_answer(refused, Frame::plain(&answer));
        } else {
            self.counters.dropped(DropCause::TooBig);
        }
        *self.answer = answer;
    }

    fn send_answer(&mut self, refused: Envelope<'_>, frame: Frame<'_>) {
        let (source, destination) = (refused.destination, refused.source);
        match decision::answered(self.table, source, destination) {
            Err(cause) => return self.counters.dropped(cause),
            Ok(decision) if decision.inject => self.inject(frame),
            Ok(Decision { onward: Onward::Unicast { hop, .. }, .. }) => {
                let broadcast = false;
                let envelope = Envelope { source, destination, frame, broadcast, relays: 0 };
                if self.forward(hop, envelope).is_err() {
                    return self.counters.dropped(DropCause::TooBig);
                }
            }
            Ok(_) => {}
        }
        self.counters.too_big_answers.increment_alone();
    }
}

/// The frame does not fit; the largest IP packet that does.
struct TooBig {
    mtu: usize,
}

impl Touched {
    /// Makes room for the indices of a table. Allocates only while tables grow.
    fn fit(&mut self, forwarders: usize) {
        if self.marks.len() < forwarders {
            self.marks.resize(forwarders, false);
            self.list.reserve(forwarders);
        }
    }

    fn add(&mut self, index: usize) {
        if let Some(mark) = self.marks.get_mut(index)
            && !std::mem::replace(mark, true)
        {
            self.list.push(index);
        }
    }

    fn drain(&mut self, mut each: impl FnMut(usize)) {
        for index in self.list.drain(..) {
            if let Some(mark) = self.marks.get_mut(index) {
                *mark = false;
            }
            each(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Waker;
    use super::super::table::NeighbourLinks;
    use super::super::table::fixture::{Recorder, Routes, Sent, peer};
    use super::*;
    use crate::mesh::PeerName;
    use crate::wire::MacAddress;

    const X: MacAddress = MacAddress([2, 0xaa, 0, 0, 0, 1]);
    const Y: MacAddress = MacAddress([2, 0xaa, 0, 0, 0, 2]);

    #[derive(Default)]
    struct Port {
        injected: Vec<Vec<u8>>,
        flushes: u32,
    }

    impl Inject for Port {
        fn inject(&mut self, frame: Frame<'_>) {
            self.injected.push(frame.bytes.to_vec());
        }

        fn flush(&mut self) {
            self.flushes += 1;
        }
    }

    /// Peer 1 with the neighbours 2 (two links) and 3 (one).
    struct Setup {
        switch: Arc<Switch>,
        worker: Worker,
        port: Port,
        fast: Arc<Recorder>,
        slow: Arc<Recorder>,
        other: Arc<Recorder>,
    }

    impl Setup {
        fn new() -> Self {
            let switch = Arc::new(Switch::new(peer(1), 1));
            let (fast, slow, other) = (
                Recorder::new(Forwarded::Accepted),
                Recorder::new(Forwarded::Accepted),
                Recorder::new(Forwarded::Accepted),
            );
            let routes = Routes {
                next_hops: [(peer(2), peer(2)), (peer(3), peer(3))].into(),
                broadcast: [(peer(1), vec![peer(2), peer(3)])].into(),
                ..Routes::default()
            };
            let links = vec![
                NeighbourLinks { name: peer(2), forwarders: vec![fast.clone(), slow.clone()] },
                NeighbourLinks { name: peer(3), forwarders: vec![other.clone()] },
            ];
            switch.publish(ForwardingTable::new(peer(1), Arc::new(routes), links));
            let worker = Worker::new(switch.clone()).unwrap();
            Self { switch, worker, port: Port::default(), fast, slow, other }
        }

        fn captured(&mut self, frames: &[Vec<u8>]) {
            let mut pass = self.worker.pass(at(0), &mut self.port);
            for frame in frames {
                pass.captured(Frame::plain(frame));
            }
        }

        fn dropped(&self, cause: DropCause) -> u64 {
            self.switch.report().dropped.get(cause)
        }
    }

    /// A frame comes from peer 2.
    fn from_2(source: PeerName, destination: PeerName) -> Arrival {
        Arrival { neighbour: peer(2), source, destination, relays: 0 }
    }

    fn at(seconds: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(seconds))
    }

    fn frame(source: MacAddress, destination: MacAddress) -> Vec<u8> {
        let mut frame = [destination.0, source.0].concat();
        frame.extend([8, 0, 1, 2, 3]);
        frame
    }

    #[test]
    fn a_flood_goes_to_every_hop_and_each_link_is_flushed_once() {
        let mut setup = Setup::new();
        let flooded = frame(X, MacAddress::BROADCAST);
        setup.captured(&[flooded.clone(), flooded.clone()]);
        let copy = |to| Sent(peer(1), peer(to), flooded.clone(), true);
        assert_eq!(setup.fast.take(), [copy(2), copy(2)]);
        assert_eq!(setup.other.take(), [copy(3), copy(3)]);
        assert!(setup.slow.take().is_empty());
        let flushes = |link: &Recorder| *link.flushes.lock().unwrap();
        assert_eq!(
            (flushes(&setup.fast), flushes(&setup.other), flushes(&setup.slow), setup.port.flushes),
            (1, 1, 0, 1)
        );
        let report = setup.switch.report();
        assert_eq!((report.captured, report.forwarded, report.injected), (2, 4, 0));
    }

    #[test]
    fn a_refusing_link_hands_over_to_the_next() {
        let mut setup = Setup::new();
        setup.switch.refresh_station(at(0), Y, peer(2));
        *setup.fast.answer.lock().unwrap() = Forwarded::Refused;
        setup.captured(&[frame(X, Y)]);
        assert_eq!(setup.slow.take(), [Sent(peer(1), peer(2), frame(X, Y), false)]);
        *setup.slow.answer.lock().unwrap() = Forwarded::Refused;
        setup.captured(&[frame(X, Y)]);
        assert_eq!(setup.dropped(DropCause::Refused), 1);
        *setup.fast.answer.lock().unwrap() = Forwarded::Dropped;
        setup.captured(&[frame(X, Y)]);
        assert_eq!(setup.dropped(DropCause::Link), 1);
    }

    #[test]
    fn received_frames_are_injected_and_relayed() {
        let mut setup = Setup::new();
        let mut pass = setup.worker.pass(at(0), &mut setup.port);
        let arrival = |to| from_2(peer(2), peer(to));
        pass.received(arrival(1), Frame::plain(&frame(Y, X)));
        pass.received(arrival(3), Frame::plain(&frame(Y, X)));
        pass.received(arrival(3), Frame::plain(&[0; 13]));
        drop(pass);
        assert_eq!(setup.port.injected, [frame(Y, X)]);
        assert_eq!(setup.other.take(), [Sent(peer(2), peer(3), frame(Y, X), false)]);
        assert_eq!(setup.dropped(DropCause::Short), 1);
        assert_eq!(setup.switch.macs().lookup(Y), Some(peer(2)));
    }

    #[test]
    fn frames_that_the_kernel_has_delivered_are_relayed_but_not_injected() {
        let mut setup = Setup::new();
        let routes = Routes {
            next_hops: [(peer(2), peer(2)), (peer(3), peer(3))].into(),
            broadcast: [(peer(2), vec![peer(3)])].into(),
            ..Routes::default()
        };
        let links = [(2, &setup.fast), (3, &setup.other)].map(|(number, link)| NeighbourLinks {
            name: peer(number),
            forwarders: vec![Arc::clone(link) as Arc<dyn super::super::Forwarder>],
        });
        setup.switch.publish(ForwardingTable::new(peer(1), Arc::new(routes), links.into()));
        let arrival = from_2(peer(2), peer(1));
        let flooded = frame(Y, MacAddress::BROADCAST);
        setup.worker.pass(at(0), &mut setup.port).relay_only(arrival, Frame::plain(&flooded));
        assert!(setup.port.injected.is_empty());
        assert_eq!(setup.other.take(), [Sent(peer(2), peer(3), flooded, true)]);
        assert_eq!(setup.switch.macs().lookup(Y), Some(peer(2)));
        // For a station that is known to be here the kernel did everything.
        setup.switch.refresh_station(at(0), X, peer(1));
        setup.worker.pass(at(0), &mut setup.port).relay_only(arrival, Frame::plain(&frame(Y, X)));
        assert!(setup.port.injected.is_empty() && setup.other.take().is_empty());
    }

    #[test]
    fn a_flooded_frame_that_is_too_big_is_dropped_silently() {
        let mut setup = Setup::new();
        *setup.fast.answer.lock().unwrap() = Forwarded::TooBig { mtu: 1400 };
        setup.captured(&[frame(X, Y)]);
        assert_eq!(setup.dropped(DropCause::TooBig), 1);
        assert_eq!(setup.other.take().len(), 1);
        assert_eq!(setup.port.injected.len(), 0);
    }

    /// An IPv4 packet of `length` bytes from X to Y that must not be cut.
    fn packet(length: u16) -> Vec<u8> {
        let mut frame = [Y.0, X.0].concat();
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 32, 0, 1, 10, 32, 0, 2]);
        frame.resize(14 + usize::from(length), 0);
        frame
    }

    #[test]
    fn the_sender_of_a_packet_that_is_too_big_is_told() {
        let mut setup = Setup::new();
        setup.switch.refresh_station(at(0), Y, peer(2));
        *setup.fast.answer.lock().unwrap() = Forwarded::TooBig { mtu: 1400 };
        setup.captured(&[packet(1500)]);
        let [answer] = &setup.port.injected[..] else { panic!("no answer") };
        assert_eq!(answer[..12], [X.0, Y.0].concat(), "as if the receiver had sent it");
        // ICMP 3/4 with the MTU of the next hop.
        assert_eq!((answer[34], answer[35]), (3, 4));
        assert_eq!(answer[40..42], 1400u16.to_be_bytes());
        assert_eq!(setup.switch.report().too_big_answers, 1);
        assert_eq!(setup.slow.take().len(), 0, "the next transport is not tried");
    }

    #[test]
    fn a_relay_sends_the_answer_back_to_the_source() {
        let mut setup = Setup::new();
        *setup.other.answer.lock().unwrap() = Forwarded::TooBig { mtu: 1400 };
        let mut pass = setup.worker.pass(at(0), &mut setup.port);
        let arrival = from_2(peer(2), peer(3));
        pass.received(arrival, Frame::plain(&packet(1500)));
        drop(pass);
        let sent = setup.fast.take();
        let [Sent(source, destination, answer, broadcast)] = &sent[..] else { panic!("no answer") };
        assert_eq!((*source, *destination, *broadcast), (peer(3), peer(2), false));
        assert_eq!(answer[..12], [X.0, Y.0].concat());
        assert_eq!(*setup.fast.flushes.lock().unwrap(), 1);
        // What is no IP packet gets no answer.
        let mut pass = setup.worker.pass(at(0), &mut setup.port);
        pass.received(arrival, Frame::plain(&[2; 1600]));
        drop(pass);
        assert_eq!(setup.dropped(DropCause::TooBig), 1);
    }

    #[test]
    fn counters_survive_their_thread_and_numbers_are_reused() {
        let mut setup = Setup::new();
        setup.captured(&[frame(X, Y)]);
        let switch = setup.switch.clone();
        let more: Vec<_> = (1..WorkerId::MAX)
            .map(|number| {
                let worker = Worker::new(switch.clone()).unwrap();
                assert_eq!(worker.id().get(), number);
                worker
            })
            .collect();
        assert_eq!(Worker::new(switch.clone()).err(), Some(TooManyWorkers));
        drop(setup);
        assert_eq!(switch.report().captured, 1);
        assert_eq!(Worker::new(switch.clone()).unwrap().id().get(), 0);
        drop(more);
    }

    #[test]
    fn moves_and_conflicts_are_noted() {
        let wakes = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = wakes.clone();
        let moved = Waker::new(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        let Setup { switch, mut worker, mut port, .. } = Setup::new();
        switch.on_move(moved);
        let mut pass = worker.pass(at(0), &mut port);
        let from = |from| from_2(peer(from), peer(1));
        pass.received(from(2), Frame::plain(&frame(Y, X)));
        drop(pass);
        let mut pass = worker.pass(at(5), &mut port);
        pass.received(from(3), Frame::plain(&frame(Y, X)));
        // It is asked, and does not answer.
        pass.captured(Frame::plain(&frame(X, Y)));
        drop(pass);
        let mut pass = worker.pass(at(6), &mut port);
        pass.received(from(3), Frame::plain(&frame(Y, X)));
        pass.captured(Frame::plain(&frame(Y, X)));
        pass.received(from(2), Frame::plain(&frame(X, Y)));
        drop(pass);
        let recent_events = switch.recent_events();
        assert_eq!(recent_events.dispute, Some((Y, peer(2), peer(3))));
        assert_eq!(recent_events.moved, Some((Y, peer(2), peer(3))));
        assert_eq!(recent_events.conflict, Some((Y, peer(3))));
        assert_eq!(recent_events.contest, Some((X, peer(1), peer(2))));
        assert_eq!(port.injected.len(), 3, "what is contested would teach the bridge");
        assert_eq!(wakes.load(std::sync::atomic::Ordering::Relaxed), 2);
        let report = switch.report();
        assert_eq!(report.disputes, 1);
        assert_eq!((report.moves, switch.conflicts(), report.contests), (1, 1, 1));
        assert_eq!(report.dropped.get(DropCause::Contested), 1);
    }
}
