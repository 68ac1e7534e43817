//! Several frames in one datagram, several datagrams in one system call (spec sleeve.md, section
//! 5.1).
//!
//! ```text
//!   arena  | datagram | datagram | datagram being filled ......|        |
//!          | header, record, record ... | header, record |
//! ```
//!
//! A [`Batch`] holds what one data thread has for one link and channel. Frames are written once, to
//! the place where they are sealed and sent from. Nothing is held back: a thread flushes its
//! batches as soon as it has no more frames at hand.

use std::ops::Range;

use weave_core::mesh::PeerName;
use weave_core::mtu::MAX_UDP_PAYLOAD;
use weave_core::time::Instant;

use crate::cipher::{Channel, NoncesExhausted};
use crate::encapsulation::{Draft, Encapsulation};

/// Frames appended before a datagram is closed even though more would fit.
const FRAMES_PER_ROUND: usize = 100;

/// Datagrams in one batch: as many as one `UDP_SEGMENT` message can carry.
pub(crate) const MAX_DATAGRAMS: usize = 64;

/// Room for the largest datagram, or for 44 of 1472 bytes.
const ARENA: usize = 1 << 16;

/// The outcome of appending a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AppendOutcome {
    /// The frame is in the batch.
    Appended,
    /// There is no room until the batch is sent: send it, then append again.
    Full,
    /// The frame does not fit into an empty datagram of this channel.
    TooLong,
}

/// Datagrams under construction.
#[derive(Debug)]
pub(crate) struct Batch {
    channel: Channel,
    arena: Box<[u8]>,
    closed: Vec<Range<usize>>,
    open: Option<Range<usize>>,
    round: usize,
}

impl Batch {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            arena: vec![0; ARENA].into_boxed_slice(),
            closed: Vec::with_capacity(MAX_DATAGRAMS),
            open: None,
            round: 0,
        }
    }

    pub(crate) const fn channel(&self) -> Channel {
        self.channel
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.is_none()
    }

    /// Appends a frame to the datagram being filled, or to a new one. `max_payload` is the size of
    /// the largest datagram that needs no fragmentation.
    pub(crate) fn append(
        &mut self,
        encapsulation: &Encapsulation,
        max_payload: usize,
        record: &Draft<impl Fn(&mut [u8])>,
    ) -> AppendOutcome {
        let trailer = encapsulation.trailer_len();
        let record_len = encapsulation.record_len(record);
        let max_payload = max_payload.min(MAX_UDP_PAYLOAD);
        if let Some(open) = &mut self.open {
            if self.round < FRAMES_PER_ROUND && open.len() + record_len + trailer <= max_payload {
                open.end += emit(encapsulation, record, &mut self.arena[open.end..]);
                self.round += 1;
                return AppendOutcome::Appended;
            }
            self.close(trailer);
        }
        let length = encapsulation.header_len() + record_len + trailer;
        let limit = match self.channel {
            Channel::DontFragment => max_payload,
            Channel::Fragmentable => MAX_UDP_PAYLOAD,
        };
        if length > limit {
            self.round = 0;
            return AppendOutcome::TooLong;
        }
        // Room for the largest size that the datagram can grow to.
        let start = self.closed.last().map_or(0, |last| last.end);
        if start + length.max(max_payload) > ARENA || self.closed.len() == MAX_DATAGRAMS {
            return AppendOutcome::Full;
        }
        if self.round == FRAMES_PER_ROUND {
            self.round = 0;
        }
        let records = start + encapsulation.header_len();
        let end = records + emit(encapsulation, record, &mut self.arena[records..]);
        self.open = Some(start..end);
        self.round += 1;
        AppendOutcome::Appended
    }

    /// Closes the datagram being filled.
    fn close(&mut self, trailer: usize) {
        if let Some(Range { start, end }) = self.open.take() {
            self.closed.push(start..end + trailer);
        }
    }

    /// Closes the datagram being filled, and seals all of them.
    pub(crate) fn seal(
        &mut self,
        now: Instant,
        encapsulation: &Encapsulation,
        own: PeerName,
    ) -> Result<(), NoncesExhausted> {
        self.close(encapsulation.trailer_len());
        encapsulation.seal(now, own, self.channel, &mut self.arena, &self.closed)
    }

    /// Returns the datagrams in order, as adjacent ranges of the bytes.
    pub(crate) fn datagrams(&self) -> (&[u8], &[Range<usize>]) {
        (&self.arena, &self.closed)
    }

    /// Discards all datagrams, which were sent or cannot be.
    pub(crate) fn clear(&mut self) {
        self.closed.clear();
        self.open = None;
        self.round = 0;
    }
}

