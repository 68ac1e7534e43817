//! The address of the host among the pods.

use anyhow::{Context as _, anyhow};
use weave_api::HOST_HOLDER;
use weave_ipam::Cidr;
use weave_node::{AddressError, Addresses, HostAddressError, HostAddresses};

use crate::settings::Expose;

/// Addresses that turn out to be in use, one after the other.
const MAX_IN_USE: usize = 16;

/// Gives the host the addresses it is to have; those it has already are no work.
pub(crate) async fn expose(
    addresses: &Addresses,
    host: &HostAddresses,
    wanted: &[Expose],
) -> anyhow::Result<()> {
    for wanted in wanted {
        let cidr =
            expose_one(addresses, host, *wanted).await.context("the host gets no address")?;
        tracing::info!("[kube] the host has the address {cidr} among the pods");
    }
    Ok(())
}

async fn expose_one(
    addresses: &Addresses,
    host: &HostAddresses,
    wanted: Expose,
) -> anyhow::Result<Cidr> {
    for _ in 0..MAX_IN_USE {
        let cidr = take(addresses, wanted).await?;
        match host.expose(cidr.into(), true).await {
            Ok(()) => return Ok(cidr),
            Err(HostAddressError::InUse(why)) if !matches!(wanted, Expose::Address(_)) => {
                tracing::warn!("[kube] {why}: it is set aside");
                addresses.release(HOST_HOLDER, cidr.address()).await?;
                addresses.claim(&format!("in-use:{}", cidr.address()), cidr).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(anyhow!("{MAX_IN_USE} addresses in a row are in use by somebody without asking"))
}

async fn take(addresses: &Addresses, wanted: Expose) -> Result<Cidr, AddressError> {
    match wanted {
        Expose::Address(cidr) => addresses.claim(HOST_HOLDER, cidr).await.map(|()| cidr),
        Expose::In(subnet) => addresses.allocate_in(HOST_HOLDER, subnet).await,
        Expose::Any => addresses.allocate(HOST_HOLDER).await,
    }
}
