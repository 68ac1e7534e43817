//! The objects of a cluster, as last heard, and whose each address is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::object::{Direction, Namespace, Namespaces, ObjectName, Pod, PodNetwork, PodPeer};
use crate::object::{Policy, Rule};

/// The objects of a cluster.
///
/// What is derived depends on the objects that are there and not on the order in which they came.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Cluster {
    namespaces: BTreeMap<String, Namespace>,
    pods: BTreeMap<ObjectName, Pod>,
    policies: BTreeMap<ObjectName, Policy>,
    /// The pods that say that an address is theirs: the last one is right.
    claims: BTreeMap<IpAddr, BTreeSet<Claim>>,
    /// Addresses about which something has changed, for a compiler that goes on from there.
    touched: BTreeSet<IpAddr>,
}

/// Ordered by age: an address is given to a new pod when the old one is gone, though the API
/// server may not say so yet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Claim {
    created: String,
    uid: String,
    pod: ObjectName,
}

impl Claim {
    fn of(pod: &Pod) -> Self {
        Self { created: pod.created.clone(), uid: pod.uid.clone(), pod: pod.name.clone() }
    }
}

/// A change of one object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A namespace is new, or has changed.
    Namespace(Namespace),
    /// A namespace is gone.
    NamespaceGone(String),
    /// A pod is new, or has changed.
    Pod(Box<Pod>),
    /// A pod is gone.
    PodGone(ObjectName),
    /// A policy is new, or has changed.
    Policy(Policy),
    /// A policy is gone.
    PolicyGone(ObjectName),
}

impl Cluster {
    /// Takes a change, and returns whether it says anything new.
    pub fn handle_change(&mut self, change: Change) -> bool {
        match change {
            Change::Namespace(namespace) => {
                let name = namespace.name.clone();
                let old = self.namespaces.insert(name.clone(), namespace.clone());
                old.as_ref() != Some(&namespace) && self.touch_namespace(&name)
            }
            Change::NamespaceGone(name) => {
                self.namespaces.remove(&name).is_some() && self.touch_namespace(&name)
            }
            Change::Pod(pod) => {
                if self.pods.get(&pod.name) == Some(&*pod) {
                    return false;
                }
                self.remove_pod(&pod.name);
                for address in attached(&pod) {
                    self.claims.entry(*address).or_default().insert(Claim::of(&pod));
                    self.touched.insert(*address);
                }
                self.pods.insert(pod.name.clone(), *pod);
                true
            }
            Change::PodGone(name) => self.remove_pod(&name),
            Change::Policy(policy) => {
                let old = self.policies.insert(policy.name.clone(), policy.clone());
                old.as_ref() != Some(&policy)
            }
            Change::PolicyGone(name) => self.policies.remove(&name).is_some(),
        }
    }

    /// Notes that the pods of a namespace may be meant by others now.
    fn touch_namespace(&mut self, name: &str) -> bool {
        let pods = of_namespace(&self.pods, name).flat_map(|(_, pod)| attached(pod));
        self.touched.extend(pods);
        true
    }

    /// Returns the addresses about which something has changed since this was asked last: whose they
    /// are, or what selects their pods.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.touched)
    }

    fn remove_pod(&mut self, name: &ObjectName) -> bool {
        let Some(pod) = self.pods.remove(name) else { return false };
        let claim = Claim::of(&pod);
        for address in attached(&pod) {
            self.touched.insert(*address);
            if let Some(claims) = self.claims.get_mut(address) {
                claims.remove(&claim);
                if claims.is_empty() {
                    self.claims.remove(address);
                }
            }
        }
        true
    }

    /// Returns a pod.
    pub fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// Returns all pods.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// Returns all policies.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }

    /// Returns all namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }

    /// Returns the pod that has an address of its own: none if it is of a node, or outside.
    pub fn owner(&self, address: IpAddr) -> Option<&Pod> {
        let newest = self.claims.get(&address)?.last()?;
        self.pods.get(&newest.pod)
    }

    /// Returns the addresses that pods have, each with its pod.
    pub fn owners(&self) -> impl Iterator<Item = (IpAddr, &Pod)> {
        self.claims
            .iter()
            .filter_map(|(address, claims)| Some((*address, self.pods.get(&claims.last()?.pod)?)))
    }

    /// Returns the addresses that a pod has: not those that others have by now.
    pub fn addresses<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = IpAddr> + 'a {
        let owns = |address: &IpAddr| self.owner(*address).is_some_and(|own| own.name == pod.name);
        attached(pod).copied().filter(owns)
    }

    /// Returns the policies that isolate a pod for a direction, by name, with their rules.
    pub fn isolating<'a>(
        &'a self,
        pod: &'a Pod,
        direction: Direction,
    ) -> impl Iterator<Item = (&'a Policy, &'a [Rule])> + 'a {
        let own = of_namespace(&self.policies, &pod.name.namespace).map(|(_, policy)| policy);
        own.filter(|policy| policy.pods.matches(&pod.labels))
            .filter_map(move |policy| Some((policy, policy.rules(direction)?)))
    }

    /// Returns whether a rule of a policy in `home` means a pod.
    pub fn means(&self, peer: &PodPeer, home: &str, pod: &Pod) -> bool {
        let namespace = match &peer.namespaces {
            Namespaces::Own => pod.name.namespace == home,
            // The labels of one that is not known yet are not those of one that has none.
            Namespaces::Matching(selector) => self
                .namespaces
                .get(&pod.name.namespace)
                .is_some_and(|namespace| selector.matches(&namespace.labels)),
        };
        namespace && peer.pods.matches(&pod.labels)
    }
}

/// Returns the objects of one namespace.
fn of_namespace<'a, T>(
    objects: &'a BTreeMap<ObjectName, T>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a ObjectName, &'a T)> {
    let from = ObjectName::new(namespace, "");
    objects.range(from..).take_while(move |(name, _)| name.namespace == namespace)
}

/// Returns the addresses that a pod says are its own.
fn attached(pod: &Pod) -> impl Iterator<Item = &IpAddr> {
    pod.addresses.iter().filter(|_| pod.network == PodNetwork::Own)
}

impl Extend<Change> for Cluster {
    fn extend<I: IntoIterator<Item = Change>>(&mut self, changes: I) {
        for change in changes {
            self.handle_change(change);
        }
    }
}

impl FromIterator<Change> for Cluster {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        let mut cluster = Self::default();
        cluster.extend(changes);
        cluster
    }
}
