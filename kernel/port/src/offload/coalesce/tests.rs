use proptest::prelude::*;

use super::*;
use crate::offload::Segments;
use crate::offload::sample::{SuperFrameSpec, dissect, spec, write_all};

const ALL: SuperFrameKinds = SuperFrameKinds { tcp: true, udp: true };

/// A frame handed over by a coalescer.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Out {
    key: u8,
    bytes: Vec<u8>,
    checksum: Option<ChecksumRequest>,
    segmentation: Option<Segmentation>,
}

impl Out {
    fn of(key: u8, Frame { bytes, checksum, segmentation }: Frame<'_>) -> Self {
        Self { key, bytes: bytes.to_vec(), checksum, segmentation }
    }
}

fn coalesce<'f>(
    kinds: SuperFrameKinds,
    frames: impl IntoIterator<Item = (u8, &'f [u8])>,
) -> Vec<Out> {
    let mut out = Vec::new();
    let mut each = |key, frame: Frame<'_>| out.push(Out::of(key, frame));
    let mut coalescer = Coalescer::new(kinds);
    for (key, frame) in frames {
        coalescer.push(key, Frame::plain(frame), &mut each);
    }
    coalescer.flush(&mut each);
    out
}

fn segment(frame: Frame<'_>) -> Vec<Vec<u8>> {
    write_all(&Segments::new(frame).unwrap())
}

fn frames(spec: &SuperFrameSpec) -> Vec<Vec<u8>> {
    segment(spec.build().frame())
}

proptest! {
    #[test]
    fn coalescing_undoes_segmentation(spec in spec()) {
        let built = spec.build();
        let frames = segment(built.frame());
        let out = coalesce(ALL, frames.iter().map(|frame| (0, &frame[..])));
        if let [only] = &frames[..] {
            prop_assert_eq!(out, [Out::of(0, Frame::plain(only))]);
        } else {
            prop_assert_eq!(out, [Out::of(0, built.frame())]);
        }
    }

}

proptest! {
    // Each case builds and parses up to a megabyte.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Many flows at once, with frames lost, duplicated, swapped or damaged: the output is cut into
    /// the frames that went in, those of a flow in the same order.
    #[test]
    fn segmentation_undoes_coalescing(
        recipes in prop::collection::vec(spec(), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..5, 0_usize..80), 0..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        kinds in (any::<bool>(), any::<bool>()),
    ) {
        // Some of the flows are equal.
        let mut input = interleave(
            (0..).zip(recipes).map(|(flow, spec)| {
                let spec = SuperFrameSpec { port: flow % 10, ..spec };
                frames(&spec).into_iter().map(|frame| (0, frame)).collect()
            }).collect(),
            &order,
        );
        for (which, what, place) in damage {
            let at = which.index(input.len());
            match what {
                0 => { input.remove(at); }
                1 => input.insert(at, input[at].clone()),
                2 => { let other = (at + 1) % input.len(); input.swap(at, other); }
                3 => input[at].0 = 1,
                _ => if let Some(byte) = input[at].1.get_mut(place) { *byte ^= 0x10; },
            }
            if input.is_empty() {
                return Ok(());
            }
        }
        let kinds = SuperFrameKinds { tcp: kinds.0, udp: kinds.1 };
        let out = coalesce(kinds, input.iter().map(|(key, frame)| (*key, &frame[..])));
        let mut result = Vec::new();
        for Out { key, bytes, checksum, segmentation } in &out {
            let frame = Frame { bytes, checksum: *checksum, segmentation: *segmentation };
            let cut = segment(frame);
            if let Some(Segmentation { kind, .. }) = segmentation {
                let udp = *kind == SegmentationKind::Udp;
                prop_assert!(if udp { kinds.udp } else { kinds.tcp }, "{:?}", kind);
                cut.iter().for_each(|frame| { dissect(frame); });
            }
            result.extend(cut.into_iter().map(|frame| (*key, frame)));
        }
        prop_assert_eq!(result.len(), input.len());
        for flow in input.iter().map(|(key, frame)| (*key, flow(frame))) {
            let of_flow = |frames: &[(u8, Vec<u8>)]| -> Vec<Vec<u8>> {
                frames
                    .iter()
                    .filter(|(key, frame)| (*key, self::flow(frame)) == flow)
                    .map(|(_, frame)| without_id(frame))
                    .collect()
            };
            prop_assert!(of_flow(&input) == of_flow(&result), "{:?}", flow);
        }
    }
}

/// Interleaves lists in the given order.
fn interleave<T>(lists: Vec<Vec<T>>, order: &[prop::sample::Index]) -> Vec<T> {
    let mut lists: Vec<_> = lists.into_iter().map(|list| list.into_iter().peekable()).collect();
    let mut order = order.iter();
    let mut all = Vec::new();
    loop {
        lists.retain_mut(|list| list.peek().is_some());
        if lists.is_empty() {
            return all;
        }
        let at = order.next().map_or(0, |index| index.index(lists.len()));
        all.extend(lists[at].next());
    }
}

/// Returns addresses and ports where they are in an undamaged frame, and for other frames anything
/// that is the same for the same frame.
fn flow(frame: &[u8]) -> Vec<u8> {
    let tags = (0..2).take_while(|tag| matches!(frame[12 + 4 * tag], 0x81 | 0x88)).count();
    let network = &frame[14 + 4 * tags..];
    if network[0] == 0x60 {
        network[6..44].to_vec()
    } else {
        [&network[9..10], &network[12..24]].concat()
    }
}

