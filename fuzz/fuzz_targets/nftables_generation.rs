//! The kernel's answer to whoever asks for the generation of nftables: a number comes out of an
//! attribute of four bytes alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_host::Generation;

/// The upper bits of a type are flags.
const TYPE: u16 = 0x3fff;

fuzz_target!(|input: &[u8]| {
    if Generation::decode(input).is_ok() {
        let is_number = |field: &[u8]| {
            let [length, kind] =
                [[field[0], field[1]], [field[2], field[3]]].map(u16::from_ne_bytes);
            length == 8 && kind & TYPE == 1
        };
        assert!(input.windows(8).any(is_number), "{input:?}");
    }
});
