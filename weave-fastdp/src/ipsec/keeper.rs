//! What the kernel has for the sealed tunnels of this router, in an order in which nothing leaves
//! in clear.
//!
//! ```text
//!  a tunnel begins   rules ──▶ states ──▶ policy ──▶ (the engine sends)
//!  it ends           (the engine stops) ──▶ policy, states ──▶ a minute later, rules
//! ```
//!
//! Without a policy what is marked is dropped, so rules that stay too long cost nothing. A key that
//! was renewed still receives for a while: what it sealed may be on its way.

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use weave_core::mesh::ConnectionId;
use weave_core::time::Instant;
use weave_xfrm::{
    AeadKey, Client, Errno, Error, Mark, Mode, Path, Policy, PolicyDirection, PolicyEntry, Reqid,
    Socket, Spi, State, StateEntry,
};

use super::ledger::{Ledger, Way};
use super::owner::Owners;
use super::rules::{Ends, Firewall, MARK, Rules};

/// The rules of a tunnel outlive it by this, until its engine has let go of it for certain.
const LINGER: Duration = Duration::from_secs(60);
/// A key that was renewed receives for as long after, while the neighbour hears of the new one.
const OVERLAP: Duration = Duration::from_secs(60);
/// How often to reserve a number: the kernel takes back one that got no key within
/// `net.core.xfrm_acq_expires`, 30 s, and the programs of a firewall may take longer than that.
const ATTEMPTS: u32 = 3;
/// Whether the rules are still there is looked at as often: others have programs that flush them.
const LOOK: Duration = Duration::from_secs(10);

/// Two addresses that no host has (RFC 5737), for a state that is made to see whether it can be.
const NOWHERE: Path = Path {
    source: std::net::Ipv4Addr::new(192, 0, 2, 1),
    destination: std::net::Ipv4Addr::new(192, 0, 2, 2),
};

/// What is asked of the kernel; see [`Client`], which is the real one.
#[expect(missing_docs, reason = "as the methods of Client of the same names")]
pub trait Kernel: Send {
    fn allocate_spi(&mut self, path: Path, reqid: Reqid) -> Result<Spi, Error>;
    fn update_state(&mut self, state: &State) -> Result<(), Error>;
    fn add_state(&mut self, state: &State) -> Result<(), Error>;
    fn delete_state(&mut self, path: Path, spi: Spi) -> Result<bool, Error>;
    fn states(&mut self) -> Result<Vec<StateEntry>, Error>;
    fn put_policy(&mut self, policy: &Policy) -> Result<(), Error>;
    fn policy(&mut self, path: Path, mark: Mark) -> Result<Option<PolicyEntry>, Error>;
    fn delete_policy(&mut self, path: Path, mark: Mark) -> Result<bool, Error>;
    fn policies(&mut self) -> Result<Vec<PolicyEntry>, Error>;
}

impl Kernel for Client<Socket> {
    fn allocate_spi(&mut self, path: Path, reqid: Reqid) -> Result<Spi, Error> {
        self.allocate_spi(path, reqid)
    }
    fn update_state(&mut self, state: &State) -> Result<(), Error> {
        self.update_state(state)
    }
    fn add_state(&mut self, state: &State) -> Result<(), Error> {
        self.add_state(state)
    }
    fn delete_state(&mut self, path: Path, spi: Spi) -> Result<bool, Error> {
        self.delete_state(path, spi)
    }
    fn states(&mut self) -> Result<Vec<StateEntry>, Error> {
        self.states()
    }
    fn put_policy(&mut self, policy: &Policy) -> Result<(), Error> {
        self.put_policy(policy)
    }
    fn policy(&mut self, path: Path, mark: Mark) -> Result<Option<PolicyEntry>, Error> {
        self.policy(path, mark)
    }
    fn delete_policy(&mut self, path: Path, mark: Mark) -> Result<bool, Error> {
        self.delete_policy(path, mark)
    }
    fn policies(&mut self) -> Result<Vec<PolicyEntry>, Error> {
        self.policies()
    }
}

/// The keeper of one router. Its calls wait for the kernel and for the firewall's programs.
pub struct Keeper<K> {
    kernel: K,
    firewall: Box<dyn Firewall>,
    reqid: Reqid,
    tunnels: BTreeMap<ConnectionId, Tunnel>,
    /// Ends whose tunnel is gone, and until when their rules stay.
    lingering: BTreeMap<Ends, Instant>,
    looked: Instant,
    /// There are rules for keys that are gone, which cost nothing until the next look.
    stale: bool,
    pub(super) ledger: Ledger,
}

struct Tunnel {
    ends: Ends,
    inbound: Option<Spi>,
    /// The one before, and until when it receives.
    retired: Option<(Spi, Instant)>,
    outbound: Option<Spi>,
}

