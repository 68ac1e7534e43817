//! What the flags of the router take, besides numbers and names.

use std::net::IpAddr;

use weave_core::Cidr;
use weave_core::mesh::DEFAULT_PORT;
use weave_host::Backend;
use weave_node::Capture;
use weave_sleeve::cipher::native::Suite;

use super::super::bridge_name;
use weave_api::Address;

/// A list that clap takes for one value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Subnets(pub(super) Vec<Cidr>);

pub(super) fn subnets(text: &str) -> Result<Subnets, String> {
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    let subnets = texts.map(|text| Cidr::network(text).map_err(|error| error.to_string()));
    Ok(Subnets(subnets.collect::<Result<_, _>>()?))
}

pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    match text.parse().map_err(|_| "no IPv4 address")? {
        IpAddr::V6(_) => Err("the sleeve runs over IPv4 only".to_owned()),
        address => Ok(address),
    }
}

/// A name as it is in the `Host` header of a request, without a port.
pub(super) fn host_name_of_http(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !text.is_empty() && text.len() <= 253 && text.bytes().all(legal) {
        Ok(text.to_owned())
    } else {
        Err("not a host name".to_owned())
    }
}

pub(super) fn cipher(name: &str) -> Result<Suite, String> {
    let suite = Suite::preferred().into_iter().find(|suite| suite.name() == name);
    suite.ok_or_else(|| "neither aes128gcm nor chacha20poly1305".to_owned())
}

/// A variable of the environment that is set to nothing says nothing.
pub(super) fn port(text: &str) -> Result<u16, String> {
    match text {
        "" => Ok(DEFAULT_PORT),
        "0" => Err("not from 1 to 65535".to_owned()),
        text => text.parse().map_err(|_| "not from 1 to 65535".to_owned()),
    }
}

/// The same; zero means automatic.
pub(super) fn mtu(text: &str) -> Result<u32, String> {
    match text {
        "" => Ok(0),
        text => match text.parse().map_err(|_| "no number".to_owned())? {
            mtu @ (0 | 552..=65_535) => Ok(mtu),
            _ => Err("not from 552 to 65535".to_owned()),
        },
    }
}

/// An option that clap takes for one value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OptionalAddress(pub(super) Option<Address>);

pub(super) fn optional_address(text: &str) -> Result<OptionalAddress, String> {
    let address = (!text.is_empty()).then(|| text.parse()).transpose();
    address.map(OptionalAddress).map_err(|error: weave_api::AddressError| error.to_string())
}

/// An option that clap takes for one value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OptionalBridge(pub(super) Option<String>);

pub(super) fn optional_bridge(text: &str) -> Result<OptionalBridge, String> {
    let name = (!text.is_empty()).then(|| bridge_name::parse(text)).transpose();
    name.map(OptionalBridge)
}

/// An option that clap takes for one value; none means to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FirewallChoice(pub(super) Option<Backend>);

pub(super) fn firewall(text: &str) -> Result<FirewallChoice, String> {
    let backend = (text != "auto").then(|| text.parse()).transpose();
    backend.map(FirewallChoice).map_err(|error: weave_host::BackendError| error.to_string())
}

/// Which formats the sleeve may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum SleeveFormat {
    /// That of this router with those that know it, else that of Weave Net.
    Native,
    /// That of Weave Net with all.
    Legacy,
}

/// The transports that are there for those who ask for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum TransportChoice {
    /// Frames over TCP, on the port that is 2 above --port: for networks that block UDP.
    Tcp,
}

/// How frames get from the bridge to the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum CaptureChoice {
    /// A datapath where the kernel has Open vSwitch, else a TAP device; where it has none either, a
    /// veth pair.
    Auto,
    /// A TAP device.
    Tap,
    /// Packet sockets on a veth pair.
    Pcap,
    /// A datapath of the kernel's Open vSwitch, which carries most frames by itself.
    Datapath,
    /// Not at all: this router only passes frames on for others.
    None,
}

impl From<CaptureChoice> for Capture {
    fn from(choice: CaptureChoice) -> Self {
        match choice {
            CaptureChoice::Auto => Self::Auto,
            CaptureChoice::Tap => Self::Tap,
            CaptureChoice::Pcap => Self::Pcap,
            CaptureChoice::Datapath => Self::Datapath,
            CaptureChoice::None => Self::None,
        }
    }
}
