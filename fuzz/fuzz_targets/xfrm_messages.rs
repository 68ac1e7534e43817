//! Datagrams of the kernel about IPsec: whatever they are, they are taken apart or refused. The
//! decoders look at no more than a structure and the attributes behind it, whose values are
//! parts of the datagram.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_netlink::{Body, HEADER_LEN, Messages};
use weave_xfrm::{NEW_POLICY, NEW_STATE, PolicyEntry, StateEntry};

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
    assert!(messages <= datagram.len() / HEADER_LEN + 1);
});