impl<K: Kernel> Keeper<K> {
    /// Sees whether the kernel has what it takes, puts the common rules in force, and then
    /// removes what routers left that are gone, and what Weave Net left. Of whoever else's it touches nothing.
    ///
    /// Flows and devices of that router must be gone: in the end its rules are, too.
    ///
    /// # Errors
    /// What is missing, in one line for the log.
    pub fn start(
        mut kernel: K,
        mut firewall: Box<dyn Firewall>,
        reqid: Reqid,
        owners: &Owners,
        now: Instant,
    ) -> Result<Self, String> {
        probe(&mut kernel, reqid)?;
        firewall.prepare()?;
        remove_leftovers(&mut kernel, owners).map_err(|error| error.to_string())?;
        let (tunnels, lingering) = (BTreeMap::new(), BTreeMap::new());
        // Of the tunnels before this one.
        firewall.apply(&Rules::default())?;
        let (looked, stale, ledger) = (now, false, Ledger::default());
        Ok(Self { kernel, firewall, reqid, tunnels, lingering, looked, stale, ledger })
    }

    /// Receives on a tunnel from now on; for a while also with the key before, if there is one.
    ///
    /// # Errors
    /// One line for the log. The tunnel is still to be closed.
    pub fn receive(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ends: Ends,
        key: &AeadKey,
    ) -> Result<Spi, String> {
        let (path, reqid) = (ends.outwards().reversed(), self.reqid);
        self.tunnel(id, ends);
        let mut attempt = 1;
        let spi = loop {
            // It receives nothing before it has its key.
            let spi = self.kernel.allocate_spi(path, reqid).map_err(|error| error.to_string())?;
            let state = State { path, spi, reqid, key: key.clone() };
            let refused = match self.put_rules(Some((path, spi))) {
                Ok(_) => match self.kernel.update_state(&state) {
                    Ok(()) => break spi,
                    Err(Error::Refused { errno: Errno::ESRCH, .. }) if attempt < ATTEMPTS => None,
                    Err(error) => Some(error.to_string()),
                },
                Err(error) => Some(error),
            };
            if let Some(reason) = refused {
                self.delete_state(path, spi);
                return Err(reason);
            }
            attempt += 1;
        };
        self.ledger.entries().open(path, spi, Way::In);
        let tunnel = self.tunnel(id, ends);
        if let Some(before) = tunnel.inbound.replace(spi) {
            let older = tunnel.retired.replace((before, now + OVERLAP));
            self.ledger.entries().renewed += 1;
            if let Some((older, _)) = older {
                self.delete_state(path, older);
            }
        }
        Ok(spi)
    }

    /// Seals what is sent on a tunnel from now on.
    ///
    /// # Errors
    /// One line for the log. The tunnel is still to be closed.
    pub fn send(
        &mut self,
        id: ConnectionId,
        ends: Ends,
        spi: Spi,
        key: AeadKey,
    ) -> Result<(), String> {
        let (path, reqid) = (ends.outwards(), self.reqid);
        self.tunnel(id, ends);
        self.put_rules(None)?;
        let present = self.kernel.policy(path, MARK).map_err(|error| error.to_string())?;
        let owner = present.and_then(|policy| policy.template).map(|template| template.reqid);
        if owner.is_some_and(|owner| owner != reqid) {
            return Err(format!("somebody else has an IPsec policy from {path}"));
        }
        self.kernel
            .add_state(&State { path, spi, reqid, key })
            .map_err(|error| error.to_string())?;
        self.ledger.entries().open(path, spi, Way::Out);
        let before = self.tunnel(id, ends).outbound.replace(spi);
        self.kernel
            .put_policy(&Policy { path, mark: MARK, spi, reqid })
            .map_err(|error| error.to_string())?;
        if let Some(before) = before {
            self.delete_state(path, before);
        }
        Ok(())
    }

