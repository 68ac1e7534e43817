//! What users want: addresses, and to give them back.

use std::net::Ipv4Addr;
use std::time::Duration;

use weave_core::mesh::PeerName;
use weave_core::time::Instant;

use super::holdings::NOBODY;
use super::{
    Allocator, Answer, DEATH_GRACE, Event, Found, MAX_ASKED, MAX_TRIES, Output, RequestError,
    RequestId, Send,
};
use crate::{AddressSet, Cidr, Label, Range, Subnet};

/// How long the driver may take to ask on the switch; it should take a fraction of a second.
const MAX_PROBE_TIME: Duration = Duration::from_secs(2);

/// Addresses that may turn out to be in use until one is given out all the same: a container that
/// answers for all there are must not keep others from getting any.
const MAX_PASSED_OVER: usize = 16;

/// The holder that stands for whoever uses an address without having asked for it.
fn stand_in(address: Ipv4Addr) -> String {
    format!("in-use:{address}")
}

/// Someone who waits for any address.
pub(super) struct Allocation {
    request: RequestId,
    holder: String,
    pub(super) subnet: Subnet,
    is_container: bool,
    /// That there is nothing was told.
    told: bool,
    /// Addresses that turned out to be in use.
    passed_over: usize,
}

/// Someone who waits for a particular address.
pub(super) struct Claim {
    /// None if nobody waits, or does not any more.
    request: Option<RequestId>,
    pub(super) holder: String,
    pub(super) cidr: Cidr,
    is_container: bool,
    /// Whoever waits need not wait until it is certain.
    lenient: bool,
    tries: u32,
    /// How often the owner had nothing to give.
    denied: u32,
    /// The address was in use when this peer started. Whoever has it in our books is right.
    found: bool,
}

impl Claim {
    pub(super) fn found(found: Found) -> Self {
        let Found { holder, cidr, is_container } = found;
        Self {
            request: None,
            holder,
            cidr,
            is_container,
            lenient: false,
            tries: 0,
            denied: 0,
            found: true,
        }
    }
}

/// What became of something that waits.
enum Attempt<T> {
    Done,
    Waiting(T),
}

impl Allocator {
    /// Wants an address of the subnet for a holder. One that has an address there already gets that
    /// one. `is_container` says that the end of the holder will be told.
    pub fn allocate(
        &mut self,
        now: Instant,
        request: RequestId,
        holder: &str,
        subnet: Subnet,
        is_container: bool,
    ) {
        self.advance(now);
        if self.leaving {
            self.answer(request, Err(RequestError::Cancelled));
        } else {
            let holder = holder.to_owned();
            let allocation =
                Allocation { request, holder, subnet, is_container, told: false, passed_over: 0 };
            if let Attempt::Waiting(allocation) = self.try_allocation(allocation) {
                self.allocations.push_back(allocation);
            }
        }
        self.finish();
    }

    /// Wants this address for a holder. With `lenient` the answer does not wait for a peer that
    /// may have to give it.
    pub fn claim(
        &mut self,
        now: Instant,
        request: RequestId,
        holder: &str,
        cidr: Cidr,
        is_container: bool,
        lenient: bool,
    ) {
        self.advance(now);
        if self.leaving {
            self.answer(request, Err(RequestError::Cancelled));
        } else {
            let (request, holder) = (Some(request), holder.to_owned());
            let claim = Claim {
                request,
                holder,
                cidr,
                is_container,
                lenient,
                tries: 0,
                denied: 0,
                found: false,
            };
            if let Attempt::Waiting(claim) = self.try_claim(claim) {
                self.claims.push_back(claim);
            }
        }
        self.finish();
    }

    /// Wants to know when there is a ring.
    pub fn prime(&mut self, now: Instant, request: RequestId) {
        self.advance(now);
        if self.leaving {
            self.answer(request, Err(RequestError::Cancelled));
        } else if self.ring.is_empty() {
            self.primes.push(request);
            self.establish_ring();
        } else {
            self.answer(request, Ok(Answer::Primed));
        }
        self.finish();
    }

