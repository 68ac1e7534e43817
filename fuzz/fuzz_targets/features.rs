//! The first message of a peer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::Features;

fuzz_target!(|message: &[u8]| {
    if let Ok(features) = Features::decode(message) {
        assert_eq!(Features::parse(features.to_map()), Ok(features.clone()));
        // What was read fits in a message again, but for text that was not UTF-8 and grew.
        if let Ok(again) = Features::decode(&features.encode()) {
            assert_eq!(again, features);
        }
    }
});