    /// The tunnel of a connection has come to its end.
    pub fn close(&mut self, now: Instant, id: ConnectionId) {
        let Some(Tunnel { ends, inbound, retired, outbound }) = self.tunnels.remove(&id) else {
            return;
        };
        let path = ends.outwards();
        if let Some(spi) = outbound {
            // A newer connection with this neighbour may have replaced it.
            match self.kernel.policy(path, MARK) {
                Ok(policy) => {
                    let template = policy.and_then(|policy| policy.template);
                    if template.is_some_and(|t| t.spi == Some(spi) && t.reqid == self.reqid)
                        && let Err(error) = self.kernel.delete_policy(path, MARK)
                    {
                        tracing::warn!("{error}");
                    }
                }
                Err(error) => tracing::warn!("{error}"),
            }
            self.delete_state(path, spi);
        }
        for spi in inbound.into_iter().chain(retired.map(|(spi, _)| spi)) {
            self.delete_state(path.reversed(), spi);
        }
        self.lingering.insert(ends, now + LINGER);
        self.stale = true;
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Instant {
        let look = self.looked + LOOK;
        let retired = self.tunnels.values().filter_map(|tunnel| tunnel.retired);
        let retired = retired.map(|(_, until)| until);
        self.lingering.values().copied().chain(retired).chain([look]).min().unwrap_or(look)
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let before = self.lingering.len();
        self.lingering.retain(|_, until| *until > now);
        let changed = self.delete_retired(now) || before != self.lingering.len();
        if !changed && now < self.looked + LOOK {
            return;
        }
        self.looked = now;
        match self.put_rules(None) {
            Ok(true) if !changed && !std::mem::take(&mut self.stale) => {
                self.ledger.entries().mended += 1;
                tracing::warn!("firewall rules of the sealed tunnels were gone and are back");
            }
            Ok(_) => self.stale = false,
            Err(error) => tracing::warn!("firewall rules of the sealed tunnels: {error}"),
        }
    }

    /// Deletes the keys whose time is over; whether there were any.
    fn delete_retired(&mut self, now: Instant) -> bool {
        let mut over = Vec::new();
        for tunnel in self.tunnels.values_mut() {
            let path = tunnel.ends.outwards().reversed();
            let retired = tunnel.retired.take_if(|(_, until)| *until <= now);
            over.extend(retired.map(|(spi, _)| (path, spi)));
        }
        for (path, spi) in &over {
            self.delete_state(*path, *spi);
        }
        !over.is_empty()
    }

    /// Removes all that there is. The engine must have let go of its tunnels.
    pub fn stop(mut self, now: Instant) {
        let ids: Vec<_> = self.tunnels.keys().copied().collect();
        for id in ids {
            self.close(now, id);
        }
        if let Err(error) = self.firewall.remove() {
            tracing::warn!("firewall rules of the sealed tunnels stay: {error}");
        }
    }

    fn tunnel(&mut self, id: ConnectionId, ends: Ends) -> &mut Tunnel {
        let new = Tunnel { ends, inbound: None, retired: None, outbound: None };
        self.tunnels.entry(id).or_insert(new)
    }

    /// `coming` is a state that is about to receive.
    fn put_rules(&mut self, coming: Option<(Path, Spi)>) -> Result<bool, String> {
        let running = self.tunnels.values();
        let rules = Rules {
            tunnels: running
                .clone()
                .map(|tunnel| tunnel.ends)
                .chain(self.lingering.keys().copied())
                .collect(),
            states: running
                .flat_map(|tunnel| {
                    let path = tunnel.ends.outwards().reversed();
                    let spis = [tunnel.inbound, tunnel.retired.map(|(spi, _)| spi)];
                    spis.into_iter().flatten().map(move |spi| (path, spi))
                })
                .chain(coming)
                .collect(),
        };
        self.firewall.apply(&rules)
    }

    fn delete_state(&mut self, path: Path, spi: Spi) {
        let ledger = self.ledger.clone();
        let mut entries = ledger.entries();
        match self.kernel.states() {
            Ok(states) => entries.close(path, spi, &states),
            Err(error) => tracing::debug!(%path, %spi, "not counted: {error}"),
        }
        if let Err(error) = self.kernel.delete_state(path, spi) {
            tracing::warn!(%path, %spi, "{error}");
        }
    }
}

/// Makes a state and deletes it: ESP and AES-GCM are modules that come when they are wanted.
fn probe(kernel: &mut impl Kernel, reqid: Reqid) -> Result<(), String> {
    let spi = kernel.allocate_spi(NOWHERE, reqid).map_err(|error| error.to_string())?;
    let key = AeadKey::new([0; weave_xfrm::KEY_LEN]);
    let made = kernel.update_state(&State { path: NOWHERE, spi, reqid, key });
    let deleted = kernel.delete_state(NOWHERE, spi);
    made.map_err(|error| format!("this kernel has no ESP with AES-GCM (esp4, gcm): {error}"))?;
    deleted.map(drop).map_err(|error| error.to_string())
}

/// What routers left behind that have ended. Those of our kind are known by the reqid. Weave Net
/// has none, but its policies have its mark, and its states are between the hosts of its policies
/// and of its kind.
pub(super) fn remove_leftovers(kernel: &mut impl Kernel, owners: &Owners) -> Result<(), Error> {
    let nobody = Reqid::default();
    let mut of_weave_net = Vec::new();
    for policy in kernel.policies()? {
        let PolicyEntry { path: Some(path), direction: PolicyDirection::Out, udp: true, .. } =
            policy
        else {
            continue;
        };
        let Some(template) = policy.template.filter(|_| policy.mark == Some(MARK)) else {
            continue;
        };
        if owners.is_gone(template.reqid) || template.reqid == nobody {
            kernel.delete_policy(path, MARK)?;
        }
        if template.reqid == nobody {
            of_weave_net.extend([path, path.reversed()]);
        }
    }
    for state in kernel.states()? {
        let StateEntry { path, spi: Some(spi), mode: Mode::Transport, .. } = state else {
            continue;
        };
        let ours = owners.is_gone(state.reqid);
        let weave_net_s = state.reqid == nobody
            && state.aes_gcm
            && state.extended_sequence
            && of_weave_net.contains(&path);
        if ours || weave_net_s {
            kernel.delete_state(path, spi)?;
        }
    }
    Ok(())
}