fn emit(
    encapsulation: &Encapsulation,
    record: &Draft<impl Fn(&mut [u8])>,
    buffer: &mut [u8],
) -> usize {
    encapsulation
        .emit(record, buffer)
        .expect("a datagram is below 64 KiB and the arena has room for it")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use weave_core::mesh::SessionKey;

    use super::*;
    use crate::cipher::{Cipher, LegacyBox};
    use crate::datagram::RECORD_HEADER;
    use crate::encapsulation::Opened;
    use crate::native::Form;
    use crate::replay::Windows;

    fn legacy(encrypted: bool, outbound: bool) -> Encapsulation {
        Encapsulation::Legacy(if encrypted {
            Cipher::Legacy(LegacyBox::new(&SessionKey([9; 32]), outbound))
        } else {
            Cipher::Plain
        })
    }

    /// Packs frames of these lengths, and returns the datagrams and the number of frames that did
    /// not fit.
    fn pack(
        encrypted: bool,
        channel: Channel,
        max_payload: usize,
        lengths: &[usize],
    ) -> (Vec<Vec<u8>>, usize) {
        let legacy = legacy(encrypted, true);
        let own = PeerName::from_bytes([6; 6]);
        let mut batch = Batch::new(channel);
        let (mut sent, mut dropped) = (Vec::new(), 0);
        let mut flush = |batch: &mut Batch| {
            batch.seal(Instant::ORIGIN, &legacy, own).unwrap();
            let (arena, ranges) = batch.datagrams();
            sent.extend(ranges.iter().map(|range| arena[range.clone()].to_vec()));
            batch.clear();
        };
        for (index, length) in lengths.iter().enumerate() {
            let frame = vec![u8::try_from(index % 251).unwrap(); *length];
            let (source, destination) =
                (PeerName::from_bytes([2; 6]), PeerName::from_bytes([4; 6]));
            let write = |place: &mut [u8]| place.copy_from_slice(&frame);
            let (form, length) = (Form::Complete, frame.len());
            let record = Draft { source, destination, form, relays: 0, length, write };
            let append = |batch: &mut Batch| batch.append(&legacy, max_payload, &record);
            match append(&mut batch) {
                AppendOutcome::Appended => {}
                AppendOutcome::TooLong => dropped += 1,
                AppendOutcome::Full => {
                    flush(&mut batch);
                    assert_eq!(append(&mut batch), AppendOutcome::Appended);
                }
            }
        }
        flush(&mut batch);
        assert!(batch.is_empty());
        (sent, dropped)
    }

    /// Returns the frames in a datagram.
    fn frames(encrypted: bool, windows: &mut Windows, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut datagram = datagram.to_vec();
        match legacy(encrypted, false).open(windows, &mut datagram).unwrap() {
            Opened::Legacy(records) => {
                records.map(|record| record.unwrap().frame.to_vec()).collect()
            }
            Opened::Native(_) => panic!("made in the legacy format"),
        }
    }

    fn number(value: &Value) -> usize {
        usize::try_from(value.as_u64().unwrap()).unwrap()
    }

    #[test]
    fn packs_as_the_reference_does() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/sleeve.json")).unwrap();
        for case in vectors["aggregation"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let lengths: Vec<_> =
                case["queued_frame_lengths"].as_array().unwrap().iter().map(number).collect();
            let encrypted = case["encrypted"].as_bool().unwrap();
            let channel = if case["df_channel"].as_bool().unwrap() {
                Channel::DontFragment
            } else {
                Channel::Fragmentable
            };
            let (sent, _) = pack(encrypted, channel, number(&case["max_payload"]), &lengths);
            let mut windows = Windows::default();
            let packed: Vec<_> = sent
                .iter()
                .map(|datagram| {
                    let frames = frames(encrypted, &mut windows, datagram);
                    (datagram.len(), frames.iter().map(Vec::len).collect::<Vec<_>>())
                })
                .collect();
            let expected: Vec<_> = case["packets"]
                .as_array()
                .unwrap()
                .iter()
                .map(|packet| {
                    let lengths = packet["frame_lengths"].as_array().unwrap();
                    let lengths: Vec<_> = lengths.iter().map(number).collect();
                    (number(&packet["udp_payload_length"]), lengths)
                })
                .collect();
            assert_eq!(packed, expected, "{name}");
        }
    }

    proptest! {
        // Each case seals some hundreds of kilobytes.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn keeps_limits_and_order(
            encrypted: bool,
            fragmentable: bool,
            max_payload in 100_usize..9000,
            lengths in prop::collection::vec(
                prop_oneof![9 => 0_usize..200, 5 => 0_usize..2000, 1 => 0_usize..65_600],
                0..150,
            ),
        ) {
            let channel =
                if fragmentable { Channel::Fragmentable } else { Channel::DontFragment };
            let header = legacy(encrypted, true).header_len() + RECORD_HEADER;
            let limit = if fragmentable { MAX_UDP_PAYLOAD } else { max_payload };
            let (sent, dropped) = pack(encrypted, channel, max_payload, &lengths);
            let mut windows = Windows::default();
            let mut received = Vec::new();
            for datagram in &sent {
                let frames = frames(encrypted, &mut windows, datagram);
                prop_assert!((1..=FRAMES_PER_ROUND).contains(&frames.len()));
                let limit = if frames.len() == 1 { limit } else { max_payload };
                prop_assert!(datagram.len() <= limit);
                received.extend(frames);
            }
            let expected: Vec<_> = lengths
                .iter()
                .enumerate()
                .filter(|(_, length)| header + **length <= limit)
                .map(|(index, length)| vec![u8::try_from(index % 251).unwrap(); *length])
                .collect();
            prop_assert_eq!(lengths.len() - dropped, expected.len());
            prop_assert!(received == expected);
        }
    }
}