    /// Nobody waits for the answer any more.
    pub fn cancel(&mut self, request: RequestId) {
        self.drop_probes(|allocation| allocation.request == request);
        self.primes.retain(|waiting| *waiting != request);
        self.claims.retain(|claim| claim.request != Some(request));
        self.allocations.retain(|allocation| allocation.request != request);
    }

    /// Gives back all that a holder has. What it still wants is cancelled.
    ///
    /// # Errors
    /// If it has nothing.
    pub fn release_all(&mut self, now: Instant, holder: &str) -> Result<(), RequestError> {
        self.advance(now);
        self.cancel_all(holder);
        let released = self.delete(holder);
        self.finish();
        if released { Ok(()) } else { Err(RequestError::NothingHeld(holder.to_owned())) }
    }

    /// Gives back one address.
    ///
    /// # Errors
    /// If the holder does not have it.
    pub fn release(
        &mut self,
        now: Instant,
        holder: &str,
        address: Ipv4Addr,
    ) -> Result<(), RequestError> {
        self.advance(now);
        let by_address = address.to_string();
        let key = if holder == NOBODY { &by_address } else { holder };
        let held = self.holdings.remove(key, address.to_bits());
        if held {
            self.free(address);
        }
        // Nobody waits for these, and whoever was told that it has the address gives it back.
        let before = self.claims.len();
        self.claims.retain(|claim| {
            claim.request.is_some() || claim.holder != holder || claim.cidr.address() != address
        });
        let released = held || self.claims.len() < before;
        self.finish();
        let holder = holder.to_owned();
        if released { Ok(()) } else { Err(RequestError::NotHeld { holder, address }) }
    }

    /// What a holder has in a subnet, but for its first and last address.
    pub fn held(&self, holder: &str, subnet: Subnet) -> Vec<Cidr> {
        let held = self.holdings.get(holder).map(|holding| holding.cidrs.as_slice());
        let inside = |cidr: &&Cidr| subnet.host_range().contains(cidr.address().to_bits());
        held.unwrap_or_default().iter().filter(inside).copied().collect()
    }

    /// All holders and what they have.
    pub fn holders(&self) -> impl Iterator<Item = (&str, &[Cidr])> {
        self.holdings.iter().map(|(holder, holding)| (holder.as_str(), holding.cidrs.as_slice()))
    }

    /// What a holder is to those who run it, if they said so.
    pub fn label(&self, holder: &str) -> Option<&Label> {
        self.holdings.get(holder)?.label.as_ref()
    }

    /// Notes what a holder is to those who run it, as long as it has addresses or is about to get
    /// one.
    pub fn describe(&mut self, now: Instant, holder: &str, label: Label) {
        self.advance(now);
        self.holdings.describe(holder, label);
        self.finish();
    }

    // Containers come and go.

    /// A container ended. It keeps its addresses for [`DEATH_GRACE`].
    pub fn container_died(&mut self, now: Instant, holder: &str) {
        self.advance(now);
        if self.is_container(holder) {
            self.dead.insert(holder.to_owned(), self.now);
        }
        self.cancel_all(holder);
        self.finish();
    }

    /// A container was removed.
    pub fn container_destroyed(&mut self, now: Instant, holder: &str) {
        self.advance(now);
        if self.is_container(holder) {
            self.delete(holder);
        }
        self.finish();
    }

    /// A container was started, perhaps again.
    pub fn container_started(&mut self, holder: &str) {
        self.dead.remove(holder);
    }

