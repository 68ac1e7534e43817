//! Coalesces the frames of a flow to super-frames: what the kernel calls generic receive offload.
//!
//! All frames come from one batch of datagrams, so that nothing is ever held back for a later one.
//! A frame is appended to its predecessor if the kernel would cut the result back into the same
//! frames:
//!
//! * it is an unfragmented TCP or UDP packet over IPv4 without options or IPv6 without extensions,
//!   with nothing behind it;
//! * all headers are equal except lengths, checksums, the sequence number, which is the next one,
//!   and the IPv4 id, which is the next one too or is irrelevant because of "don't fragment" (RFC
//!   6864, section 4.1);
//! * a TCP segment has the ACK flag alone, or PSH or FIN as well, which make it the last one;
//! * it is not empty, and no longer than the first frame; a shorter one is the last one;
//! * its checksums are right. A wrong checksum has to stay wrong, for the receiver to notice, but
//!   the super-frame gets new ones.
//!
//! All other frames pass unchanged. They never overtake a frame of their flow, and a frame without
//! a recognisable flow overtakes nothing.

use std::ops::Range;

use weave_core::switch::{ChecksumRequest, Frame, Segmentation, SegmentationKind};
use weave_core::wire::Checksum;

use super::layout::{Layout, Network, Transport, field, flag, put_u16, u16_at, u32_at};

/// Flows that are coalesced at once. Another one evicts the oldest.
const FLOWS: usize = 8;

/// Length of the longest IP packet, with the header of a frame with two tags.
const CAPACITY: usize = u16::MAX as usize + 22;

/// Most datagrams that the kernel puts into one super-frame (`UDP_MAX_SEGMENTS` before 6.9).
const MAX_DATAGRAMS: usize = 64;

/// Length of the ports, with which both transport headers begin.
const PORTS: usize = 4;

/// The kinds of super-frame that a device accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SuperFrameKinds {
    /// TCP over IPv4 and IPv6.
    pub tcp: bool,
    /// UDP datagrams.
    pub udp: bool,
}

/// Coalesces frames. `K` is what frames must have in common besides their headers, such as their
/// origin.
#[derive(Debug)]
pub struct Coalescer<K> {
    kinds: SuperFrameKinds,
    slots: [Slot<K>; FLOWS],
    /// Number of runs begun so far, which tells their age.
    begun: u64,
}

#[derive(Debug)]
struct Slot<K> {
    /// The first frame, with the payload of the others behind it.
    buffer: Box<[u8]>,
    run: Option<Run<K>>,
}

/// Frames of one flow that are coalesced already.
#[derive(Clone, Copy, Debug)]
struct Run<K> {
    key: K,
    layout: Layout,
    begun: u64,
    /// The request of the first frame, if its checksum is unfinished.
    checksum: Option<ChecksumRequest>,
    /// Length in the buffer.
    len: usize,
    /// Payload of the first frame, and of all others but the last.
    size: usize,
    count: usize,
}

impl<K: Copy + PartialEq> Coalescer<K> {
    /// Creates a coalescer for these kinds of super-frame.
    pub fn new(kinds: SuperFrameKinds) -> Self {
        let slot = |_| Slot { buffer: vec![0; CAPACITY].into(), run: None };
        Self { kinds, slots: std::array::from_fn(slot), begun: 0 }
    }

    /// Builds no more super-frames of this kind. Runs that are begun are still handed over.
    pub fn disable(&mut self, kind: SegmentationKind) {
        match kind {
            SegmentationKind::Tcp4 | SegmentationKind::Tcp6 => self.kinds.tcp = false,
            SegmentationKind::Udp => self.kinds.udp = false,
        }
    }

