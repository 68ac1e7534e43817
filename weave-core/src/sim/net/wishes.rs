//! What routers want of the network, and the datagrams of their transports.

use std::time::Duration;

use bytes::Bytes;

use super::super::host::{Bridge, Running};
use super::super::names::HostId;
use super::super::overlay::{Content, Datagram};
use super::super::tap::TappedFrame;
use super::{Happening, Net};
use crate::mesh::ConnectionId;
use crate::router::Output;
use crate::switch::{Arrival, Frame};

impl Net {
    /// Carries out what a router wants, until it wants nothing more.
    pub(in crate::sim) fn settle(&mut self, host: HostId) {
        loop {
            let entry = &mut self.hosts[host.0];
            let now = entry.clock(self.now);
            let Some(running) = &mut entry.running else { return };
            if running.take_woken() {
                running.router.handle_wakes(now);
            }
            let mut outputs = Vec::new();
            while let Some(output) = running.router.poll_output() {
                outputs.push(output);
            }
            let datagrams = running.overlay.take_outgoing();
            if outputs.is_empty() && datagrams.is_empty() {
                break;
            }
            outputs.into_iter().for_each(|output| self.carry_out(host, output));
            datagrams.into_iter().for_each(|datagram| self.send_datagram(host, datagram));
        }
        self.arm_timer(host);
    }

    fn carry_out(&mut self, host: HostId, output: Output) {
        match output {
            Output::Dial { id, address } => self.dial(host, id, address),
            Output::Resolve { target, host: name } => {
                let delay = Duration::from_millis(10);
                self.schedule(delay, Happening::Resolved(host, target, name));
            }
            Output::Send { id, bytes } => self.write(host, id, bytes),
            Output::Close { id } => {
                let stream = self.running(host).and_then(|running| running.streams.remove(&id));
                if let Some((stream, side)) = stream {
                    self.close(stream, side);
                }
            }
            Output::Event(event) => self.hosts[host.0].events.push(event),
        }
    }

    fn write(&mut self, host: HostId, id: ConnectionId, bytes: Bytes) {
        let Some(mut tap) = self.hosts[host.0].tap.take() else {
            return self.put(host, id, bytes);
        };
        let len = bytes.len();
        let said = tap.outgoing(id, bytes);
        self.hosts[host.0].tap = Some(tap);
        let withheld = len.saturating_sub(said.iter().map(Bytes::len).sum());
        said.into_iter().for_each(|bytes| self.put(host, id, bytes));
        let now = self.hosts[host.0].clock(self.now);
        if let Some(running) = self.running(host).filter(|_| withheld > 0) {
            running.router.handle_written(now, id, withheld);
        }
    }

    fn put(&mut self, host: HostId, id: ConnectionId, bytes: Bytes) {
        let stream = self.running(host).and_then(|running| running.streams.get(&id).copied());
        let Some((stream, side)) = stream else { return };
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.end_mut(side).write(bytes);
        let written = self.take_off(stream, side);
        let now = self.hosts[host.0].clock(self.now);
        if written > 0
            && let Some(running) = self.running(host)
        {
            running.router.handle_written(now, id, written);
        }
    }

    fn running(&mut self, host: HostId) -> Option<&mut Running> {
        self.hosts[host.0].running.as_mut()
    }

    fn arm_timer(&mut self, host: HostId) {
        let entry = &mut self.hosts[host.0];
        let lead = entry.clock_lead;
        let incarnation = entry.incarnation;
        let Some(running) = &mut entry.running else { return };
        let Some(at) = running.router.poll_timeout() else { return };
        let at = (at - lead).max(self.now);
        if running.timer_at.is_none_or(|armed| at < armed) {
            running.timer_at = Some(at);
            self.schedule_at(at, Happening::Timer(host, incarnation));
        }
    }

    fn send_datagram(&mut self, from: HostId, datagram: Datagram) {
        let entry = &mut self.hosts[from.0];
        let Datagram { connection, to, content } = datagram;
        match (content, &mut entry.tap) {
            (Content::Frame { source, destination, relays, bytes }, Some(tap)) => {
                let frames = tap.frame(TappedFrame { source, destination, relays, bytes });
                for TappedFrame { source, destination, relays, bytes } in frames {
                    let content = Content::Frame { source, destination, relays, bytes };
                    self.put_datagram(from, Datagram { connection, to, content });
                }
            }
            (content, _) => self.put_datagram(from, Datagram { connection, to, content }),
        }
    }

    fn put_datagram(&mut self, from: HostId, datagram: Datagram) {
        if matches!(datagram.content, Content::Frame { .. }) {
            let host = &mut self.hosts[from.0];
            host.frames_sent += 1;
            if host.frames_sent > self.frame_limit {
                return;
            }
        }
        let Some(to) = self.receiver(from, &datagram) else { return };
        for delay in self.path(from, to).delays(&mut self.random) {
            self.schedule(delay, Happening::Datagram(from, to, datagram.clone()));
        }
    }

    /// The other end of the connection, or else who has the name. That may have moved to another
    /// host, or be that of two.
    fn receiver(&self, from: HostId, datagram: &Datagram) -> Option<HostId> {
        let running = self.hosts.iter().filter_map(|host| Some((host, host.running.as_ref()?)));
        let mut others = running.clone().filter(|(host, _)| host.id != from);
        let ends = others.find(|(_, running)| running.overlay.has(datagram.connection));
        let named = || running.clone().find(|(host, _)| host.name == datagram.to);
        ends.or_else(named).map(|(host, _)| host.id)
    }

    pub(super) fn handle_datagram(&mut self, from: HostId, to: HostId, datagram: Datagram) {
        let cut = self.path(from, to).cut;
        let host = &mut self.hosts[to.0];
        let now = host.clock(self.now);
        let Some(running) = host.running.as_mut().filter(|_| !cut) else { return };
        if let Some((neighbour, Content::Frame { source, destination, relays, bytes })) =
            running.overlay.handle(datagram)
        {
            let arrival = Arrival { neighbour, source, destination, relays };
            let mut bridge = Bridge(&mut host.frames);
            running.worker.pass(now, &mut bridge).received(arrival, Frame::plain(&bytes));
        }
        self.settle(to);
    }
}
