//! Every view of a frame, and what holds for all of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::wire::{Arp, Classified, EtherType, Ethernet, complete_checksum};

fuzz_target!(|frame: &[u8]| {
    match Classified::of(frame) {
        Classified::Short => assert!(frame.len() < 14),
        Classified::Special => assert!(frame.iter().take(14).all(|byte| *byte == 0)),
        Classified::Ipv4 { offset, packet } => {
            assert!(offset + packet.header().len() + packet.payload().len() <= frame.len());
            let left = packet.header().len() + packet.payload().len();
            assert_eq!(packet.is_cut_off(), left < packet.total_length());
        }
        Classified::Ipv6 { offset, packet } => {
            assert!(offset + packet.packet().len() <= frame.len());
            if let Some(upper) = packet.upper_layer() {
                assert_eq!(packet.packet().get(upper.offset..), Some(upper.bytes));
            }
        }
        Classified::Other => {}
    }
    if let Ok(ethernet) = Ethernet::new(frame) {
        let network = ethernet.network();
        assert_eq!(frame.get(network.offset..), Some(network.payload));
        if let (EtherType::ARP, Ok(arp)) = (network.ethertype, Arp::parse(network.payload)) {
            assert_eq!(arp.to_frame().get(14..), network.payload.get(..Arp::LEN));
        }
    }
    if let Some(([start, offset], frame)) = frame.split_first_chunk() {
        let _ = complete_checksum(&mut frame.to_vec(), (*start).into(), (*offset).into());
    }
});