    /// Accepts an ordinary frame, and hands over what cannot wait for more.
    pub fn push(&mut self, key: K, frame: Frame<'_>, each: &mut impl FnMut(K, Frame<'_>)) {
        let Some(layout) = Layout::of(frame.bytes).filter(|layout| joinable(layout, &frame)) else {
            self.flush(each);
            return each(key, frame);
        };
        if let Some(slot) =
            self.slots.iter_mut().find(|slot| slot.has_flow(key, frame.bytes, &layout))
        {
            match slot.append(&frame, &layout) {
                AppendOutcome::Joined => return,
                AppendOutcome::JoinedAsLast => return slot.flush(each),
                AppendOutcome::Refused => slot.flush(each),
            }
        }
        if self.may_be_first(frame.bytes, &layout) {
            let begun = self.begun;
            self.begun += 1;
            self.room(each).begin(
                frame.bytes,
                Run {
                    key,
                    layout,
                    begun,
                    checksum: frame.checksum,
                    len: frame.bytes.len(),
                    size: frame.bytes.len() - layout.payload,
                    count: 1,
                },
            );
        } else {
            each(key, frame);
        }
    }

    /// Hands over all remaining frames. It is called before waiting for more.
    pub fn flush(&mut self, each: &mut impl FnMut(K, Frame<'_>)) {
        while let Some(index) = self.oldest() {
            self.slots[index].flush(each);
        }
    }

    /// Returns whether other frames may be appended to this one.
    fn may_be_first(&self, frame: &[u8], layout: &Layout) -> bool {
        let wanted = match layout.transport_kind {
            Transport::Tcp => {
                self.kinds.tcp && frame[layout.transport + field::TCP_FLAGS] == flag::ACK
            }
            Transport::Udp => self.kinds.udp,
        };
        wanted && frame.len() > layout.payload && frame.len() <= CAPACITY
    }

    /// Returns a slot without a run. If there is none, the oldest run is handed over.
    fn room(&mut self, each: &mut impl FnMut(K, Frame<'_>)) -> &mut Slot<K> {
        let free = self.slots.iter().position(|slot| slot.run.is_none());
        let index = free.or_else(|| self.oldest()).expect("each slot is free or has a run");
        self.slots[index].flush(each);
        &mut self.slots[index]
    }

    fn oldest(&self) -> Option<usize> {
        let runs = self.slots.iter().enumerate();
        let begun = runs.filter_map(|(index, slot)| Some((slot.run.as_ref()?.begun, index)));
        begun.min().map(|(_, index)| index)
    }
}

/// Whether a frame was appended to the run of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AppendOutcome {
    Joined,
    JoinedAsLast,
    Refused,
}

impl<K: Copy + PartialEq> Slot<K> {
    fn begin(&mut self, frame: &[u8], run: Run<K>) {
        self.buffer[..frame.len()].copy_from_slice(frame);
        self.run = Some(run);
    }

    /// Returns whether the frame has the key, the addresses and the ports of the run.
    fn has_flow(&self, key: K, frame: &[u8], layout: &Layout) -> bool {
        let Some(run) = &self.run else { return false };
        let same = (run.layout.network_kind, run.layout.transport_kind)
            == (layout.network_kind, layout.transport_kind);
        let addresses = match layout.network_kind {
            Network::V4 => 12..20,
            Network::V6 => 8..40,
        };
        same && run.key == key
            && self.buffer[run.layout.network..][addresses.clone()]
                == frame[layout.network..][addresses]
            && self.buffer[run.layout.transport..][..PORTS] == frame[layout.transport..][..PORTS]
    }

    fn append(&mut self, frame: &Frame<'_>, layout: &Layout) -> AppendOutcome {
        let Some(run) = &mut self.run else { return AppendOutcome::Refused };
        let Frame { bytes: frame, checksum, .. } = *frame;
        let joined = &mut self.buffer[..];
        // The sender vouches for an unfinished checksum.
        let follows = run.is_followed_by(&joined[..run.len], frame, layout)
            && (run.count > 1 || run.checksum.is_some() || is_intact(&joined[..run.len], layout))
            && (checksum.is_some() || is_intact(frame, layout));
        if !follows {
            return AppendOutcome::Refused;
        }
        let payload = &frame[layout.payload..];
        joined[run.len..run.len + payload.len()].copy_from_slice(payload);
        run.len += payload.len();
        run.count += 1;
        let mut last = payload.len() < run.size;
        match layout.transport_kind {
            Transport::Tcp => {
                let flags = layout.transport + field::TCP_FLAGS;
                joined[flags] = frame[flags];
                last |= frame[flags] != flag::ACK;
            }
            Transport::Udp => last |= run.count == MAX_DATAGRAMS,
        }
        if last { AppendOutcome::JoinedAsLast } else { AppendOutcome::Joined }
    }

