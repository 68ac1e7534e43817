//! The addresses of containers as `weave attach` and `weave detach` take them, and how the router
//! is asked for them.

use std::net::IpAddr;

use weave_host::Cidr;

use super::failure::Failure;
use super::host_address::{self, HostAddress};
use weave_api::client::{self, Client, ClientError};

/// Which address is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum AddressSpec {
    /// `10.32.0.1/12` or `ip:10.32.0.1/12`.
    This(Cidr),
    /// `net:10.32.0.0/12`.
    In(Cidr),
    /// `net:default`, or nothing at all.
    Default,
}

impl AddressSpec {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with("net:") {
            return match host_address::parse(text).map_err(Failure::usage)? {
                HostAddress::This(cidr) => Ok(Self::This(cidr)),
                HostAddress::In(subnet) => Ok(Self::In(subnet)),
                HostAddress::Default => Ok(Self::Default),
            };
        }
        let text = text.strip_prefix("ip:").unwrap_or(text);
        text.parse().map(Self::This).map_err(|error| Failure::usage(format!("{error}")))
    }
}

/// The addresses, and the container after them, as in the original, or before them.
pub(super) fn split(arguments: &[String]) -> Result<(Vec<AddressSpec>, &str), Failure> {
    let looks_like_address = |text: &str| {
        if text.starts_with("net:") || text.starts_with("ip:") {
            return true;
        }
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address.parse::<IpAddr>().is_ok()
    };
    let (container, addresses) = match arguments {
        [addresses @ .., last] if !looks_like_address(last) => (last, addresses),
        [first, addresses @ ..] if !looks_like_address(first) => (first, addresses),
        _ => return Err(Failure::usage("say which container: a process id, a name or a path")),
    };
    let addresses = addresses.iter().map(|text| AddressSpec::parse(text));
    Ok((addresses.collect::<Result<_, _>>()?, container))
}

/// An address that is a container's now, and whether it was not before.
pub(super) struct Taken {
    pub(super) cidr: Cidr,
    pub(super) is_new: bool,
}

/// Sees to it that nobody else gets the address, and says which it is. A router that is down, or
/// gives out no addresses, has none to keep back.
pub(super) async fn take(
    client: &Client,
    holder: &str,
    wanted: &AddressSpec,
) -> Result<Taken, ClientError> {
    let before = held(client, holder).await;
    let is_new = |cidr: Cidr| !before.contains(&cidr);
    let path = match wanted {
        AddressSpec::This(cidr) => {
            if cidr.address().is_ipv4() {
                let path = client::path(&["ip", holder])
                    + &format!("/{cidr}?noErrorOnUnknown=true&namespace=true");
                match client.put(&path).await {
                    Ok(_) | Err(ClientError::NotFound(_) | ClientError::NotRunning { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(Taken { cidr: *cidr, is_new: is_new(*cidr) });
        }
        AddressSpec::In(subnet) => client::path(&["ip", holder]) + &format!("/{subnet}"),
        AddressSpec::Default => client::path(&["ip", holder]),
    };
    let text = client.post(&path, &[("namespace", "true")]).await.map_err(|error| match error {
        ClientError::NotFound(_) => ClientError::Refused(
            "say which address the container gets, like 10.32.0.1/12: this router runs without \
             address allocation"
                .to_owned(),
        ),
        error => error,
    })?;
    match text.parse() {
        Ok(cidr) => Ok(Taken { cidr, is_new: is_new(cidr) }),
        Err(_) => Err(ClientError::Refused(format!("no address was allocated: {text}"))),
    }
}

/// What the router knows a container to have, in all subnets.
async fn held(client: &Client, holder: &str) -> Vec<Cidr> {
    let text = client.get("/ip", "*/*").await.unwrap_or_default();
    let owned: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    list(&owned["owned"])
        .iter()
        .filter(|entry| entry["containerid"] == holder)
        .flat_map(|entry| list(&entry["addrs"]))
        .filter_map(|cidr| cidr.as_str()?.parse().ok())
        .collect()
}

/// Gives an address back. One that was never given out is none.
pub(super) async fn release(client: &Client, holder: &str, cidr: Cidr) -> Result<(), ClientError> {
    let address = cidr.address().to_string();
    match client.delete(&client::path(&["ip", holder, &address])).await {
        Err(error @ ClientError::Broken { .. }) => Err(error),
        _ => Ok(()),
    }
}
