//! Encryption of the fast datapath by the kernel's IPsec (spec fastdp.md, section 9).
//!
//! Each direction of a tunnel has a key of its own, agreed on over the mesh connection, and no
//! frame enters a tunnel before both are in the kernel.
//!
//! ```text
//!   link ── message 1 ──▶ Exchange ── Order ──▶ Keeper, on a thread of its own
//!        ◀── message 1 ──          ◀── Done ──    │        │
//!                                              Kernel   Firewall
//! ```

mod announcement;
mod exchange;
mod keeper;
mod keys;
mod ledger;
mod link;
mod owner;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError, SendError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use ring::rand::{SecureRandom, SystemRandom};
use weave_core::mesh::ConnectionId;
use weave_core::switch::Waker;
use weave_core::time::Instant;
use weave_xfrm::{Client, Error, PolicyEntry, Reqid, Spi};

pub use announcement::{ANNOUNCEMENT_LEN, Announcement, AnnouncementError};
pub use exchange::{Exchange, Order};
pub use keeper::{Keeper, Kernel};
pub use keys::{NONCE_LEN, derive};
pub use link::{SealEvent, SealedLink};
pub use owner::Owners;
pub use rules::{Ends, Firewall, MARK, Rules};

use ledger::Ledger;
use owner::reqid;

/// The kernel's IPsec, for all tunnels of a router. Dropped without [`Self::stop`] it leaves
/// everything as it is, as if the router had been killed: what still sends does so sealed.
pub struct Ipsec {
    jobs: Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ledger: Ledger,
    reqid: Reqid,
}

/// What this router has in the kernel, and what became of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct IpsecStatus {
    /// Keys, of both directions.
    pub states: u64,
    /// What is to be sealed: one for each neighbour.
    pub policies: u64,
    /// Counters by name.
    pub counters: Vec<(&'static str, u64)>,
}

/// Something for the thread to do.
enum Job {
    Carry { id: ConnectionId, ends: Ends, order: Order, done: Box<dyn FnOnce(Done) + Send> },
    Close { id: ConnectionId },
    Stop,
}

/// What became of an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// The kernel receives under this number.
    Receiving(Spi),
    /// The kernel seals what is sent.
    Sending,
    /// It cannot receive; why, in one line for the log. The key before is still there.
    NotReceiving(String),
    /// It cannot; why, in one line for the log.
    Failed(String),
}

impl Ipsec {
    /// Prepares this host, in the network namespace of the calling thread, for the router on this
    /// UDP port, and removes what routers that have ended left behind. `clock` is that of the control plane.
    ///
    /// # Errors
    /// What is missing, in one line for the operator.
    pub fn open(
        firewall: Box<dyn Firewall>,
        port: u16,
        clock: impl Fn() -> Instant + Send + 'static,
    ) -> Result<Self, String> {
        let client = Client::open().map_err(|error| error.to_string())?;
        let owners = Owners::look(Some(port));
        let keeper = Keeper::start(client, firewall, reqid(port), &owners, clock())?;
        Self::serve(keeper, reqid(port), clock)
    }

    fn serve<K: Kernel + 'static>(
        keeper: Keeper<K>,
        reqid: Reqid,
        clock: impl Fn() -> Instant + Send + 'static,
    ) -> Result<Self, String> {
        let (jobs, inbox) = mpsc::channel();
        let ledger = keeper.ledger.clone();
        let thread = std::thread::Builder::new()
            .name("ipsec".to_owned())
            .spawn(move || serve(keeper, &inbox, clock))
            .map_err(|error| format!("cannot start a thread for IPsec: {error}"))?;
        Ok(Self { jobs, thread: Mutex::new(Some(thread)), ledger, reqid })
    }

    /// Prepares a tunnel. `waker` is called when [`SealedLink::poll`] has news.
    pub fn link(
        &self,
        id: ConnectionId,
        ends: Ends,
        exchange: Exchange,
        waker: Waker,
    ) -> SealedLink {
        SealedLink::new(Orders { jobs: self.jobs.clone(), id, ends }, exchange, waker)
    }

    /// For report and metrics. Asks the kernel, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn status(&self) -> Result<IpsecStatus, Error> {
        let mut client = Client::open()?;
        let entries = self.ledger.entries();
        let states = client.states()?;
        let counters = entries.counters(&states);
        drop(entries);
        let ours = states.iter().filter(|state| state.reqid == self.reqid);
        let policies = client.policies()?;
        let of_ours = |policy: &&PolicyEntry| {
            policy.template.is_some_and(|template| template.reqid == self.reqid)
        };
        let policies = policies.iter().filter(of_ours);
        Ok(IpsecStatus { states: ours.count() as u64, policies: policies.count() as u64, counters })
    }

    /// Takes everything out of the kernel. What could still send VXLAN, the engine's devices and
    /// flows, must be gone before: from now on it would do so in clear.
    pub fn stop(&self) {
        // It may have ended in a panic.
        let _ = self.jobs.send(Job::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread for IPsec ended in a panic: states and rules stay");
        }
    }
}