    /// The holders that are containers.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        let containers = self.holdings.iter().filter(|(_, holding)| holding.is_container);
        containers.map(|(holder, _)| holder.as_str())
    }

    /// Says which holders are there. A container that is not, and wants nothing, loses what it has
    /// after [`DEATH_GRACE`], if it does not come back until then.
    pub fn look_after(&mut self, now: Instant, is_there: impl Fn(&str) -> bool) {
        self.advance(now);
        let containers = self.holdings.iter().filter(|(_, holding)| holding.is_container);
        let (there, gone): (Vec<&String>, Vec<&String>) =
            containers.map(|(holder, _)| holder).partition(|holder| {
                is_there(holder)
                    || self.claims.iter().any(|claim| claim.holder == **holder)
                    || self.allocations.iter().any(|wanted| wanted.holder == **holder)
            });
        for holder in there {
            self.dead.remove(holder);
        }
        for holder in gone {
            self.dead.entry(holder.clone()).or_insert(self.now);
        }
    }

    /// These are all containers there are: others lose their addresses.
    pub fn prune(&mut self, now: Instant, live: &[&str]) {
        self.advance(now);
        let gone: Vec<String> = self
            .holdings
            .iter()
            .filter(|(holder, holding)| holding.is_container && !live.contains(&holder.as_str()))
            .map(|(holder, _)| holder.clone())
            .collect();
        for holder in gone {
            self.delete(&holder);
        }
        self.finish();
    }

    pub(super) fn expire_dead(&mut self) {
        let now = self.now;
        let expired: Vec<String> = self
            .dead
            .iter()
            .filter(|(_, died)| now.saturating_since(**died) > DEATH_GRACE)
            .map(|(holder, _)| holder.clone())
            .collect();
        for holder in expired {
            if self.delete(&holder) {
                self.events.push(Event::Expired(holder));
            }
        }
    }

    /// Whether a holder was seen to be gone. It has its addresses until [`DEATH_GRACE`] is over.
    pub fn has_ended(&self, holder: &str) -> bool {
        self.dead.contains_key(holder)
    }

    /// Whether a holder is a container whose end is told.
    pub fn is_container(&self, holder: &str) -> bool {
        self.holdings.get(holder).is_some_and(|holding| holding.is_container)
    }

    fn delete(&mut self, holder: &str) -> bool {
        self.dead.remove(holder);
        let cidrs = self.holdings.remove_all(holder);
        for cidr in &cidrs {
            self.free(cidr.address());
        }
        !cidrs.is_empty()
    }

    /// Those outside of our ranges were never taken.
    fn free(&mut self, address: Ipv4Addr) {
        let _not_ours = self.space.release(address.to_bits());
    }

    fn cancel_all(&mut self, holder: &str) {
        let mut cancelled = self.drop_probes(|allocation| allocation.holder == holder);
        self.claims.retain(|claim| {
            let concerned = claim.holder == holder;
            cancelled.extend(claim.request.filter(|_| concerned));
            !concerned
        });
        self.allocations.retain(|allocation| {
            let concerned = allocation.holder == holder;
            cancelled.extend(concerned.then_some(allocation.request));
            !concerned
        });
        for request in cancelled {
            self.answer(request, Err(RequestError::Cancelled));
        }
    }

    /// This peer leaves: nobody gets anything any more.
    pub(super) fn cancel_everything(&mut self) {
        let probing = self.drop_probes(|_| true);
        let claims = std::mem::take(&mut self.claims);
        let allocations = std::mem::take(&mut self.allocations);
        let requests = std::mem::take(&mut self.primes)
            .into_iter()
            .chain(probing)
            .chain(claims.into_iter().filter_map(|claim| claim.request))
            .chain(allocations.into_iter().map(|allocation| allocation.request));
        for request in requests {
            self.answer(request, Err(RequestError::Cancelled));
        }
    }

    fn answer(&mut self, request: RequestId, answer: Result<Answer, RequestError>) {
        self.answers.push((request, answer));
    }

    // What waits.

    pub(super) fn is_pending(&self) -> bool {
        !(self.primes.is_empty() && self.claims.is_empty() && self.allocations.is_empty())
    }

    /// Tries all that waits, in the order in which it came.
    pub(super) fn try_pending(&mut self) {
        if !self.ring.is_empty() {
            for request in std::mem::take(&mut self.primes) {
                self.answer(request, Ok(Answer::Primed));
            }
        }
        for claim in std::mem::take(&mut self.claims) {
            if let Attempt::Waiting(claim) = self.try_claim(claim) {
                self.claims.push_back(claim);
            }
        }
        for allocation in std::mem::take(&mut self.allocations) {
            if let Attempt::Waiting(allocation) = self.try_allocation(allocation) {
                self.allocations.push_back(allocation);
            }
        }
    }

    fn try_allocation(&mut self, mut allocation: Allocation) -> Attempt<Allocation> {
        let Allocation { request, subnet, is_container, .. } = allocation;
        let holder = allocation.holder.as_str();
        let held = self.holdings.get(holder).map(|holding| holding.cidrs.as_slice());
        let inside = |cidr: &&Cidr| subnet.range().contains(cidr.address().to_bits());
        if let Some(cidr) = held.unwrap_or_default().iter().find(inside) {
            let address = cidr.address().to_bits();
            self.dead.remove(holder);
            self.answer(request, Ok(Answer::Allocated(subnet.with_address(address))));
            return Attempt::Done;
        }
        let universe = self.config.universe.range();
        if !universe.overlaps(subnet.range()) {
            self.answer(request, Err(RequestError::OutOfBounds { subnet, universe }));
            return Attempt::Done;
        }
        self.establish_ring();
        let is_asked = |(waiting, _): &(Allocation, Instant)| {
            waiting.holder == allocation.holder && waiting.subnet == subnet
        };
        if holder != NOBODY && self.probing.values().any(is_asked) {
            return Attempt::Waiting(allocation);
        }
        let frozen = self.frozen();
        if let Some(address) = self.space.allocate(subnet.host_range(), &frozen) {
            let cidr = subnet.with_address(address);
            let doubts = self.settling.doubts(self.now) || self.conflicts.are_any();
            if self.can_probe && doubts && allocation.passed_over < MAX_PASSED_OVER {
                self.outputs.push_back(Output::Probe(cidr.address()));
                self.probing.insert(address, (allocation, self.now));
                return Attempt::Done;
            }
            self.dead.remove(holder);
            self.holdings.add(holder, cidr, is_container);
            self.answer(request, Ok(Answer::Allocated(cidr)));
            return Attempt::Done;
        }
        if !self.settling.is_settled() {
            return Attempt::Waiting(allocation);
        }
        if !self.ask_for_space(subnet.range()) && !self.ring.is_empty() && !allocation.told {
            allocation.told = true;
            self.events.push(Event::Full(subnet));
        }
        Attempt::Waiting(allocation)
    }

    /// Asks a peer for something in the range, unless enough were asked since the ring changed.
    /// Says whether there was any to ask.
    fn ask_for_space(&mut self, range: Range) -> bool {
        if self.asked.get(&range).is_some_and(|asked| *asked >= MAX_ASKED) {
            return true;
        }
        let mut donors = self.ring.donors(range);
        donors.retain(|(peer, _)| self.can_reach(*peer));
        let mut donors: Vec<(bool, u128, PeerName)> = donors
            .into_iter()
            .map(|(peer, free)| {
                let weight = u128::from(free) * u128::from(self.random.number());
                (!self.denied.contains(&peer), weight, peer)
            })
            .collect();
        donors.sort_unstable();
        #[cfg(test)]
        if let Some(place) = donors.iter().position(|donor| Some(donor.2) == self.favourite) {
            let favourite = donors.remove(place);
            donors.push(favourite);
        }
        let Some((_, _, donor)) = donors.pop() else { return false };
        *self.asked.entry(range).or_default() += 1;
        self.sends.push(Send::SpaceRequest(donor, range));
        true
    }

    fn try_claim(&mut self, mut claim: Claim) -> Attempt<Claim> {
        claim.tries += 1;
        let cidr = claim.cidr;
        let address = cidr.address().to_bits();
        let holder = claim.holder.as_str();
        if !self.config.universe.range().contains(address) {
            let result = self.claim_outside(&claim);
            return self.settle_claim(&claim, result);
        }
        self.establish_ring();
        self.dead.remove(holder);
        match self.ring.owner(address) {
            None => {
                if claim.lenient {
                    self.accept(&mut claim);
                } else if claim.tries == 1 {
                    self.events.push(Event::ClaimWaits(cidr));
                }
                Attempt::Waiting(claim)
            }
            Some(owner) if owner != self.config.name => {
                if self.can_reach(owner) {
                    self.sends.push(Send::SpaceRequest(owner, Range::one(address)));
                } else if claim.lenient {
                    self.accept(&mut claim);
                } else if claim.tries > MAX_TRIES && !claim.found {
                    let error = self.owned_by_other(cidr, owner, "it is out of reach");
                    return self.settle_claim(&claim, Err(error));
                }
                Attempt::Waiting(claim)
            }
            Some(_) if !claim.found && self.frozen().contains(address) => Attempt::Waiting(claim),
            Some(_) => {
                let result = self.claim_own(&claim);
                self.settle_claim(&claim, result)
            }
        }
    }

    /// Whoever waits for the claim is answered; the claim still has to be settled.
    fn accept(&mut self, claim: &mut Claim) {
        if let Some(request) = claim.request.take() {
            self.answer(request, Ok(Answer::Claimed));
        }
    }

    fn settle_claim(&mut self, claim: &Claim, result: Result<(), RequestError>) -> Attempt<Claim> {
        match (claim.request, result) {
            (Some(request), result) => self.answer(request, result.map(|()| Answer::Claimed)),
            (None, Err(error)) => self.events.push(Event::ClaimFailed(error)),
            (None, Ok(())) => {}
        }
        Attempt::Done
    }

    /// Nobody allocates that address, but two holders should not have it.
    fn claim_outside(&mut self, claim: &Claim) -> Result<(), RequestError> {
        let Claim { cidr, is_container, .. } = *claim;
        let address = cidr.address().to_bits();
        let before = self.holdings.holder_of(address).map(str::to_owned);
        match before {
            Some(_) if claim.found => return Ok(()),
            Some(before) if before == claim.holder || claim.holder == NOBODY => return Ok(()),
            Some(before) if self.dead.contains_key(&before) => {
                self.holdings.remove(&before, address);
            }
            Some(holder) => return Err(RequestError::AlreadyInUse { cidr, holder }),
            None => {}
        }
        self.holdings.add(&claim.holder, cidr, is_container);
        self.events.push(Event::ClaimedOutside(cidr));
        Ok(())
    }

    fn claim_own(&mut self, claim: &Claim) -> Result<(), RequestError> {
        let Claim { cidr, is_container, .. } = *claim;
        let address = cidr.address().to_bits();
        match self.holdings.holder_of(address) {
            Some(_) if claim.found => Ok(()),
            Some(before) if before == claim.holder || claim.holder == NOBODY => Ok(()),
            Some(before) if before == cidr.address().to_string() => {
                Err(RequestError::AlreadyInUse { cidr, holder: before.to_owned() })
            }
            Some(before) => Err(RequestError::AlreadyOwned { cidr, holder: before.to_owned() }),
            None => {
                self.space.claim(address).map_err(|error| RequestError::NotFree { cidr, error })?;
                self.holdings.add(&claim.holder, cidr, is_container);
                Ok(())
            }
        }
    }

    /// Whether somebody has this address was asked on the switch.
    pub fn handle_probed(&mut self, now: Instant, address: Ipv4Addr, in_use: bool) {
        self.advance(now);
        self.probed(address.to_bits(), in_use);
        self.try_pending();
        self.finish();
    }

    fn probed(&mut self, address: u32, in_use: bool) {
        let Some((mut allocation, _)) = self.probing.remove(&address) else { return };
        let cidr = allocation.subnet.with_address(address);
        if in_use {
            // Whoever that is has no interface here: it is taken for a container that ended, and
            // looked for again when its time is over.
            self.holdings.add(&stand_in(cidr.address()), cidr, true);
            self.events.push(Event::InUse(cidr));
            allocation.passed_over += 1;
            self.allocations.push_front(allocation);
        } else {
            self.dead.remove(&allocation.holder);
            self.holdings.add(&allocation.holder, cidr, allocation.is_container);
            self.answer(allocation.request, Ok(Answer::Allocated(cidr)));
        }
    }

    /// A peer wants exactly this address: if it is only set aside, or about to be given out,
    /// somebody there has it.
    pub(super) fn make_way(&mut self, address: u32) {
        if let Some((allocation, _)) = self.probing.remove(&address) {
            self.free(Ipv4Addr::from_bits(address));
            self.allocations.push_front(allocation);
        }
        let stand_in = stand_in(Ipv4Addr::from_bits(address));
        if self.holdings.remove(&stand_in, address) {
            self.dead.remove(&stand_in);
            self.free(Ipv4Addr::from_bits(address));
        }
    }

    /// The driver did not answer: it is not for the clients to wait for it.
    pub(super) fn give_up_probes(&mut self) {
        let now = self.now;
        let late = |since: &Instant| now.saturating_since(*since) >= MAX_PROBE_TIME;
        let late: Vec<u32> = self
            .probing
            .iter()
            .filter(|(_, (_, since))| late(since))
            .map(|(address, _)| *address)
            .collect();
        late.into_iter().for_each(|address| self.probed(address, false));
    }

    /// Those that are not wanted any more; their addresses are free.
    fn drop_probes(&mut self, concerned: impl Fn(&Allocation) -> bool) -> Vec<RequestId> {
        let dropped: Vec<(u32, RequestId)> = self
            .probing
            .iter()
            .filter(|(_, (allocation, _))| concerned(allocation))
            .map(|(address, (allocation, _))| (*address, allocation.request))
            .collect();
        for (address, _) in &dropped {
            self.probing.remove(address);
            self.free(Ipv4Addr::from_bits(*address));
        }
        dropped.into_iter().map(|(_, request)| request).collect()
    }

    /// An address that was found in use at the start waits for an owner who can be asked.
    pub(super) fn waits_for_found(&self) -> bool {
        let in_reach = |claim: &Claim| {
            let owner = self.ring.owner(claim.cidr.address().to_bits());
            owner.is_none_or(|owner| self.can_reach(owner))
        };
        self.claims.iter().any(|claim| claim.found && in_reach(claim))
    }

    /// What is not to be given out now.
    pub(super) fn frozen(&self) -> AddressSet {
        let mut frozen = self.taken_over();
        if !self.settling.is_settled() {
            frozen.insert(self.config.universe.range());
        }
        frozen
    }

    /// What was taken over from others, and may be given out by others too.
    pub(super) fn taken_over(&self) -> AddressSet {
        self.conflicts.frozen(self.now, &self.ring)
    }

    /// All that is held is to be claimed in a ring that is not known yet.
    pub(super) fn claim_what_is_held(&mut self) {
        for (holder, holding) in self.holdings.iter() {
            let (holder, is_container) = (holder.clone(), holding.is_container);
            self.claims.extend(holding.cidrs.iter().map(|cidr| {
                let holder = holder.clone();
                Claim::found(Found { holder, cidr: *cidr, is_container })
            }));
        }
        self.holdings.clear();
    }

    fn owned_by_other(&self, cidr: Cidr, peer: PeerName, reason: &'static str) -> RequestError {
        let nickname = self.nickname(peer).to_owned();
        RequestError::OwnedByOther { cidr, peer, nickname, reason }
    }

    /// A peer has nothing free in the range: claims for it fail.
    pub(super) fn space_denied(&mut self, peer: PeerName, range: Range) {
        self.denied.insert(peer);
        for mut claim in std::mem::take(&mut self.claims) {
            // What is in use here is in use, whoever has nothing else to give.
            let is_meant = !claim.found || range.size() == 1;
            let is_denied = is_meant && range.contains(claim.cidr.address().to_bits());
            claim.denied += u32::from(is_denied);
            // A peer denies what it has given already, which the claimant may not have heard yet.
            let is_final = !claim.found || claim.denied > MAX_TRIES;
            if is_denied && is_final {
                let error = self.owned_by_other(claim.cidr, peer, "it is in use there");
                self.settle_claim(&claim, Err(error));
            } else {
                self.claims.push_back(claim);
            }
        }
    }
}
