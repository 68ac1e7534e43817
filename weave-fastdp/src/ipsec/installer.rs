//! Installation of states, policies and firewall rules for the encrypted tunnels of a router, in an
//! order in which nothing leaves in clear.
//!
//! ```text
//!  a tunnel begins   rules ──▶ states ──▶ policy ──▶ (the engine sends)
//!  it ends           (the engine stops) ──▶ policy, states ──▶ a minute later, rules
//! ```
//!
//! Marked packets without a policy are dropped, so rules that stay too long do no harm. A key that
//! was replaced still receives for a while, since packets encrypted with it may be on their way.

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

use super::error::IpsecError;
use super::key_stats::{Direction, KeyStats};
use super::reqid::ReqidRegistry;
use super::rules::{Firewall, FirewallRules, MARK, TunnelEnds};

/// How long the rules of a tunnel outlive it, until its engine has certainly stopped sending.
const LINGER: Duration = Duration::from_secs(60);
/// How long a replaced key still receives, until the neighbour certainly uses the new one.
const OVERLAP: Duration = Duration::from_secs(60);
/// Number of attempts to allocate an SPI: the kernel takes back one that gets no key within
/// `net.core.xfrm_acq_expires`, 30 s, and the programs of a firewall may take longer than that.
const ATTEMPTS: u32 = 3;
/// Interval between checks of the rules, which other programs may flush.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Two addresses that no host has (RFC 5737), for a state by which the kernel is probed.
const PROBE_PATH: Path = Path {
    source: std::net::Ipv4Addr::new(192, 0, 2, 1),
    destination: std::net::Ipv4Addr::new(192, 0, 2, 2),
};

/// The requests to the kernel. [`Client`] implements them for the real one.
#[expect(missing_docs, reason = "the methods are those of Client with the same names")]
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

/// The installer of a router. Its calls wait for the kernel and for the firewall's programs.
pub struct Installer<K> {
    kernel: K,
    firewall: Box<dyn Firewall>,
    reqid: Reqid,
    tunnels: BTreeMap<ConnectionId, Tunnel>,
    /// Ends of closed tunnels, and until when their rules stay.
    lingering: BTreeMap<TunnelEnds, Instant>,
    checked: Instant,
    /// Whether there are rules for deleted keys, which do no harm until the next check.
    stale: bool,
    pub(super) key_stats: KeyStats,
}

struct Tunnel {
    ends: TunnelEnds,
    inbound: Option<Spi>,
    /// Inbound state before, and until when it receives.
    retired: Option<(Spi, Instant)>,
    outbound: Option<Spi>,
}

impl<K: Kernel> Installer<K> {
    /// Probes the kernel, adds the common rules, and then removes what ended routers and Weave Net
    /// left behind. States and policies of other programs are not touched.
    ///
    /// Flows and devices of the earlier router must be gone, since its rules are removed at the
    /// end.
    ///
    /// # Errors
    /// Fails if the kernel or the firewall lacks something.
    pub fn start(
        mut kernel: K,
        mut firewall: Box<dyn Firewall>,
        reqid: Reqid,
        registry: &ReqidRegistry,
        now: Instant,
    ) -> Result<Self, IpsecError> {
        probe(&mut kernel, reqid)?;
        firewall.prepare().map_err(IpsecError::Firewall)?;
        remove_leftovers(&mut kernel, registry)?;
        let (tunnels, lingering) = (BTreeMap::new(), BTreeMap::new());
        // Removes the rules of earlier tunnels.
        firewall.apply(&FirewallRules::default()).map_err(IpsecError::Firewall)?;
        let (checked, stale, key_stats) = (now, false, KeyStats::default());
        Ok(Self { kernel, firewall, reqid, tunnels, lingering, checked, stale, key_stats })
    }

