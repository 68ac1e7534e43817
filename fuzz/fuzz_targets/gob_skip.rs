//! Definitions of any shape, and values of them in a field that nobody knows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_core::wire::gob::{Decoder, gob_struct};

gob_struct! {
    #[derive(Default)]
    struct Known as "known" {
        last: u64 = "Last",
    }
}

/// A struct type 65 with the fields `Odd`, of type 66, and `Last`, a uint.
const DEFINITION: &[u8] = b"\x1e\xff\x81\x03\x01\x02\xff\x82\x00\x01\x02\x01\x03Odd\x01\xff\x84\x00\x01\x04Last\x01\x06\x00\x00\x00";

fuzz_target!(|rest: &[u8]| {
    // Its definition of type 66 and its values are the fuzzer's.
    let stream = [DEFINITION, rest].concat();
    let mut decoder = Decoder::new(&stream);
    while let Ok(Some(Known { .. })) = decoder.next_value() {}
});
