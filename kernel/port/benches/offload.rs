//! Compares cutting a super-frame of 64 KiB and coalescing its segments with copying as many bytes.

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weave_core::switch::{ChecksumRequest, Frame, Segmentation, SegmentationKind};
use weave_core::wire::Checksum;
use weave_port::offload::{Coalescer, Segments, SuperFrameKinds};

/// Ethernet, IPv4, and TCP with time stamps.
const HEADERS: usize = 14 + 20 + 32;
const PAYLOAD: usize = 65_535 - 20 - 32;

fn super_frame() -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0xff, 0xff, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend([10, 32, 0, 1, 10, 32, 0, 2]);
    let [from, to] = [[10, 32, 0, 1], [10, 32, 0, 2]].map(Ipv4Addr::from);
    let [high, low] = Checksum::pseudo_ipv4(from, to, 6, u16::MAX - 20).sum().to_be_bytes();
    frame.extend([0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 2]);
    frame.extend([0x80, 0x10, 2, 0, high, low, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 3, 0, 0, 0, 4]);
    assert_eq!(frame.len(), HEADERS);
    frame.extend((0..PAYLOAD).map(|i| i.to_le_bytes()[0]));
    frame
}

fn offload(criterion: &mut Criterion) {
    let bytes = super_frame();
    let frame = Frame {
        bytes: &bytes,
        checksum: Some(ChecksumRequest { start: 34, offset: 16 }),
        segmentation: Some(Segmentation { kind: SegmentationKind::Tcp4, size: 1348 }),
    };
    let segment = |place: &mut [u8]| {
        let segments = Segments::new(frame).expect("a super-frame");
        let mut rest = place;
        for index in 0..segments.count() {
            let (slot, after) = rest.split_at_mut(segments.frame_len(index));
            segments.write(index, slot);
            rest = after;
        }
    };
    let segments = Segments::new(frame).expect("a super-frame");
    let lengths: Vec<_> = (0..segments.count()).map(|index| segments.frame_len(index)).collect();
    let mut place = vec![0; lengths.iter().sum()];
    let mut coalescer = Coalescer::new(SuperFrameKinds { tcp: true, udp: true });

    let mut group = criterion.benchmark_group("offload");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("copy", |bencher| {
        bencher.iter(|| place[..bytes.len()].copy_from_slice(black_box(&bytes)));
    });
    group.bench_function("segment", |bencher| bencher.iter(|| segment(black_box(&mut place))));
    segment(&mut place);
    group.bench_function("coalesce", |bencher| {
        bencher.iter(|| {
            let mut count = 0;
            let mut each = |(), frame: Frame<'_>| count += black_box(frame).bytes.len();
            let mut rest = &place[..];
            for length in &lengths {
                let (frame, after) = rest.split_at(*length);
                coalescer.push((), Frame::plain(black_box(frame)), &mut each);
                rest = after;
            }
            coalescer.flush(&mut each);
            assert_eq!(count, bytes.len());
        });
    });
    group.finish();
}

criterion_group!(benches, offload);
criterion_main!(benches);
