//! A complete gossip of a hundred routers that are all connected, and what the data path asks of
//! each frame.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weave_core::wire::gob::{Decoder, Encoder, Error, Text, gob_struct};
use weave_core::wire::{Checksum, Classified, fragment};

gob_struct! {
    #[derive(Clone, Debug, Default)]
    struct Peer<'a> as "peerSummary" {
        name: &'a [u8] = "NameByte",
        nick_name: Text<'a> = "NickName",
        uid: u64 = "UID",
        version: u64 = "Version",
        short_id: u16 = "ShortID",
        has_short_id: bool = "HasShortID",
    }
}

gob_struct! {
    #[derive(Clone, Debug, Default)]
    struct Connection<'a> as "connectionSummary" {
        name: &'a [u8] = "NameByte",
        address: Text<'a> = "RemoteTCPAddr",
        outbound: bool = "Outbound",
        established: bool = "Established",
    }
}

const ROUTERS: usize = 100;

fn encode() -> Vec<u8> {
    let peer = Peer {
        name: &[2, 0, 0, 0, 0, 1],
        nick_name: "host-17.example".into(),
        uid: u64::MAX / 3,
        version: 500,
        short_id: 3000,
        has_short_id: true,
    };
    let connection = Connection {
        name: &[2, 0, 0, 0, 0, 2],
        address: "192.168.148.120:36783".into(),
        outbound: true,
        established: true,
    };
    let connections = vec![connection; ROUTERS];
    let mut encoder = Encoder::new();
    for _ in 0..ROUTERS {
        encoder.value(&peer);
        encoder.value(&connections);
    }
    encoder.finish()
}

fn decode(stream: &[u8]) -> Result<usize, Error> {
    let mut decoder = Decoder::new(stream);
    let mut established = 0;
    while decoder.next_value::<Peer>()?.is_some() {
        decoder.next_elements(|connection: Connection| {
            established += usize::from(connection.established);
            Ok::<_, Error>(())
        })?;
    }
    Ok(established)
}

fn gossip(criterion: &mut Criterion) {
    let stream = encode();
    let mut group = criterion.benchmark_group("complete gossip");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("encode", |bencher| bencher.iter(encode));
    group.bench_function("decode", |bencher| bencher.iter(|| decode(black_box(&stream))));
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let mut frame = [&[2; 12][..], &[8, 0, 0x45, 0, 5, 0xdc, 0, 0, 0, 0, 64, 17]].concat();
    frame.resize(1514, 0x5a);
    criterion.bench_function("classify a frame", |bencher| {
        bencher.iter(|| Classified::of(black_box(&frame)).dont_fragment());
    });
    let mut out = [0; 1514];
    criterion.bench_function("cut a frame in two", |bencher| {
        bencher.iter(|| {
            let pieces = fragment(black_box(&frame), 1414).into_iter().flatten();
            pieces.filter_map(|piece| piece.write(&mut out)).sum::<usize>()
        });
    });
    let mut group = criterion.benchmark_group("checksum");
    for length in [20, 1480, 65_000] {
        let bytes = vec![0x5a; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(format!("{length} bytes"), |bencher| {
            bencher.iter(|| Checksum::of(black_box(&bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, gossip, frames);
criterion_main!(benches);
