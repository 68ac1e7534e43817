//! The kernel's IPsec for all tunnels of a router.

use std::fmt;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use weave_core::mesh::ConnectionId;
use weave_core::metric::Reading;
use weave_core::switch::Waker;
use weave_core::time::Instant;
use weave_xfrm::{Client, Error, PolicyEntry, Reqid};

use super::error::IpsecError;
use super::installer::{self, Installer, Kernel};
use super::key_exchange::KeyExchange;
use super::key_stats::KeyStats;
use super::link_keys::LinkKeys;
use super::reqid::{ReqidRegistry, reqid};
use super::rules::{Firewall, MARK, TunnelEnds};
use super::worker::{self, WorkerCommand, WorkerHandle};

/// The kernel's IPsec for all tunnels of a router.
///
/// Dropped without [`Self::stop`] it leaves everything installed, as if the router had been killed:
/// devices and flows that still send do so encrypted.
pub struct Ipsec {
    commands: Sender<WorkerCommand>,
    thread: Mutex<Option<JoinHandle<()>>>,
    key_stats: KeyStats,
    reqid: Reqid,
}

/// What this router has installed in the kernel, and its counters.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct IpsecStatus {
    /// Number of keys, of both directions.
    pub states: u64,
    /// Number of policies, one for each neighbour.
    pub policies: u64,
    /// What is counted.
    pub counters: Vec<Reading>,
}

impl IpsecStatus {
    /// Returns the numbers that rise and fall.
    pub fn gauges(&self) -> [Reading; 2] {
        [
            Reading::gauge(
                "states",
                "Number of keys of the fast datapath in the kernel.",
                self.states,
            ),
            Reading::gauge(
                "policies",
                "Number of neighbours whose frames are to be sealed.",
                self.policies,
            ),
        ]
    }
}

impl Ipsec {
    /// Prepares this host, in the network namespace of the calling thread, for the router on this
    /// UDP port, and removes what earlier routers left behind. `clock` is that of the control
    /// plane.
    ///
    /// # Errors
    /// Fails if the kernel or the firewall lacks something.
    pub fn open(
        firewall: Box<dyn Firewall>,
        port: u16,
        clock: impl Fn() -> Instant + Send + 'static,
    ) -> Result<Self, IpsecError> {
        let client = Client::open()?;
        let registry = ReqidRegistry::read(Some(port));
        let installer = Installer::start(client, firewall, reqid(port), &registry, clock())?;
        Self::serve(installer, reqid(port), clock)
    }

    /// Starts the thread.
    pub(super) fn serve<K: Kernel + 'static>(
        installer: Installer<K>,
        reqid: Reqid,
        clock: impl Fn() -> Instant + Send + 'static,
    ) -> Result<Self, IpsecError> {
        let (commands, receiver) = mpsc::channel();
        let key_stats = installer.key_stats.clone();
        let thread = Builder::new()
            .name("ipsec".to_owned())
            .spawn(move || worker::run(installer, &receiver, clock))
            .map_err(IpsecError::Thread)?;
        Ok(Self { commands, thread: Mutex::new(Some(thread)), key_stats, reqid })
    }

    /// Prepares the keys of a tunnel. `waker` is called when [`LinkKeys::poll`] has events.
    pub fn link(
        &self,
        id: ConnectionId,
        ends: TunnelEnds,
        exchange: KeyExchange,
        waker: Waker,
    ) -> LinkKeys {
        let worker = WorkerHandle { commands: self.commands.clone(), id, ends };
        LinkKeys::new(worker, exchange, waker)
    }

    /// Reads the status, for report and metrics, from the kernel in the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    /// Fails if the kernel does not answer.
    pub fn status(&self) -> Result<IpsecStatus, Error> {
        let mut client = Client::open()?;
        let stats = self.key_stats.lock();
        let states = client.states()?;
        let counters = stats.counters(&states);
        drop(stats);
        let ours = states.iter().filter(|state| state.reqid == self.reqid);
        let policies = client.policies()?;
        let is_ours = |policy: &&PolicyEntry| {
            policy.template.is_some_and(|template| template.reqid == self.reqid)
        };
        let policies = policies.iter().filter(is_ours);
        Ok(IpsecStatus { states: ours.count() as u64, policies: policies.count() as u64, counters })
    }

    /// Removes everything from the kernel. The engine's devices and flows must be gone before,
    /// since they would send in clear from now on.
    pub fn stop(&self) {
        // The thread may have ended in a panic.
        let _ = self.commands.send(WorkerCommand::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread for IPsec ended in a panic: states and rules stay");
        }
    }
}

impl fmt::Debug for Ipsec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ipsec")
    }
}

/// Removes what earlier routers left in the kernel, for a router on this UDP port that does not
/// encrypt, or for none. For a router that does, [`Ipsec::open`] removes it. The devices and flows
/// of the earlier router must be gone.
///
/// # Errors
/// Fails if the kernel refuses.
pub fn remove_leftovers(own: Option<u16>) -> Result<(), IpsecError> {
    match Client::open() {
        // Without support there are no leftovers.
        Err(Error::NoSupport { .. }) => Ok(()),
        opened => {
            installer::remove_leftovers(&mut opened?, &ReqidRegistry::read(own))?;
            Ok(())
        }
    }
}

/// Returns whether this host has policies of a router, of this kind or of Weave Net, also of one
/// that has ended.
pub fn is_in_use() -> bool {
    match Client::open() {
        Err(Error::NoSupport { .. }) => false,
        // If it cannot be found out, there may be some.
        opened => opened
            .and_then(|mut client| client.policies())
            .map_or(true, |policies| policies.iter().any(|policy| policy.mark == Some(MARK))),
    }
}
