//! Addresses of the host on the bridge, and the firewall rules that go with bridge and
//! addresses (spec router.md, sections 7 and 8).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use weave_core::switch::Waker;
use weave_core::wire::MacAddress;
use weave_host::{
    Backend, Cidr, Claimants, ClosedPorts, Firewall, Forwarding, HostAddress, HostError, Outcome,
    Policy, bridge_addresses, forwarding,
};

use crate::fastdp::Fastdp;
use crate::http::ExposeError;
use crate::settings::{Bridge, Firewall as Rules};
use crate::store::Store;
use weave_api::Address;

/// The addresses and rules of a router; clones are of the same ones.
#[derive(Clone)]
pub(crate) struct Exposure {
    host: Arc<Mutex<Host>>,
    backend: Backend,
    /// A router without a bridge has neither.
    bridge: bool,
    /// Neighbours came or went.
    changed: Arc<Notify>,
}

struct Host {
    firewall: Firewall,
    policy: Policy,
    fastdp: Fastdp,
    forward: Forward,
    state: Arc<dyn Store>,
    claimants: Claimants,
    predecessor: Predecessor,
}

/// What became of the rules that another router left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Predecessor {
    /// They enforce network policies, and nothing else does. Until that time they stay, and ours,
    /// which would let through what they refuse, are not made.
    Polices(Instant),
    /// They go when ours are made.
    Outlived,
    /// They are gone.
    Gone,
}

/// How long the controller of network policies may take to start after the router: it reads all
/// pods and policies of the cluster first.
const POLICIES_WITHIN: Duration = Duration::from_secs(60);

/// Whether the host is to forward, and why it does not though something is exposed.
#[derive(Default)]
struct Forward {
    forbidden: bool,
    problem: Option<String>,
}

impl Exposure {
    /// Makes the rules, and exposes again what was exposed before. What fails is tried again by
    /// the keeper.
    pub(crate) fn set_up(
        on: &Bridge,
        mesh_port: u16,
        control: Option<&Address>,
        state: &Arc<dyn Store>,
        fastdp: &Fastdp,
    ) -> Result<Self> {
        let bridge = on.is_there();
        let wanted = if bridge { on.firewall.backend } else { Some(Backend::None) };
        let firewall = Firewall::open(wanted)
            .with_context(|| format!("no firewall {}", wanted.unwrap_or(Backend::None)))?;
        let backend = firewall.backend();
        if bridge {
            tell(on, &firewall);
        }
        let policy = Policy {
            bridge: on.name.clone(),
            control_port: match control {
                Some(Address::Tcp { port, .. }) => Some(*port),
                _ => None,
            },
            docker: on.firewall.docker_bridge.clone(),
            closed: closed(on, mesh_port, control),
            vxlan: None,
            exposed: if bridge { exposed_before(&on.name, &**state)? } else { Vec::new() },
            routed: false,
        };
        let changed = Arc::<Notify>::default();
        let forward = Forward { forbidden: !on.firewall.ip_forward, problem: None };
        let (fastdp, state) = (fastdp.clone(), Arc::clone(state));
        let claimants = Claimants::default();
        let predecessor = if bridge { predecessor(&on.name) } else { Predecessor::Gone };
        let mut host = Host { firewall, policy, fastdp, forward, state, claimants, predecessor };
        if bridge {
            let waker = Arc::clone(&changed);
            host.fastdp.on_senders(Waker::new(move || waker.notify_one()));
            if let Err(error) = host.look() {
                tracing::warn!("{error:#}");
            }
        }
        Ok(Self { host: Arc::new(Mutex::new(host)), backend, bridge, changed })
    }

    /// Waits until the rules have to follow the neighbours.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The router ends: nobody is kept away from the port of its devices any more, unless some of
    /// them stay.
    pub(crate) fn release(&self) {
        if self.bridge {
            let mut host = self.lock();
            host.fastdp.stop();
            if let Err(error) = host.look() {
                tracing::warn!("{error:#}");
            }
        }
    }

    /// Where the rules are, and what keeps containers from getting out; empty without a bridge.
    pub(crate) fn firewall(&self) -> String {
        if !self.bridge {
            return String::new();
        }
        match &self.lock().forward.problem {
            Some(problem) => format!("{}; {problem}", self.backend),
            None => self.backend.to_string(),
        }
    }

