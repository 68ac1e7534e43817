//! The sleeve as a transport of the router.

#[cfg(test)]
mod damaged_batches;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use weave_core::mesh::LinkRequest;
use weave_core::switch::{Forwarder, Link, LinkEvent, LinkStatus, Overlay, PrepareError, Waker};
use weave_core::time::{Clock, Instant};

use crate::forwarder::SleeveForwarder;
use crate::native::Capabilities;
use crate::receiver::{Receiver, ReceiverCounters};
use crate::registry::Registry;
use crate::udp::UdpSockets;

/// The UDP encapsulation of a router. Clones share its state.
#[derive(Clone, Debug)]
pub struct Sleeve {
    sockets: Arc<UdpSockets>,
    registry: Arc<Registry>,
    shared_counters: Arc<ReceiverCounters>,
    clock: Clock,
    capabilities: Capabilities,
}

impl Sleeve {
    /// Binds the UDP port of the router for as many data threads as given. Capabilities beyond
    /// Weave Net 2.x are used with neighbours that have them too.
    ///
    /// # Errors
    /// The address is in use, or is an IPv6 address.
    pub fn bind(
        address: SocketAddr,
        threads: usize,
        capabilities: Capabilities,
        clock: Clock,
    ) -> io::Result<Self> {
        let sockets = Arc::new(UdpSockets::bind(address, threads)?);
        let (registry, shared_counters) =
            (Arc::default(), Arc::new(ReceiverCounters::of(&sockets)));
        Ok(Self { sockets, registry, shared_counters, clock, capabilities })
    }

    /// Returns the address that the UDP port is bound to.
    pub fn local_address(&self) -> SocketAddr {
        self.sockets.address()
    }

    /// Returns the number of data threads that it receives for.
    pub fn threads(&self) -> usize {
        self.sockets.threads()
    }

    /// Creates the receivers of the datagrams of all links, one for each data thread. No others
    /// should exist at the same time.
    pub fn receivers(&self) -> Vec<Receiver> {
        let receiver = |thread| {
            Receiver::new(
                self.sockets.clone(),
                thread,
                self.registry.clone(),
                self.shared_counters.clone(),
                self.clock.clone(),
            )
        };
        (0..self.sockets.threads()).map(receiver).collect()
    }

    /// Returns the counters of all links together.
    pub fn counters(&self) -> Arc<ReceiverCounters> {
        self.shared_counters.clone()
    }
}

impl Overlay for Sleeve {
    fn name(&self) -> &'static str {
        "sleeve"
    }

    fn features(&self) -> BTreeMap<String, String> {
        self.capabilities.features()
    }

    fn prepare(
        &mut self,
        _now: Instant,
        request: &LinkRequest,
        waker: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        if request.remote_address.is_ipv6() {
            return Err(PrepareError("sleeve supports IPv4 only".to_owned()));
        }
        let (sockets, clock) = (self.sockets.clone(), self.clock.clone());
        let forwarder = SleeveForwarder::new(request, waker, &self.capabilities, sockets, clock);
        Ok(Box::new(SleeveLink { forwarder: Arc::new(forwarder), registry: self.registry.clone() }))
    }
}

/// The control half of a link.
#[derive(Debug)]
struct SleeveLink {
    forwarder: Arc<SleeveForwarder>,
    registry: Arc<Registry>,
}

impl Link for SleeveLink {
    fn confirm(&mut self, now: Instant) {
        self.registry.insert(self.forwarder.clone());
        self.forwarder.control(now, |machine| machine.confirm(now));
    }

    fn handle_control(&mut self, now: Instant, message: u8, data: &[u8]) {
        self.forwarder.control(now, |machine| machine.handle_control(now, message, data));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.forwarder.control(now, |machine| machine.handle_timeout(now));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.forwarder.poll_timeout()
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        let event = self.forwarder.poll_event();
        if let Some(LinkEvent::Failed(_)) = event {
            self.registry.remove(&self.forwarder);
            self.forwarder.close();
        }
        event
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        self.forwarder.clone()
    }

