//! Addresses of the range that all peers share, for the program that has the node.

use std::fmt;
use std::net::Ipv4Addr;

use weave_core::mesh::PeerName;
use weave_ipam::allocator::{Answer, RequestError};
use weave_ipam::{Cidr, Subnet};

use crate::ipam::{Ipam, NoAnswer};

/// The address allocator of a node. Clones are of the same one.
#[derive(Clone)]
pub struct Addresses(pub(crate) Option<Ipam>);

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Addresses").field(&self.0.is_some()).finish()
    }
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The node was started without a range.
    #[error("this node has no range to allocate from: see Builder::ipam")]
    NoRange,
    /// The allocator refused.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// The allocator cannot answer: the node stops, its store fails, or too many wait.
    #[error("{0}")]
    Unavailable(String),
}

impl From<NoAnswer> for AddressError {
    fn from(error: NoAnswer) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<weave_core::driver::Stopped> for AddressError {
    fn from(error: weave_core::driver::Stopped) -> Self {
        NoAnswer::from(error).into()
    }
}

impl Addresses {
    fn allocator(&self) -> Result<&Ipam, AddressError> {
        self.0.as_ref().ok_or(AddressError::NoRange)
    }

    /// Returns an address of the default subnet for a holder, the same again if it has one. Waits
    /// as long as other peers have to be asked; dropping the future gives up.
    ///
    /// # Errors
    /// There is no allocator, or it refuses or cannot answer.
    pub async fn allocate(&self, holder: &str) -> Result<Cidr, AddressError> {
        let subnet = self.allocator()?.default_subnet();
        self.allocate_in(holder, subnet).await
    }

    /// Returns an address of a subnet for a holder.
    ///
    /// # Errors
    /// As for [`Self::allocate`].
    pub async fn allocate_in(&self, holder: &str, subnet: Subnet) -> Result<Cidr, AddressError> {
        match self.allocator()?.allocate(holder.to_owned(), subnet, false, None).await?? {
            Answer::Allocated(cidr) => Ok(cidr),
            // Nothing else answers that request.
            _ => Err(AddressError::Unavailable("no address came".to_owned())),
        }
    }

    /// Claims an address that is in use already.
    ///
    /// # Errors
    /// As for [`Self::allocate`]; among others, somebody else has the address.
    pub async fn claim(&self, holder: &str, cidr: Cidr) -> Result<(), AddressError> {
        self.allocator()?.claim(holder.to_owned(), cidr, false, false, None).await??;
        Ok(())
    }

    /// Gives back one address of a holder.
    ///
    /// # Errors
    /// There is no allocator, or the holder does not have the address.
    pub async fn release(&self, holder: &str, address: Ipv4Addr) -> Result<(), AddressError> {
        Ok(self.allocator()?.release(holder.to_owned(), address).await??)
    }

    /// Gives back all addresses of a holder.
    ///
    /// # Errors
    /// There is no allocator, or the holder has no addresses.
    pub async fn release_all(&self, holder: &str) -> Result<(), AddressError> {
        Ok(self.allocator()?.release_all(holder.to_owned()).await??)
    }

    /// Takes over what a peer owns that will never come back, given by its name; returns how many
    /// addresses that gained, and none if frames get to that peer. It is up to the caller that
    /// nobody else takes it over too.
    ///
    /// # Errors
    /// There is no allocator, or the node stops.
    pub async fn take_over(&self, peer: PeerName) -> Result<Option<u32>, AddressError> {
        Ok(self.allocator()?.take_over(peer.to_string()).await?)
    }

    /// Returns all holders on this node with their addresses; nothing without an allocator.
    pub fn holders(&self) -> Vec<(String, Vec<Cidr>)> {
        let holders = self.0.iter().flat_map(Ipam::holders);
        holders.map(|holder| (holder.name, holder.cidrs)).collect()
    }

    /// Waits until addresses can be allocated: enough peers agreed on a first division of the
    /// range.
    ///
    /// # Errors
    /// There is no allocator, or it cannot answer.
    pub async fn ready(&self) -> Result<(), AddressError> {
        self.allocator()?.prime().await??;
        Ok(())
    }
}