    /// Brings back what somebody took away; says what that was.
    pub(crate) fn look(&self) -> Result<Option<&'static str>> {
        if self.bridge { self.lock().look() } else { Ok(None) }
    }

    /// Gives the host an address.
    pub(crate) async fn expose(&self, address: HostAddress) -> Result<(), ExposeError> {
        if !self.bridge {
            return Err(ExposeError::Refused("this router has no bridge".to_owned()));
        }
        if address.masquerade && self.backend == Backend::None {
            tracing::warn!("{} is not masqueraded: there is no firewall", address.cidr);
        }
        self.change(move |host| host.expose(address)).await
    }

    /// Takes it away; none is fine.
    pub(crate) async fn hide(&self, cidr: Cidr) -> Result<(), ExposeError> {
        self.change(move |host| host.hide(cidr)).await
    }

    /// The addresses of the host.
    pub(crate) fn exposed(&self) -> Vec<HostAddress> {
        self.lock().policy.exposed.clone()
    }

    /// Programs are waited for, and so is the disk.
    async fn change(
        &self,
        work: impl FnOnce(&mut Host) -> Result<()> + Send + 'static,
    ) -> Result<(), ExposeError> {
        let this = self.clone();
        let failed = |error: &anyhow::Error| match error.downcast_ref() {
            Some(HostError::AddressInUse { .. }) => ExposeError::InUse(error.to_string()),
            _ => ExposeError::Failed(format!("{error:#}")),
        };
        spawn_blocking(move || work(&mut this.lock()))
            .await
            .map_err(|error| failed(&error.into()))?
            .map_err(|error| failed(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forward {
    /// Containers take an exposed address for their way out, so the host has to be one: as the
    /// plugin `bridge` of the CNI project does, the kernel is told to forward.
    fn look(&mut self) {
        let problem = match forwarding(!self.forbidden) {
            Ok(Forwarding::On) => None,
            Ok(Forwarding::SwitchedOn) => {
                tracing::info!("net.ipv4.ip_forward is switched on: containers have a way out");
                None
            }
            Ok(Forwarding::Off) => Some(
                "containers have no way out: net.ipv4.ip_forward is off, and --no-ip-forward leaves \
                 it so"
                    .to_owned(),
            ),
            Err(error) => Some(format!("containers have no way out: {error}")),
        };
        if let Some(problem) = problem.as_ref().filter(|_| problem != self.problem) {
            tracing::warn!("{problem}");
        }
        self.problem = problem;
    }
}

impl Host {
    fn look(&mut self) -> Result<Option<&'static str>> {
        let mut added = false;
        for exposed in &self.policy.exposed {
            added |= weave_host::expose(&self.policy.bridge, exposed.cidr)?;
        }
        if !self.policy.exposed.is_empty() {
            self.forward.look();
        }
        if self.yields() {
            return Ok(added.then_some("addresses of the host"));
        }
        let vxlan = self.fastdp.senders();
        let ours = self.policy.vxlan != vxlan;
        self.policy.vxlan = vxlan;
        // Somebody may have given it one without asking the router.
        self.policy.routed = !bridge_addresses(&self.policy.bridge)?.is_empty();
        let outcome = self.firewall.apply(&self.policy);
        let outcome = outcome.context("the rules of the firewall are not complete")?;
        self.clear_up();
        Ok(match (added, outcome) {
            (false, Outcome::InOrder) => None,
            // Nobody but this router changed anything.
            (false, Outcome::Changed) if ours => None,
            (false, Outcome::Changed) => Some("rules of the firewall"),
            (true, Outcome::InOrder) => Some("addresses of the host"),
            (true, Outcome::Changed) => Some("addresses of the host, and rules of the firewall"),
        })
    }

    /// Whether the rules of the router before still enforce network policies that nothing else
    /// does.
    fn yields(&mut self) -> bool {
        let Predecessor::Polices(until) = self.predecessor else { return false };
        let stand = weave_host::original_policies_stand(&self.policy.bridge).unwrap_or(false);
        let is_late = Instant::now() >= until;
        if stand && is_late {
            tracing::warn!(
                "nobody enforces the network policies of Weave Net any more: its rules are removed, \
                 and no controller has made any within {} s",
                POLICIES_WITHIN.as_secs()
            );
        }
        let yields = stand && !is_late;
        if !yields {
            self.predecessor = Predecessor::Outlived;
        }
        yields
    }

    /// Takes away what the router before left, after ours stand.
    fn clear_up(&mut self) {
        if self.predecessor == Predecessor::Gone {
            return;
        }
        self.predecessor = Predecessor::Gone;
        let bridge = &self.policy.bridge;
        if let Err(error) = self.firewall.remove_elsewhere(bridge) {
            tracing::warn!("old rules are left in another firewall: {error}");
        }
        match weave_host::remove_original_rules(bridge) {
            Ok(backends) => {
                for backend in backends {
                    tracing::info!("rules of Weave Net 2.x in {backend} are removed");
                }
            }
            Err(error) => tracing::warn!("rules of Weave Net 2.x are left: {error}"),
        }
    }

    fn expose(&mut self, address: HostAddress) -> Result<()> {
        let before = self.policy.exposed.clone();
        if !before.iter().any(|other| other.cidr == address.cidr)
            && let IpAddr::V4(asked) = address.cidr.address()
            && let Some(holder) = self.holder_of(asked)?
        {
            let address = asked.into();
            return Err(HostError::AddressInUse { address, holder }.into());
        }
        self.policy.exposed.retain(|other| other.cidr != address.cidr);
        self.policy.exposed.push(address);
        self.policy.exposed.sort();
        let result = self.store().and_then(|()| self.look().map(drop));
        if result.is_err() {
            // Nobody shall find an address that its owner was told he does not have.
            let added = !before.iter().any(|other| other.cidr == address.cidr);
            self.policy.exposed = before;
            if added {
                let _ = weave_host::hide(&self.policy.bridge, address.cidr);
            }
            let _ = self.store();
            let _ = self.look();
        }
        result
    }

    /// Who has an address, but for those who answer for every address.
    fn holder_of(&mut self, address: Ipv4Addr) -> Result<Option<MacAddress>, HostError> {
        let claimants = &mut self.claimants;
        weave_host::holder_of(&self.policy.bridge, address, |holder| {
            claimants.believes(Instant::now(), holder, address)
        })
    }

    fn hide(&mut self, cidr: Cidr) -> Result<()> {
        self.policy.exposed.retain(|exposed| exposed.cidr != cidr);
        self.store()?;
        weave_host::hide(&self.policy.bridge, cidr)?;
        self.look().map(drop)
    }

    fn store(&self) -> Result<()> {
        let exposed = self.policy.exposed.iter();
        let exposed: Vec<_> =
            exposed.map(|exposed| (exposed.cidr.to_string(), exposed.masquerade)).collect();
        Ok(self.state.set_exposed(&exposed)?)
    }
}

fn predecessor(bridge: &str) -> Predecessor {
    match weave_host::original_policies_stand(bridge) {
        Ok(true) => {
            tracing::info!(
                "rules of Weave Net 2.x enforce network policies: they stay until the controller has \
                 made its own, for {} s at most",
                POLICIES_WITHIN.as_secs()
            );
            Predecessor::Polices(Instant::now() + POLICIES_WITHIN)
        }
        Ok(false) => Predecessor::Outlived,
        Err(error) => {
            tracing::debug!(%error, "rules of an earlier router are not looked for");
            Predecessor::Outlived
        }
    }
}

fn tell(on: &Bridge, firewall: &Firewall) {
    match (firewall.backend(), on.firewall.backend) {
        (Backend::None, None) => tracing::warn!(
            "this host has neither iptables nor nft: nothing is masqueraded, the control port is \
             not guarded, and containers reach the ports of the mesh"
        ),
        (Backend::None, Some(_)) => tracing::info!("no firewall rules are made, as told"),
        (backend, _) => tracing::info!("firewall rules are kept in {backend}"),
    }
    if firewall.backend() != Backend::None && !firewall.covers_ipv6() {
        tracing::warn!("ip6tables does not work: no rules are made for IPv6");
    }
    if firewall.is_overruled() {
        tracing::warn!(
            "another table of nftables drops what is forwarded; allow bridge {} there",
            on.name
        );
    }
}

/// What containers must not reach of this router and of others, which as a rule have the same
/// ports.
fn closed(on: &Bridge, mesh: u16, control: Option<&Address>) -> ClosedPorts {
    let Rules { mesh_open_to_containers, docker_bridge, .. } = &on.firewall;
    let ours = (!mesh_open_to_containers).then(|| on.name.clone());
    let control = match control {
        Some(Address::Tcp { host, port }) if !is_loopback(host) => Some(*port),
        _ => None,
    };
    let bridges = ours.into_iter().chain(docker_bridge.clone()).collect();
    ClosedPorts { bridges, mesh, transports: on.firewall.closed.clone(), control }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// What is on the bridge, and what was when the router ran last: the bridge is gone after a
/// restart of the machine. Whether an address is masqueraded is known of the latter alone.
fn exposed_before(bridge: &str, state: &dyn Store) -> Result<Vec<HostAddress>> {
    let stored = state.exposed().unwrap_or_else(|error| {
        tracing::warn!("addresses of the host are forgotten: {error}");
        Vec::new()
    });
    let mut exposed: Vec<_> = stored
        .into_iter()
        .filter_map(|(text, masquerade)| Some(HostAddress { cidr: text.parse().ok()?, masquerade }))
        .collect();
    for cidr in bridge_addresses(bridge)? {
        let usable = matches!(cidr.address(), IpAddr::V4(_)) && cidr.is_host_address();
        if usable && !exposed.iter().any(|other| other.cidr == cidr) {
            exposed.push(HostAddress { cidr, masquerade: true });
        }
    }
    exposed.sort();
    for exposed in &exposed {
        tracing::info!("the host has address {} on the bridge", exposed.cidr);
    }
    Ok(exposed)
}
