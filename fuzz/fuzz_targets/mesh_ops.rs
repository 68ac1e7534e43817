//! The control plane, told anything in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| weave_core::sim::ops::run(script));
