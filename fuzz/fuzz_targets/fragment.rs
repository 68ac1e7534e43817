//! Pieces of a packet: each fits, and together they are the packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::wire::{Checksum, Classified, fragment};

fuzz_target!(|input: &[u8]| {
    let Some((mtu, frame)) = input.split_first_chunk() else { return };
    let mtu = usize::from(u16::from_be_bytes(*mtu));
    let Ok(pieces) = fragment(frame, mtu) else { return };
    let Classified::Ipv4 { packet: original, .. } = Classified::of(frame) else {
        panic!("only IPv4 is cut")
    };
    let mut payload = Vec::new();
    let mut out = vec![0; 70_000];
    for piece in pieces {
        let length = piece.write(&mut out).expect("room for the longest packet");
        assert!(length <= (14 + mtu).max(60));
        let Classified::Ipv4 { packet, .. } = Classified::of(&out[..length]) else {
            panic!("a piece is IPv4")
        };
        assert_eq!(Checksum::of(packet.header()), 0);
        let start = usize::from(packet.fragment_offset() - original.fragment_offset()) * 8;
        assert_eq!(start, payload.len());
        payload.extend_from_slice(packet.payload());
        let last = payload.len() == original.payload().len();
        assert_eq!(packet.more_fragments(), !last || original.more_fragments());
    }
    assert_eq!(payload, original.payload());
});