    fn status(&self) -> LinkStatus {
        let forwarder = &self.forwarder;
        let mut attributes = Vec::new();
        let encapsulation = &forwarder.encapsulation;
        attributes.push(("format", encapsulation.format().to_owned()));
        attributes.extend(encapsulation.cipher().map(|cipher| ("cipher", cipher.to_owned())));
        attributes.push((
            "fragmentation",
            if forwarder.stack_fragments() { "outer" } else { "inner" }.to_owned(),
        ));
        attributes.push(("offload", forwarder.offload()));
        LinkStatus {
            mtu: forwarder.verified_mtu(),
            encrypted: encapsulation.cipher().is_some(),
            attributes,
            problem: None,
            counters: forwarder.sent.list().chain(forwarder.received.list()).collect(),
        }
    }
}

impl Drop for SleeveLink {
    fn drop(&mut self) {
        self.registry.remove(&self.forwarder);
        self.forwarder.close();
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::fixtures::link_request;

    fn sleeve() -> Sleeve {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Sleeve::bind(any, 1, Capabilities::default(), Clock::new(|| Instant::ORIGIN)).unwrap()
    }

    fn request(sleeve: &Sleeve, remote_address: SocketAddr) -> LinkRequest {
        link_request(true, sleeve.local_address(), remote_address)
    }

    #[test]
    fn the_last_confirmed_link_of_a_neighbour_receives() {
        let mut sleeve = sleeve();
        let neighbour = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut prepare = || {
            let request = request(&sleeve, neighbour.local_addr().unwrap());
            sleeve.prepare(Instant::ORIGIN, &request, Waker::new(|| {})).unwrap()
        };
        let (mut first, mut second, third) = (prepare(), prepare(), prepare());
        let mut receiver = sleeve.receivers().remove(0);
        let frame = [[0, 0, 0, 0, 0, 0xa2], [0, 0, 0, 0, 0, 0xa2], [0, 0, 0, 0, 0, 0xa1]];
        let datagram = [frame.as_flattened(), &[0, 14], &[5; 14]].concat();
        let mut receives = || {
            neighbour.send_to(&datagram, sleeve.local_address()).unwrap();
            let mut count = 0;
            receiver.receive(|_, _| count += 1);
            count == 1
        };
        assert!(!receives(), "passive links take nothing in");
        first.confirm(Instant::ORIGIN);
        assert!(receives());
        second.confirm(Instant::ORIGIN);
        drop(first);
        drop(third);
        assert!(receives(), "the other links of the neighbour took nothing with them");
        let count = |name| {
            let counters = second.status().counters;
            counters.iter().find(|counter| counter.name == name).unwrap().value
        };
        assert_eq!(count("rx_frames"), 1);
        drop(second);
        assert!(!receives());
        let dropped = sleeve.counters().list()[1];
        assert_eq!((dropped.name, dropped.value), ("rx_dropped_unknown_sender", 2));
    }

    #[test]
    fn counters_have_one_name_each() {
        let mut sleeve = sleeve();
        let request = request(&sleeve, SocketAddr::from(([127, 0, 0, 1], 9)));
        let link = sleeve.prepare(Instant::ORIGIN, &request, Waker::new(|| {})).unwrap();
        let mut names: Vec<_> =
            link.status().counters.iter().map(|counter| counter.key()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn ipv6_is_left_to_other_transports() {
        let mut sleeve = sleeve();
        let request = request(&sleeve, "[::1]:6783".parse().unwrap());
        assert!(sleeve.prepare(Instant::ORIGIN, &request, Waker::new(|| {})).is_err());
        let any = "[::1]:0".parse().unwrap();
        assert!(
            Sleeve::bind(any, 1, Capabilities::default(), Clock::new(|| Instant::ORIGIN)).is_err()
        );
    }
}
