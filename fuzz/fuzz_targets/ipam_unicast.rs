//! The messages of one address allocator to another: space requests, what is denied, ring updates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_ipam::Range;
use weave_ipam::message::Unicast;

fuzz_target!(|payload: &[u8]| {
    let Ok(message) = Unicast::decode(payload) else { return };
    assert_eq!(Unicast::decode(&message.encode()), Ok(message.clone()));
    if let Unicast::SpaceRequest(range) | Unicast::Denied(range) = message {
        let block = range.largest_block();
        assert!(range.is_empty() || range.covers(block));
        let blocks: u32 = range.blocks().map(|block| Range::of(block).size()).sum();
        assert!(blocks <= range.size());
    }
});
