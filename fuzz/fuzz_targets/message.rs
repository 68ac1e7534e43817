//! Messages after the handshake, and the gossip and notices in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::{Gossip, Message, Notice, Unicast};

fuzz_target!(|bytes: &[u8]| {
    let Some(message) = Message::decode(bytes) else { return };
    let (tag, payload) = message.parts();
    assert_eq!(tag, bytes[0]);
    match message {
        Message::Heartbeat => (),
        Message::Gossip(_) | Message::Broadcast(_) => {
            if let Ok(gossip) = Gossip::decode(payload) {
                assert_eq!(Gossip::decode(&gossip.encode()), Ok(gossip));
            }
        }
        Message::Unicast(_) => {
            if let Ok(unicast) = Unicast::decode(payload) {
                assert_eq!(Unicast::decode(&unicast.encode()), Ok(unicast));
            }
        }
        Message::Unknown { tag: Notice::TAG, .. } => {
            if let Some(notice) = Notice::decode(payload) {
                assert_eq!(Notice::decode(&notice.encode()), Some(notice));
            }
        }
        _ => assert_eq!(payload, &bytes[1..]),
    }
});
