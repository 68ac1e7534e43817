use proptest::prelude::*;

use super::*;
use crate::offload::Segments;
use crate::offload::sample::{Recipe, dissect, recipe};

const ALL: Joins = Joins { tcp: true, udp: true };

/// What a coalescer hands over.
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

fn coalesce<'f>(joins: Joins, frames: impl IntoIterator<Item = (u8, &'f [u8])>) -> Vec<Out> {
    let mut out = Vec::new();
    let mut each = |key, frame: Frame<'_>| out.push(Out::of(key, frame));
    let mut coalescer = Coalescer::new(joins);
    for (key, frame) in frames {
        coalescer.push(key, Frame::plain(frame), &mut each);
    }
    coalescer.flush(&mut each);
    out
}

fn segment(frame: Frame<'_>) -> Vec<Vec<u8>> {
    let segments = Segments::new(frame).unwrap();
    (0..segments.count())
        .map(|index| {
            let mut slot = vec![0; segments.frame_len(index)];
            segments.write(index, &mut slot);
            slot
        })
        .collect()
}

fn frames(recipe: &Recipe) -> Vec<Vec<u8>> {
    segment(recipe.cook().frame())
}

proptest! {
    #[test]
    fn joining_undoes_cutting(recipe in recipe()) {
        let cooked = recipe.cook();
        let frames = segment(cooked.frame());
        let out = coalesce(ALL, frames.iter().map(|frame| (0, &frame[..])));
        if let [only] = &frames[..] {
            prop_assert_eq!(out, [Out::of(0, Frame::plain(only))]);
        } else {
            prop_assert_eq!(out, [Out::of(0, cooked.frame())]);
        }
    }

}

proptest! {
    // Each case makes and takes apart up to a megabyte.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Many flows at once, some frames lost, doubled, swapped or damaged: what comes out is cut
    /// into the very frames that went in, those of one flow in the same order.
    #[test]
    fn cutting_undoes_joining(
        recipes in prop::collection::vec(recipe(), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..5, 0_usize..80), 0..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        joins in (any::<bool>(), any::<bool>()),
    ) {
        // Equal flows now and then.
        let mut input = interleave(
            (0..).zip(recipes).map(|(flow, recipe)| {
                let recipe = Recipe { port: flow % 10, ..recipe };
                frames(&recipe).into_iter().map(|frame| (0, frame)).collect()
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
        let joins = Joins { tcp: joins.0, udp: joins.1 };
        let out = coalesce(joins, input.iter().map(|(key, frame)| (*key, &frame[..])));
        let mut result = Vec::new();
        for Out { key, bytes, checksum, segmentation } in &out {
            let frame = Frame { bytes, checksum: *checksum, segmentation: *segmentation };
            let cut = segment(frame);
            if let Some(Segmentation { kind, .. }) = segmentation {
                let udp = *kind == SegmentationKind::Udp;
                prop_assert!(if udp { joins.udp } else { joins.tcp }, "{:?}", kind);
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

/// Takes the next of one or another list, as `order` says.
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

/// Addresses and ports where they are in an undamaged frame; of others, anything that is the
/// same for the same frame.
fn flow(frame: &[u8]) -> Vec<u8> {
    let tags = (0..2).take_while(|tag| matches!(frame[12 + 4 * tag], 0x81 | 0x88)).count();
    let network = &frame[14 + 4 * tags..];
    if network[0] == 0x60 {
        network[6..44].to_vec()
    } else {
        [&network[9..10], &network[12..24]].concat()
    }
}

/// The frame as it is to somebody who ignores the id of packets that cannot be fragmented, and
/// with it the checksum of their header.
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

fn sample() -> Recipe {
    Recipe {
        v6: false,
        udp: false,
        tags: 0,
        dont_fragment: true,
        id: 7,
        sequence: u32::MAX - 1500,
        flags: 0x10,
        options: 3,
        port: 80,
        payload: (0..=255).cycle().take(4000).collect(),
        size: 1000,
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        for damaged in 0..4 {
            let mut frames = frames(&Recipe { v6, udp, ..sample() });
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
fn what_must_not_be_joined_is_not() {
    let joined = |change: &dyn Fn(&mut Recipe)| {
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
    assert!(joined(&|recipe| recipe.id = 99));
    assert!(joined(&|recipe| recipe.flags |= 0x09));
    for flag in [0x02, 0x04, 0x20, 0x40, 0x80] {
        assert!(!joined(&|recipe| recipe.flags |= flag), "flag {flag:#x}");
    }
    assert!(!joined(&|recipe| recipe.sequence += 1));
    assert!(!joined(&|recipe| recipe.options = 4));
    assert!(!joined(&|recipe| recipe.tags = 1));
    assert!(!joined(&|recipe| recipe.dont_fragment = false));
    assert!(!joined(&|recipe| recipe.port = 81));
    assert!(!joined(&|recipe| recipe.payload.clear()));
    assert!(!joined(&|recipe| recipe.size = 1001));
}

#[test]
fn ids_matter_where_packets_may_be_fragmented() {
    let mut first = Recipe { dont_fragment: false, ..sample() };
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
    let expected = sample().cook();
    let whole = |key| Out::of(key, expected.frame());
    assert_eq!(coalesce(ALL, both), [whole(0), whole(1)]);
}

#[test]
fn what_belongs_to_no_flow_overtakes_nothing() {
    let mut frames = frames(&sample());
    let arp = [&[0xff; 6][..], &[2; 6], &[8, 6], &[0; 46]].concat();
    frames.insert(2, arp.clone());
    let out = coalesce(ALL, frames.iter().map(|frame| (0, &frame[..])));
    assert_eq!(out.len(), 3);
    assert_eq!(out[1], Out::of(0, Frame::plain(&arp)));
}

#[test]
fn the_oldest_of_too_many_flows_has_to_go() {
    let count = u16::try_from(FLOWS).unwrap() + 3;
    let flows: Vec<_> = (0..count).map(|port| frames(&Recipe { port, ..sample() })).collect();
    let rounds = (0..4).flat_map(|round| flows.iter().map(move |flow| &flow[round]));
    let mut out = Vec::new();
    let mut each = |key, frame: Frame<'_>| out.push(Out::of(key, frame));
    let mut coalescer = Coalescer::new(ALL);
    for frame in rounds {
        coalescer.push(0, Frame::plain(frame), &mut each);
    }
    coalescer.flush(&mut each);
    // In turns, each is pushed out before its next comes.
    assert_eq!(out.len(), usize::from(count) * 4);
    let ports = |out: &Out| u16::from_be_bytes([out.bytes[34], out.bytes[35]]);
    assert!(out.iter().map(ports).eq((0..4).flat_map(|_| 0..count)));
}

#[test]
fn a_datagram_train_is_no_longer_than_kernels_take() {
    let mut recipe = Recipe { udp: true, size: 100, ..sample() };
    recipe.payload = vec![1; 64 * 100];
    let mut both = frames(&recipe);
    recipe.id += 64;
    both.extend(frames(&recipe));
    let out = coalesce(ALL, both.iter().map(|frame| (0, &frame[..])));
    assert_eq!(out.iter().map(|out| out.bytes.len()).collect::<Vec<_>>(), [42 + 6400; 2]);
}