    /// Installs a key for receiving. A key before still receives for a while.
    ///
    /// # Errors
    /// Fails if the kernel or the firewall refuses. The tunnel still has to be closed.
    pub fn receive(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ends: TunnelEnds,
        key: &AeadKey,
    ) -> Result<Spi, IpsecError> {
        let (path, reqid) = (ends.outbound().reversed(), self.reqid);
        self.tunnel(id, ends);
        let mut attempt = 1;
        let spi = loop {
            // The state receives nothing before it has its key.
            let spi = self.kernel.allocate_spi(path, reqid)?;
            let state = State { path, spi, reqid, key: key.clone() };
            let refused = match self.put_rules(Some((path, spi))) {
                Ok(_) => match self.kernel.update_state(&state) {
                    Ok(()) => break spi,
                    Err(Error::Refused { errno: Errno::ESRCH, .. }) if attempt < ATTEMPTS => None,
                    Err(error) => Some(error.into()),
                },
                Err(error) => Some(error),
            };
            if let Some(error) = refused {
                self.delete_state(path, spi);
                return Err(error);
            }
            attempt += 1;
        };
        self.key_stats.lock().open(path, spi, Direction::Inbound);
        let tunnel = self.tunnel(id, ends);
        if let Some(before) = tunnel.inbound.replace(spi) {
            let older = tunnel.retired.replace((before, now + OVERLAP));
            self.key_stats.lock().renewed += 1;
            if let Some((older, _)) = older {
                self.delete_state(path, older);
            }
        }
        Ok(spi)
    }

    /// Installs a key for sending.
    ///
    /// # Errors
    /// Fails if the kernel or the firewall refuses. The tunnel still has to be closed.
    pub fn send(
        &mut self,
        id: ConnectionId,
        ends: TunnelEnds,
        spi: Spi,
        key: AeadKey,
    ) -> Result<(), IpsecError> {
        let (path, reqid) = (ends.outbound(), self.reqid);
        self.tunnel(id, ends);
        self.put_rules(None)?;
        let present = self.kernel.policy(path, MARK)?;
        let owner = present.and_then(|policy| policy.template).map(|template| template.reqid);
        if owner.is_some_and(|owner| owner != reqid) {
            return Err(IpsecError::ForeignPolicy(path));
        }
        self.kernel.add_state(&State { path, spi, reqid, key })?;
        self.key_stats.lock().open(path, spi, Direction::Outbound);
        let before = self.tunnel(id, ends).outbound.replace(spi);
        self.kernel.put_policy(&Policy { path, mark: MARK, spi, reqid })?;
        if let Some(before) = before {
            self.delete_state(path, before);
        }
        Ok(())
    }

    /// Removes the keys of a tunnel.
    pub fn close(&mut self, now: Instant, id: ConnectionId) {
        let Some(Tunnel { ends, inbound, retired, outbound }) = self.tunnels.remove(&id) else {
            return;
        };
        let path = ends.outbound();
        if let Some(spi) = outbound {
            // A newer connection with this neighbour may have replaced the policy.
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

    /// Returns when [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Instant {
        let check = self.checked + CHECK_INTERVAL;
        let retired = self.tunnels.values().filter_map(|tunnel| tunnel.retired);
        let retired = retired.map(|(_, until)| until);
        self.lingering.values().copied().chain(retired).chain([check]).min().unwrap_or(check)
    }

    /// Handles the expiry of [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        let before = self.lingering.len();
        self.lingering.retain(|_, until| *until > now);
        let changed = self.delete_retired(now) || before != self.lingering.len();
        if !changed && now < self.checked + CHECK_INTERVAL {
            return;
        }
        self.checked = now;
        match self.put_rules(None) {
            Ok(true) if !changed && !std::mem::take(&mut self.stale) => {
                self.key_stats.lock().mended += 1;
                tracing::warn!(
                    "firewall rules of the encrypted tunnels were missing and are restored"
                );
            }
            Ok(_) => self.stale = false,
            Err(error) => tracing::warn!("firewall rules of the encrypted tunnels: {error}"),
        }
    }

    /// Deletes replaced keys whose time is over. Returns whether there were any.
    fn delete_retired(&mut self, now: Instant) -> bool {
        let mut over = Vec::new();
        for tunnel in self.tunnels.values_mut() {
            let path = tunnel.ends.outbound().reversed();
            let retired = tunnel.retired.take_if(|(_, until)| *until <= now);
            over.extend(retired.map(|(spi, _)| (path, spi)));
        }
        for (path, spi) in &over {
            self.delete_state(*path, *spi);
        }
        !over.is_empty()
    }

