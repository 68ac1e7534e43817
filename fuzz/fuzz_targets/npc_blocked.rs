//! A message of the kernel about a refused packet, which a pod may have made.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_npc::Blocked;

fuzz_target!(|payload: &[u8]| {
    if let Ok(Some(blocked)) = Blocked::decode(payload) {
        assert_eq!(blocked.source.is_ipv4(), blocked.destination.is_ipv4());
    }
});
