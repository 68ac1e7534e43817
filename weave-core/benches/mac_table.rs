//! The MAC table as data threads use it: per frame one `learn` of the source and one `lookup` of
//! the destination, alone and while other threads do the same.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use weave_core::mesh::PeerName;
use weave_core::switch::MacTable;
use weave_core::time::Instant;
use weave_core::wire::MacAddress;

const OWN: PeerName = PeerName::from_bytes([2, 0, 0, 0, 0, 1]);

fn mac(number: u32) -> MacAddress {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddress([2, 7, a, b, c, d])
}

fn at(seconds: u64) -> Instant {
    Instant::since_origin(Duration::from_secs(seconds))
}

fn peer(number: u32) -> PeerName {
    PeerName::from_u64(u64::from(number) + 1).expect("small number")
}

fn filled(stations: u32) -> MacTable {
    let table = MacTable::new(0x5eed);
    for number in 0..stations {
        table.learn_received(at(0), mac(number), peer(number % 100), OWN).expect("new or known");
    }
    table
}

/// What one frame costs.
fn frame(table: &MacTable, number: &mut u32, stations: u32) {
    *number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let source = (*number >> 8) % stations;
    let _ = black_box(table.learn_received(at(0), mac(source), peer(source % 100), OWN));
    black_box(table.lookup(mac((*number >> 4) % stations)));
}

fn per_frame(criterion: &mut Criterion) {
    for stations in [10, 1_000, 20_000] {
        let table = filled(stations);
        let mut number = 1;
        criterion.bench_function(&format!("frame, {stations} stations"), |bencher| {
            bencher.iter(|| frame(&table, &mut number, stations));
        });
    }
    let table = filled(1_000);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 7;
            while !stop.load(Ordering::Relaxed) {
                frame(&table, &mut number, 1_000);
            }
        });
        let mut number = 1;
        criterion.bench_function("frame, 1000 stations, another thread busy", |bencher| {
            bencher.iter(|| frame(&table, &mut number, 1_000));
        });
        stop.store(true, Ordering::Relaxed);
    });
    let (mut number, table) = (0u32, MacTable::new(0x5eed));
    criterion.bench_function("new station, table overflowing", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(1);
            let learned = table.learn_received(at(0), mac(number), peer(number % 100), OWN);
            let _ = black_box(learned);
        });
    });
}

criterion_group!(benches, per_frame);
criterion_main!(benches);
