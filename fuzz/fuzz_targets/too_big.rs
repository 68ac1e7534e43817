//! The answer to a packet that is too big: a valid frame that goes the other way and is never
//! answered itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::wire::{Checksum, Classified, Ethernet, NoAnswer, too_big};

fuzz_target!(|input: &[u8]| {
    let Some((mtu, frame)) = input.split_first_chunk() else { return };
    let mut answer = Vec::new();
    if too_big(frame, u16::from_be_bytes(*mtu).into(), &mut answer).is_err() {
        assert!(answer.is_empty());
        return;
    }
    assert!((60..=14 + 8 + 1280).contains(&answer.len()));
    let there = Ethernet::new(frame).expect("it was answered");
    let back = Ethernet::new(&answer).expect("60 bytes");
    assert_eq!((back.destination(), back.source()), (there.source(), there.destination()));
    match (Classified::of(frame), Classified::of(&answer)) {
        (Classified::Ipv4 { packet: there, .. }, Classified::Ipv4 { packet: back, .. }) => {
            assert_eq!((back.destination(), back.source()), (there.source(), there.destination()));
            assert_eq!(Checksum::of(back.header()), 0);
            assert_eq!(Checksum::of(back.payload()), 0);
        }
        (Classified::Ipv6 { packet: there, .. }, Classified::Ipv6 { packet: back, .. }) => {
            assert_eq!((back.destination(), back.source()), (there.source(), there.destination()));
            let message = back.upper_layer().expect("ICMPv6").bytes;
            let length = u32::try_from(message.len()).expect("short");
            let mut sum = Checksum::pseudo_ipv6(back.source(), back.destination(), 58, length);
            sum.add(message);
            assert_eq!(sum.finish(), 0);
        }
        other => panic!("{other:?}"),
    }
    let mut again = Vec::new();
    let refused = too_big(&answer, 68, &mut again);
    assert!(matches!(refused, Err(NoAnswer::IcmpError | NoAnswer::NotUnicast)), "{refused:?}");
});
