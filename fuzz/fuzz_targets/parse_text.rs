//! The forms of addresses and names that people and other routers write as text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::mesh::PeerName;
use weave_core::wire::MacAddress;

fuzz_target!(|text: &str| {
    if let Ok(mac) = text.parse::<MacAddress>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    if let Ok(name) = text.parse::<PeerName>() {
        assert_eq!(name.to_string().parse::<PeerName>().ok(), Some(name));
    }
});