/// Returns the frame as seen by a receiver that ignores the id of packets that cannot be
/// fragmented, and with it the checksum of their header.
fn without_id(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let tags = (0..2).take_while(|tag| matches!(frame[12 + 4 * tag], 0x81 | 0x88)).count();
    let network = 14 + 4 * tags;
    if frame[network - 2..network] == [8, 0] && frame[network + 6] & 0x40 != 0 {
        frame[network + 4..network + 6].fill(0);
        frame[network + 10..network + 12].fill(0);
    }
    frame
}

fn sample() -> SuperFrameSpec {
    let payload = (0..=255).cycle().take(4000).collect();
    SuperFrameSpec { sequence: u32::MAX - 1500, ..SuperFrameSpec::tcp(payload, 1000) }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        for damaged in 0..4 {
            let mut frames = frames(&SuperFrameSpec { v6, udp, ..sample() });
            let last = frames[damaged].len() - 1;
            frames[damaged][last] ^= 1;
            let out = coalesce(ALL, frames.iter().map(|frame| (0, &frame[..])));
            let plain = Out::of(0, Frame::plain(&frames[damaged]));
            assert!(out.contains(&plain), "frame {damaged}, IPv6 {v6}, UDP {udp}");
            assert_eq!(out.len(), [2, 3, 3, 2][damaged]);
        }
    }
}

#[test]
fn frames_that_differ_are_not_coalesced() {
    let joined = |change: &dyn Fn(&mut SuperFrameSpec)| {
        let mut second = sample();
        second.payload.truncate(2000);
        let mut first = frames(&second);
        second.sequence = second.sequence.wrapping_add(2000);
        second.id += 2;
        change(&mut second);
        first.extend(frames(&second));
        coalesce(ALL, first.iter().map(|frame| (0, &frame[..]))).len() == 1
    };
    assert!(joined(&|_| {}));
    assert!(joined(&|spec| spec.id = 99));
    assert!(joined(&|spec| spec.flags |= 0x09));
    for flag in [0x02, 0x04, 0x20, 0x40, 0x80] {
        assert!(!joined(&|spec| spec.flags |= flag), "flag {flag:#x}");
    }
    assert!(!joined(&|spec| spec.sequence += 1));
    assert!(!joined(&|spec| spec.options = 4));
    assert!(!joined(&|spec| spec.tags = 1));
    assert!(!joined(&|spec| spec.dont_fragment = false));
    assert!(!joined(&|spec| spec.port = 81));
    assert!(!joined(&|spec| spec.payload.clear()));
    assert!(!joined(&|spec| spec.size = 1001));
}

#[test]
fn ids_matter_where_packets_may_be_fragmented() {
    let mut first = SuperFrameSpec { dont_fragment: false, ..sample() };
    first.payload.truncate(1000);
    let mut second = first.clone();
    second.sequence = second.sequence.wrapping_add(1000);
    for (id, expected) in [(8, 1), (9, 2), (7, 2)] {
        second.id = id;
        let frames = [frames(&first), frames(&second)].concat();
        assert_eq!(coalesce(ALL, frames.iter().map(|frame| (0, &frame[..]))).len(), expected);
    }
}

#[test]
fn keys_keep_flows_apart() {
    let frames = frames(&sample());
    let both = frames.iter().flat_map(|frame| [(0, &frame[..]), (1, &frame[..])]);
    let expected = sample().build();
    let whole = |key| Out::of(key, expected.frame());
    assert_eq!(coalesce(ALL, both), [whole(0), whole(1)]);
}

#[test]
fn frames_without_a_flow_overtake_nothing() {
    let mut frames = frames(&sample());
    let arp = [&[0xff; 6][..], &[2; 6], &[8, 6], &[0; 46]].concat();
    frames.insert(2, arp.clone());
    let out = coalesce(ALL, frames.iter().map(|frame| (0, &frame[..])));
    assert_eq!(out.len(), 3);
    assert_eq!(out[1], Out::of(0, Frame::plain(&arp)));
}

#[test]
fn the_oldest_of_too_many_flows_is_evicted() {
    let count = u16::try_from(FLOWS).unwrap() + 3;
    let flows: Vec<_> =
        (0..count).map(|port| frames(&SuperFrameSpec { port, ..sample() })).collect();
    let rounds = (0..4).flat_map(|round| flows.iter().map(move |flow| &flow[round]));
    let mut out = Vec::new();
    let mut each = |key, frame: Frame<'_>| out.push(Out::of(key, frame));
    let mut coalescer = Coalescer::new(ALL);
    for frame in rounds {
        coalescer.push(0, Frame::plain(frame), &mut each);
    }
    coalescer.flush(&mut each);
    // Each flow is evicted before its next frame comes.
    assert_eq!(out.len(), usize::from(count) * 4);
    let ports = |out: &Out| u16::from_be_bytes([out.bytes[34], out.bytes[35]]);
    assert!(out.iter().map(ports).eq((0..4).flat_map(|_| 0..count)));
}

#[test]
fn udp_super_frames_stay_within_the_limit_of_the_kernel() {
    let mut spec = SuperFrameSpec { udp: true, size: 100, ..sample() };
    spec.payload = vec![1; 64 * 100];
    let mut both = frames(&spec);
    spec.id += 64;
    both.extend(frames(&spec));
    let out = coalesce(ALL, both.iter().map(|frame| (0, &frame[..])));
    assert_eq!(out.iter().map(|out| out.bytes.len()).collect::<Vec<_>>(), [42 + 6400; 2]);
}
