//! The configuration that a container runtime hands to the CNI plugins, and behind a zero byte what
//! it has in `CNI_ARGS`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weave_cni::{Config, Plugin, RuntimeRequest};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let input = parts.next().unwrap_or_default();
    let arguments = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let version = Config::version(input);
    for plugin in [Plugin::Net, Plugin::Ipam] {
        match Config::parse(input, plugin) {
            Ok(config) => {
                assert_eq!(Ok(config.version), version);
                assert!(!config.name.contains('/') && !config.bridge.contains('/'));
                if let Err(error) = RuntimeRequest::of(&config, plugin, &arguments) {
                    assert!([2, 4, 7].contains(&error.code));
                }
            }
            Err(error) => assert!([1, 2, 6, 7].contains(&error.code)),
        }
    }
});
