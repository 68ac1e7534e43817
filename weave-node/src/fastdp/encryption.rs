//! Encryption of the fast datapath by the kernel: what it needs of this host, and until when.
//!
//! ```text
//!  engine removes what an earlier router left ─▶ Encryption::start ─▶ tunnels come and go
//!  ─▶ engine is gone, with its devices or flows ─▶ Encryption::stop
//! ```
//!
//! In any other order something could leave in clear. A router that is killed leaves what it has
//! in the kernel: what still sends does so sealed.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use weave_core::switch::PrepareError;
use weave_fastdp::ipsec::{Firewall, FirewallError, FirewallRules, Ipsec, IpsecStatus};
use weave_host::{Backend, Cidr, Outcome, SealFirewall, SealPolicy, SealedState, SealedTunnel};
use weave_sleeve::Clock;

use super::Fastdp;
use crate::settings::{Bridge, MeshSettings};

/// The kernel's IPsec for one router, if there is a password and a fast datapath. Clones are of
/// the same one.
#[derive(Clone, Default)]
pub(crate) struct Encryption(Arc<OnceLock<Result<Arc<Ipsec>, String>>>);

impl Encryption {
    /// Prepares this host, or removes what a router with a password left. The fast datapath has
    /// been tried out, so nothing of that router sends any more.
    pub(crate) fn start(
        &self,
        mesh: &MeshSettings,
        bridge: &Bridge,
        fastdp: &Fastdp,
        clock: &Clock,
    ) {
        let Some(port) = mesh.vxlan_port() else { return };
        if mesh.password.is_some() && fastdp.overlay(clock).is_some() {
            let opened = open(mesh, bridge, port, clock).map(Arc::new);
            match &opened {
                Ok(_) => tracing::info!("fastdp: encrypted by IPsec"),
                Err(reason) => {
                    tracing::warn!("no encrypted fastdp, using sleeve: {reason}");
                }
            }
            // It is set here alone, and once.
            let _ = self.0.set(opened);
        } else if bridge.is_there() {
            remove_leftovers(&bridge.name, port);
        }
    }

    /// What seals tunnels, or why nothing does.
    pub(crate) fn of_tunnels(&self) -> Result<Arc<Ipsec>, PrepareError> {
        match self.0.get() {
            Some(encryption) => encryption.clone().map_err(PrepareError),
            None => Err(PrepareError("this router has no password".to_owned())),
        }
    }

    /// In a few words, for the status; none without a password.
    pub(crate) fn summary(&self) -> Option<String> {
        Some(match self.0.get()? {
            Ok(_) => "encrypted by IPsec".to_owned(),
            Err(reason) => format!("sleeve where encryption is needed: {reason}"),
        })
    }

    /// What there is in the kernel, and what became of it. Asks the kernel.
    pub(crate) fn status(&self) -> Option<IpsecStatus> {
        let ipsec = self.0.get()?.as_ref().ok()?;
        let status = ipsec.status();
        status.inspect_err(|error| tracing::debug!("no status of IPsec: {error}")).ok()
    }

    /// Takes everything out of the kernel. The fast datapath must be gone.
    pub(crate) fn stop(&self) {
        if let Some(Ok(ipsec)) = self.0.get() {
            ipsec.stop();
        }
    }
}

fn open(mesh: &MeshSettings, bridge: &Bridge, port: u16, clock: &Clock) -> Result<Ipsec, String> {
    let backend = bridge.firewall.backend;
    if backend == Some(Backend::None) {
        return Err("IPsec needs firewall rules, and there are to be none".to_owned());
    }
    let firewall = SealFirewall::open(backend, &bridge.name)
        .map_err(|error| format!("IPsec needs firewall rules: {error}"))?;
    let trusted = mesh.trusted_subnets.iter().map(|subnet| subnet.masked()).collect();
    let (adapter, clock) = (Adapter { firewall, port, trusted }, clock.clone());
    Ipsec::open(Box::new(adapter), port, move || clock.now()).map_err(|error| error.to_string())
}

/// What is left costs little, so it does not keep the router from starting.
fn remove_leftovers(bridge: &str, port: u16) {
    if let Err(error) = weave_fastdp::ipsec::remove_leftovers(Some(port)) {
        tracing::warn!("what an earlier router encrypted with stays in the kernel: {error}");
    }
    if let Err(error) = weave_host::remove_seal_rules(bridge) {
        tracing::warn!("rules of an earlier router that encrypted stay in the firewall: {error}");
    }
}

/// The host's firewall in the words of IPsec.
struct Adapter {
    firewall: SealFirewall,
    /// On which this router takes VXLAN, sealed,
    port: u16,
    /// or from there.
    trusted: BTreeSet<Cidr>,
}

impl Firewall for Adapter {
    fn prepare(&mut self) -> Result<(), FirewallError> {
        Ok(self.firewall.prepare()?)
    }

    fn apply(&mut self, rules: &FirewallRules) -> Result<bool, FirewallError> {
        let tunnels = rules.tunnels.iter().map(|ends| SealedTunnel {
            local: ends.local,
            remote: ends.remote,
            port: ends.port,
        });
        let states = rules.states.iter().map(|(path, spi)| SealedState {
            remote: path.source,
            local: path.destination,
            spi: spi.get(),
        });
        let policy = SealPolicy {
            tunnels: tunnels.collect(),
            states: states.collect(),
            guarded: rules.tunnels.iter().map(|ends| ends.port).chain([self.port]).collect(),
            trusted: self.trusted.clone(),
        };
        let applied = self.firewall.apply(&policy)?;
        Ok(applied == Outcome::Changed)
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        self.firewall.remove()?;
        Ok(())
    }
}
