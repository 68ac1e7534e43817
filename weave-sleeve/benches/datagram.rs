//! The cost of a frame between the switch and the socket: records in and out of a datagram, in
//! clear and sealed, for a datagram full of small frames and for one large frame.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use weave_core::mesh::{PeerName, SessionKey};
use weave_sleeve::cipher::{Channel, Cipher, LegacyBox};
use weave_sleeve::datagram::{Record, Records};
use weave_sleeve::replay::{Window, Windows};

/// The largest datagram over an underlay of 1500 bytes.
const MAX_PAYLOAD: usize = 1472;

fn cipher(sealed: bool, outbound: bool) -> Cipher {
    if sealed {
        Cipher::Legacy(LegacyBox::new(&SessionKey([7; 32]), outbound))
    } else {
        Cipher::Plain
    }
}

/// Fills a datagram with as many copies of a frame as fit.
fn encode(cipher: &Cipher, frame: &[u8], buffer: &mut [u8]) -> usize {
    let own = PeerName::from_bytes([1; 6]);
    let record = Record { source: own, destination: PeerName::from_bytes([2; 6]), frame };
    let mut end = cipher.header_len();
    while let Some(length) = record.emit(&mut buffer[end..]) {
        end += length;
    }
    cipher.seal(own, Channel::DontFragment, &mut buffer[..end]).expect("numbers are left");
    end
}

fn datagrams(criterion: &mut Criterion) {
    for (name, sealed) in [("plain", false), ("sealed", true)] {
        let mut group = criterion.benchmark_group(name);
        for length in [64, 1400] {
            let frame = vec![0x5a; length];
            let sealer = cipher(sealed, true);
            let mut buffer = vec![0; MAX_PAYLOAD];
            let bytes = encode(&sealer, &frame, &mut buffer);
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(format!("encode/{length}"), |bencher| {
                bencher.iter(|| encode(&sealer, black_box(&frame), &mut buffer));
            });
            // The window accepts each number once, so each iteration has a fresh datagram and
            // window.
            let opener = cipher(sealed, false);
            encode(&sealer, &frame, &mut buffer);
            group.bench_function(format!("decode/{length}"), |bencher| {
                let datagram = || (Windows::default(), buffer[..bytes].to_vec());
                bencher.iter_batched(
                    datagram,
                    |(mut windows, mut datagram)| {
                        let records = opener.open(&mut windows, &mut datagram).expect("just made");
                        let count = Records::new(records).filter(Result::is_ok).count();
                        (count, windows, datagram)
                    },
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

fn replay(criterion: &mut Criterion) {
    criterion.bench_function("replay/in order", |bencher| {
        let mut window = Window::default();
        let mut sequence = 0;
        bencher.iter(|| {
            sequence += 1;
            window.admit(black_box(sequence))
        });
    });
}

criterion_group!(benches, datagrams, replay);
criterion_main!(benches);
