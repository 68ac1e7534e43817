//! Datagrams of the kernel about IPsec: whatever they are, they are taken apart or refused. The
//! decoders look at no more than a structure and the attributes behind it, whose values are
//! parts of the datagram.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_xfrm::message::{Body, Messages, NEW_POLICY, NEW_STATE};
use weave_xfrm::{PolicyEntry, StateEntry};

/// Length of the header of a message: each takes at least that.
const HEADER: usize = 16;

fuzz_target!(|datagram: &[u8]| {
    let (mut messages, mut ended) = (0, false);
    for message in Messages::new(datagram) {
        assert!(!ended, "nothing follows an error");
        messages += 1;
        match message.map(|message| message.body) {
            Ok(Body::Entry { kind: NEW_STATE, payload }) => {
                let _ = StateEntry::decode(payload);
            }
            Ok(Body::Entry { kind: NEW_POLICY, payload }) => {
                let _ = PolicyEntry::decode(payload);
            }
            Ok(_) => {}
            Err(_) => ended = true,
        }
    }
    assert!(messages <= datagram.len() / HEADER + 1);
});
