//! The containers on the bridge: their ports are mended, and their Ethernet addresses pinned.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use weave_core::switch::Switch;
use weave_core::wire::MacAddress;
use weave_host::{MendedPort, Ports, endpoints, mend_ports};

/// How often to look at the ports: a list of all interfaces, a millisecond where there are
/// hundreds.
const INTERVAL: Duration = Duration::from_secs(3);

/// How often to look into the containers if no port comes or goes: they may change their addresses.
const ADDRESSES_INTERVAL: Duration = Duration::from_secs(30);

/// What is known of them.
pub(super) struct Attached {
    bridge: String,
    /// Where the process tree of the host is mounted.
    proc: PathBuf,
    next: Instant,
    next_addresses: Instant,
    ports: BTreeSet<(u32, String)>,
    /// Ports on another bridge, of which the log has told.
    strays: BTreeSet<String>,
}

impl Attached {
    pub(super) fn new(bridge: String, proc: PathBuf) -> Self {
        let now = Instant::now();
        Self {
            bridge,
            proc,
            next: now,
            next_addresses: now,
            ports: BTreeSet::new(),
            strays: BTreeSet::new(),
        }
    }

    /// Mends ports, if it is time to look; says what was done.
    pub(super) fn look(&mut self, switch: &Switch) -> Result<Option<String>> {
        let now = Instant::now();
        if now < self.next {
            return Ok(None);
        }
        self.next = now + INTERVAL;
        let Ports { there, mended, strays } = mend_ports(&self.bridge)?;
        for port in strays.difference(&self.strays) {
            tracing::warn!(
                "the port {port} of a container was put on another bridge than {}, and is left there: \
                 `weave attach` puts it back",
                self.bridge
            );
        }
        self.strays = strays;
        if there != self.ports || now >= self.next_addresses {
            self.next_addresses = now + ADDRESSES_INTERVAL;
            self.ports = there;
            self.pin(switch);
        }
        let texts = mended.iter().map(|MendedPort { name, faults }| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            format!("the port {name} of a container {}", faults.join(" and "))
        });
        let texts: Vec<_> = texts.collect();
        Ok((!texts.is_empty()).then(|| format!("{}: mended", texts.join("; "))))
    }

    /// The containers, and the host itself.
    fn pin(&self, switch: &Switch) {
        match endpoints(&self.bridge, &self.proc) {
            Ok(endpoints) => {
                let containers = endpoints.into_iter().map(|found| found.mac);
                let host = MacAddress(switch.own().to_bytes());
                switch.macs().attach(containers.chain([host]).collect());
            }
            Err(error) => tracing::debug!(%error, "containers are not looked into"),
        }
    }
}
