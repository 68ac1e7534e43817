//! Addresses that an IPAM plugin gave out, and what belongs to them.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use weave_host::{Cidr, Route};

use crate::config::{RawRoute, routes};
use crate::error::CniError;

/// The most addresses of one container that are taken from another plugin.
const MAX_ADDRESSES: usize = 64;

/// What was given out.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Lease {
    pub(crate) addresses: Vec<LeasedAddress>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Option<Value>,
}

/// One address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeasedAddress {
    pub(crate) cidr: Cidr,
    pub(crate) gateway: Option<IpAddr>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawResult {
    ips: Vec<RawIp>,
    routes: Vec<RawRoute>,
    dns: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIp {
    address: String,
    gateway: Option<String>,
}

impl Lease {
    /// Returns the first address, of which there is one after ADD.
    pub(crate) fn first(&self) -> Result<Cidr, CniError> {
        let first = self.addresses.first().map(|leased| leased.cidr);
        first.ok_or_else(|| CniError::new(CniError::REFUSED, "no address", ""))
    }

    /// Returns all addresses.
    pub(crate) fn cidrs(&self) -> Vec<Cidr> {
        self.addresses.iter().map(|leased| leased.cidr).collect()
    }

    /// Reads the addresses and routes of a result, version 0.3.0 or later.
    pub(crate) fn of_result(result: &Value) -> Result<Self, CniError> {
        let raw = RawResult::deserialize(result).map_err(|error| {
            CniError::new(CniError::DECODING, "a result cannot be decoded", error.to_string())
        })?;
        if raw.ips.len() > MAX_ADDRESSES {
            return Err(CniError::config(format!("more than {MAX_ADDRESSES} addresses")));
        }
        let leased = |raw: RawIp| {
            let wrong = |text: &str| CniError::config(format!("invalid address: {text:?}"));
            let cidr = raw.address.parse().map_err(|_| wrong(&raw.address))?;
            let gateway = match raw.gateway.as_deref() {
                None | Some("") => None,
                Some(text) => Some(text.parse().map_err(|_| wrong(text))?),
            };
            Ok(LeasedAddress { cidr, gateway })
        };
        Ok(Self {
            addresses: raw.ips.into_iter().map(leased).collect::<Result<_, _>>()?,
            routes: routes(raw.routes)?,
            dns: raw.dns,
        })
    }
}