/// Removes what routers that have ended left in the kernel. For a router on this UDP port that does
/// not seal, or for none; those that do have [`Ipsec::open`] do it. Devices and flows of the router
/// that was here before must be gone.
///
/// # Errors
/// One line for the log.
pub fn remove_leftovers(own: Option<u16>) -> Result<(), String> {
    match Client::open() {
        // Then nobody could leave anything.
        Err(Error::NoSupport { .. }) => Ok(()),
        opened => opened
            .and_then(|mut client| keeper::remove_leftovers(&mut client, &Owners::look(own)))
            .map_err(|error| error.to_string()),
    }
}

/// Whether there are policies of a router on this host, of this kind or of Weave Net, also of one
/// that has ended.
pub fn is_in_use() -> bool {
    match Client::open() {
        Err(Error::NoSupport { .. }) => false,
        // What cannot be found out may be so.
        opened => opened
            .and_then(|mut client| client.policies())
            .map_or(true, |policies| policies.iter().any(|policy| policy.mark == Some(MARK))),
    }
}

impl fmt::Debug for Ipsec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ipsec")
    }
}

/// The thread's jobs for one connection. Dropping it closes the tunnel.
struct Orders {
    jobs: Sender<Job>,
    id: ConnectionId,
    ends: Ends,
}

impl Orders {
    fn give(&self, order: Order, done: impl FnOnce(Done) + Send + 'static) {
        let job = Job::Carry { id: self.id, ends: self.ends, order, done: Box::new(done) };
        if let Err(SendError(Job::Carry { done, .. })) = self.jobs.send(job) {
            done(Done::Failed("the thread for IPsec has ended".to_owned()));
        }
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        // Without the thread there is nothing to close.
        let _ = self.jobs.send(Job::Close { id: self.id });
    }
}

/// 32 random bytes of the kernel.
fn nonce() -> Result<[u8; NONCE_LEN], String> {
    let mut nonce = [0; NONCE_LEN];
    let filled = SystemRandom::new().fill(&mut nonce);
    filled.map(|()| nonce).map_err(|_| "the kernel has no random numbers".to_owned())
}

fn serve<K: Kernel>(
    mut keeper: Keeper<K>,
    inbox: &mpsc::Receiver<Job>,
    clock: impl Fn() -> Instant,
) {
    loop {
        let wait = keeper.poll_timeout().saturating_since(clock());
        match inbox.recv_timeout(wait) {
            Ok(Job::Carry { id, ends, order, done }) => {
                let became = match order {
                    Order::Receive { key } => keeper
                        .receive(clock(), id, ends, &key)
                        .map_or_else(Done::NotReceiving, Done::Receiving),
                    Order::Send { spi, key } => keeper
                        .send(id, ends, spi, key)
                        .map_or_else(Done::Failed, |()| Done::Sending),
                };
                if matches!(became, Done::NotReceiving(_) | Done::Failed(_)) {
                    keeper.ledger.entries().failures += 1;
                }
                done(became);
            }
            Ok(Job::Close { id }) => keeper.close(clock(), id),
            Err(RecvTimeoutError::Timeout) => keeper.handle_timeout(clock()),
            Ok(Job::Stop) => return keeper.stop(clock()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