    /// Hands over the run, if there is one.
    fn flush(&mut self, each: &mut impl FnMut(K, Frame<'_>)) {
        let Some(run) = self.run.take() else { return };
        let frame = &mut self.buffer[..run.len];
        if run.count == 1 {
            return each(run.key, Frame { checksum: run.checksum, ..Frame::plain(frame) });
        }
        let Layout { transport, .. } = run.layout;
        let offset = run.layout.checksum_offset();
        run.layout.put_lengths(frame);
        let unfinished = run.layout.pseudo_header(frame).sum();
        put_u16(frame, transport + offset, unfinished);
        let small = |number: usize| u16::try_from(number).expect("within a packet");
        let checksum = Some(ChecksumRequest { start: small(transport), offset: small(offset) });
        let kind = run.layout.segmentation_kind();
        let segmentation = Some(Segmentation { kind, size: small(run.size) });
        each(run.key, Frame { bytes: frame, checksum, segmentation });
    }
}

impl<K> Run<K> {
    /// Returns whether cutting the run would give a frame these headers and this length. `joined`
    /// holds the run so far.
    fn is_followed_by(&self, joined: &[u8], frame: &[u8], layout: &Layout) -> bool {
        // A difference in options or tags is a difference in layout.
        if self.layout != *layout {
            return false;
        }
        let Layout { network, transport, payload, .. } = *layout;
        let length = frame.len() - payload;
        let fits = joined.len() + length - network <= u16::MAX.into();
        let same = |range: Range<usize>| joined[range.clone()] == frame[range];
        let network_follows = same(0..network + 2)
            && match layout.network_kind {
                // Flags, time to live and protocol, but not length, id and checksum.
                Network::V4 => same(network + 6..network + 10) && self.id_follows(joined, frame),
                Network::V6 => same(network + 2..network + 4) && same(network + 6..transport),
            };
        let transport_follows = match layout.transport_kind {
            Transport::Tcp => {
                let sequence = |frame| u32_at(frame, transport + field::TCP_SEQUENCE);
                let passed = u32::try_from(joined.len() - payload).unwrap_or(0);
                let expected = sequence(joined).map(|first| first.wrapping_add(passed));
                let flags = frame[transport + field::TCP_FLAGS];
                sequence(frame) == expected
                    && flags & !(flag::PSH | flag::FIN) == flag::ACK
                    // Acknowledgement and header length; window; urgent pointer and options.
                    && same(transport + 8..transport + 13)
                    && same(transport + 14..transport + 16)
                    && same(transport + 18..payload)
            }
            Transport::Udp => true,
        };
        fits && (1..=self.size).contains(&length) && network_follows && transport_follows
    }

    fn id_follows(&self, joined: &[u8], frame: &[u8]) -> bool {
        let id = |frame| u16_at(frame, self.layout.network + field::IPV4_ID);
        let count = u16::try_from(self.count).unwrap_or(0);
        let dont_fragment = frame[self.layout.network + 6] & 0x40 != 0;
        dont_fragment || id(frame) == id(joined).map(|first| first.wrapping_add(count))
    }
}

/// Returns whether the headers are where they can be compared, and the checksum is complete or
/// requested at its usual place.
fn joinable(layout: &Layout, frame: &Frame<'_>) -> bool {
    layout.is_bare()
        && frame.segmentation.is_none()
        && frame.checksum.is_none_or(|ChecksumRequest { start, offset }| {
            (start.into(), offset.into()) == (layout.transport, layout.checksum_offset())
        })
}

/// Returns whether the checksums are those that this side would have computed. That excludes the
/// other representation of zero, which is right as well, and UDP without a checksum.
fn is_intact(frame: &[u8], layout: &Layout) -> bool {
    let Layout { network, transport, .. } = *layout;
    let network_intact = match layout.network_kind {
        Network::V4 => {
            Checksum::of(&frame[network..transport]) == 0
                && u16_at(frame, network + field::IPV4_CHECKSUM) != Some(0xffff)
        }
        Network::V6 => true,
    };
    let mut checksum = layout.pseudo_header(frame);
    checksum.add(&frame[transport..]);
    network_intact
        && checksum.finish() == 0
        && u16_at(frame, transport + layout.checksum_offset()) != Some(0)
}

#[cfg(test)]
mod tests;
