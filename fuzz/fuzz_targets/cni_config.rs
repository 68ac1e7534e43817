//! The configuration that a container runtime hands to the CNI plugins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_cni::{Config, Plugin};

fuzz_target!(|input: &[u8]| {
    let version = Config::version(input);
    for plugin in [Plugin::Net, Plugin::Ipam] {
        match Config::parse(input, plugin) {
            Ok(config) => {
                assert_eq!(Ok(config.version), version);
                assert!(!config.name.contains('/') && !config.bridge.contains('/'));
            }
            Err(error) => assert!([1, 2, 6, 7].contains(&error.code)),
        }
    }
});