    /// Removes everything. The engine must have stopped sending.
    pub fn stop(mut self, now: Instant) {
        let ids: Vec<_> = self.tunnels.keys().copied().collect();
        for id in ids {
            self.close(now, id);
        }
        if let Err(error) = self.firewall.remove() {
            tracing::warn!("firewall rules of the encrypted tunnels stay: {error}");
        }
    }

    fn tunnel(&mut self, id: ConnectionId, ends: TunnelEnds) -> &mut Tunnel {
        let new = Tunnel { ends, inbound: None, retired: None, outbound: None };
        self.tunnels.entry(id).or_insert(new)
    }

    /// Applies the rules of all tunnels, and of a state that is about to receive.
    fn put_rules(&mut self, coming: Option<(Path, Spi)>) -> Result<bool, IpsecError> {
        let running = self.tunnels.values();
        let rules = FirewallRules {
            tunnels: running
                .clone()
                .map(|tunnel| tunnel.ends)
                .chain(self.lingering.keys().copied())
                .collect(),
            states: running
                .flat_map(|tunnel| {
                    let path = tunnel.ends.outbound().reversed();
                    let spis = [tunnel.inbound, tunnel.retired.map(|(spi, _)| spi)];
                    spis.into_iter().flatten().map(move |spi| (path, spi))
                })
                .chain(coming)
                .collect(),
        };
        self.firewall.apply(&rules).map_err(IpsecError::Firewall)
    }

    fn delete_state(&mut self, path: Path, spi: Spi) {
        let key_stats = self.key_stats.clone();
        let mut stats = key_stats.lock();
        match self.kernel.states() {
            Ok(states) => stats.close(path, spi, &states),
            Err(error) => tracing::debug!(%path, %spi, "not counted: {error}"),
        }
        if let Err(error) = self.kernel.delete_state(path, spi) {
            tracing::warn!(%path, %spi, "{error}");
        }
    }
}

/// Adds a state and deletes it: ESP and AES-GCM are modules that the kernel loads on demand.
fn probe(kernel: &mut impl Kernel, reqid: Reqid) -> Result<(), IpsecError> {
    let spi = kernel.allocate_spi(PROBE_PATH, reqid)?;
    let key = AeadKey::new([0; weave_xfrm::KEY_LEN]);
    let made = kernel.update_state(&State { path: PROBE_PATH, spi, reqid, key });
    let deleted = kernel.delete_state(PROBE_PATH, spi);
    made.map_err(IpsecError::NoEsp)?;
    deleted?;
    Ok(())
}

/// Removes what ended routers left behind. Routers of this kind are recognised by the request id.
/// Weave Net sets none, but its policies have its mark, and its states are between the hosts of its
/// policies and have its parameters.
pub(super) fn remove_leftovers(
    kernel: &mut impl Kernel,
    registry: &ReqidRegistry,
) -> Result<(), Error> {
    let unspecified = Reqid::default();
    let mut weave_net_paths = Vec::new();
    for policy in kernel.policies()? {
        let PolicyEntry { path: Some(path), direction: PolicyDirection::Out, udp: true, .. } =
            policy
        else {
            continue;
        };
        let Some(template) = policy.template.filter(|_| policy.mark == Some(MARK)) else {
            continue;
        };
        if registry.has_ended(template.reqid) || template.reqid == unspecified {
            kernel.delete_policy(path, MARK)?;
        }
        if template.reqid == unspecified {
            weave_net_paths.extend([path, path.reversed()]);
        }
    }
    for state in kernel.states()? {
        let StateEntry { path, spi: Some(spi), mode: Mode::Transport, .. } = state else {
            continue;
        };
        let ours = registry.has_ended(state.reqid);
        let of_weave_net = state.reqid == unspecified
            && state.aes_gcm
            && state.extended_sequence
            && weave_net_paths.contains(&path);
        if ours || of_weave_net {
            kernel.delete_state(path, spi)?;
        }
    }
    Ok(())
}
