//! What a runtime asks for beside the network's configuration, and what of all that is not to be
//! had.
//!
//! ```text
//!  runtimeConfig   ips, mac, dns        declared by `capabilities`   (CNI conventions)
//!  args.cni        ips                  what else is in it may be ignored, by the same
//!  CNI_ARGS        IP, MAC              unknown ones are refused, unless IgnoreUnknown says otherwise
//! ```
//!
//! What is asked for is done, or ADD fails and says why: that a container has another address than
//! the one it was promised would be noticed much later. A key that asks for nothing (`false`, an
//! empty list) is as good as none. With another IPAM plugin, requests for addresses are that
//! plugin's, which gets the same input.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};
use weave_host::{Cidr, MacAddress};

use crate::Plugin;
use crate::config::{Config, Ipam};
use crate::error::CniError;

/// The most addresses of one attachment.
const MAX_ADDRESSES: usize = 64;
/// What a configuration or runtime has for others to read.
const OF_OTHERS: [&str; 2] = ["type", "disableCheck"];

/// Everything that is asked for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RuntimeRequest {
    /// These addresses, in place of any.
    pub(crate) addresses: Vec<AddressRequest>,
    /// The Ethernet address of the interface.
    pub(crate) mac: Option<MacAddress>,
    /// The name servers to tell, in place of those of the configuration.
    pub(crate) dns: Option<Value>,
}

/// An address, and the length of its network if that was named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressRequest {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: Option<u8>,
}

impl RuntimeRequest {
    /// Reads them; `arguments` is `CNI_ARGS`.
    ///
    /// # Errors
    /// If something is asked for that makes no sense, or is not to be had.
    pub fn of(config: &Config, plugin: Plugin, arguments: &str) -> Result<Self, CniError> {
        let asked = &config.request_keys;
        let own = matches!(config.ipam, Ipam::Router { .. });
        if own {
            refuse(&asked.ipam_rest, "ipam.", |_| false)?;
        }
        // The rest is of the plugin that takes its addresses from us.
        if plugin == Plugin::Net {
            let ours = |key: &str| ["ips", "mac", "dns"].contains(&key);
            let known = |key: &str| ours(key) || (!own && key == "ipRanges");
            refuse(&asked.rest, "", is_of_others)?;
            refuse(&asked.capabilities, "capabilities.", known)?;
            refuse(&asked.runtime, "runtimeConfig.", known)?;
        }
        let arguments = Arguments::parse(arguments, plugin, own)?;
        let mut this = Self::default();
        if own {
            for (list, what) in [
                (part(&asked.runtime, "ips"), "runtimeConfig.ips"),
                (&asked.args["cni"]["ips"], "args.cni.ips"),
            ] {
                this.add_list(list, what)?;
            }
            if let Some(address) = arguments.ip {
                this.add(address, "IP in CNI_ARGS")?;
            }
        }
        if plugin == Plugin::Net {
            let mac = |text: &str, what: &str| {
                let wrong = || CniError::config(format!("{what}: invalid address: {text:?}"));
                let mac: MacAddress = text.parse().map_err(|_| wrong())?;
                // The first bit is that of groups (IEEE 802, section 8.2.2).
                let usable = mac.0[0] & 1 == 0 && mac.0 != [0; 6];
                usable.then_some(mac).ok_or_else(wrong)
            };
            let of_runtime = match part(&asked.runtime, "mac") {
                Value::String(text) if !text.is_empty() => Some(mac(text, "runtimeConfig.mac")?),
                value => {
                    asks(value).then(|| mac(&value.to_string(), "runtimeConfig.mac")).transpose()?
                }
            };
            let of_arguments =
                arguments.mac.map(|text| mac(text, "MAC in CNI_ARGS")).transpose()?;
            if let (Some(one), Some(other)) = (of_runtime, of_arguments)
                && one != other
            {
                let msg = format!("two Ethernet addresses are asked for: {one} and {other}");
                return Err(CniError::config(msg));
            }
            this.mac = of_runtime.or(of_arguments);
            this.dns = dns(part(&asked.runtime, "dns"));
        }
        Ok(this)
    }

    fn add_list(&mut self, list: &Value, what: &str) -> Result<(), CniError> {
        let wrong = || CniError::config(format!("{what} is no list of addresses: {list}"));
        match list {
            Value::Array(entries) => entries
                .iter()
                .try_for_each(|entry| self.add(entry.as_str().ok_or_else(wrong)?, what)),
            value if asks(value) => Err(wrong()),
            _ => Ok(()),
        }
    }

    fn add(&mut self, text: &str, what: &str) -> Result<(), CniError> {
        let wrong = || CniError::config(format!("{what}: invalid address: {text:?}"));
        let (address, prefix) = match text.split_once('/') {
            None => (text.parse::<IpAddr>().map_err(|_| wrong())?, None),
            Some(_) => {
                let cidr: Cidr = text.parse().map_err(|_| wrong())?;
                (cidr.address(), Some(cidr.prefix()))
            }
        };
        let IpAddr::V4(address) = address else {
            let msg = format!("{what}: {text}: weave gives out no IPv6 addresses");
            return Err(CniError::new(CniError::FIELD, msg, ""));
        };
        // The same address may come by several ways.
        if self.addresses.iter().all(|other| other.address != address) {
            self.addresses.push(AddressRequest { address, prefix });
        }
        if self.addresses.len() > MAX_ADDRESSES {
            return Err(CniError::config(format!("{what}: more than {MAX_ADDRESSES} addresses")));
        }
        Ok(())
    }
}

impl AddressRequest {
    /// In the network that addresses are from.
    pub(crate) fn within(self, subnet: Cidr) -> Result<Cidr, CniError> {
        let address = IpAddr::V4(self.address);
        let cidr = Cidr::new(address, self.prefix.unwrap_or_else(|| subnet.prefix()));
        cidr.filter(|cidr| subnet.contains(address) && cidr.is_host_address()).ok_or_else(|| {
            let details = "name the network it is of in ipam.subnet".to_owned();
            let msg = format!("{address} is no address of a container in {subnet}");
            CniError::new(CniError::CONFIG, msg, details)
        })
    }
}

fn part<'a>(map: &'a Map<String, Value>, key: &str) -> &'a Value {
    map.get(key).unwrap_or(&Value::Null)
}

/// Returns whether a value asks for anything.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Keys with a prefix belong to the owner of that (CNI specification, "Reserved keys"); those that
/// begin with an underscore are comments.
fn is_of_others(key: &str) -> bool {
    OF_OTHERS.contains(&key) || key.contains('/') || key.starts_with('_')
}

fn refuse(
    keys: &Map<String, Value>,
    place: &str,
    known: impl Fn(&str) -> bool,
) -> Result<(), CniError> {
    let Some((key, value)) = keys.iter().find(|(key, value)| asks(value) && !known(key)) else {
        return Ok(());
    };
    let advice = match key.as_str() {
        "portMappings" => "put the plugin portmap behind weave-net in the list",
        "bandwidth" => "put the plugin bandwidth behind weave-net in the list",
        "ranges" | "rangeStart" | "rangeEnd" | "ipRanges" => {
            "the router gives out the addresses: name their network in ipam.subnet"
        }
        "isDefaultGateway" | "vlan" | "promiscMode" | "forceAddress" => {
            "that is of the plugin bridge"
        }
        _ => "weave does not know it: take it out, or move it to the plugin that does",
    };
    let msg = format!("unsupported key in the configuration: {place}{key}: {value}");
    Err(CniError::new(CniError::FIELD, msg, advice))
}

/// From what runtimes are told (`servers`, `searches`) to what they read.
fn dns(asked: &Value) -> Option<Value> {
    let mut dns = Map::new();
    for (from, to) in [("servers", "nameservers"), ("searches", "search"), ("options", "options")] {
        if asks(&asked[from]) {
            dns.insert(to.to_owned(), asked[from].clone());
        }
    }
    (!dns.is_empty()).then(|| json!(dns))
}

/// Ours of `CNI_ARGS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Arguments<'a> {
    ip: Option<&'a str>,
    mac: Option<&'a str>,
}

impl<'a> Arguments<'a> {
    /// Pairs `KEY=VALUE` with a semicolon between them.
    fn parse(text: &'a str, plugin: Plugin, own: bool) -> Result<Self, CniError> {
        let wrong = |msg: String, details: &str| CniError::new(CniError::ENVIRONMENT, msg, details);
        let (mut this, mut unknown, mut ignored) = (Self::default(), None, false);
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong(format!("CNI_ARGS: {pair:?} is no KEY=VALUE"), ""))?;
            match key {
                "IgnoreUnknown" => {
                    ignored = match value {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => return Err(wrong(format!("CNI_ARGS: {pair:?}: neither 0 nor 1"), "")),
                    }
                }
                "IP" => this.ip = Some(value).filter(|value| !value.is_empty()),
                "MAC" if plugin == Plugin::Ipam => {}
                "MAC" => this.mac = Some(value).filter(|value| !value.is_empty()),
                // The other plugin says whether it knows it.
                _ if !own => {}
                _ => unknown = unknown.or(Some(key)),
            }
        }
        match unknown.filter(|_| !ignored) {
            None => Ok(this),
            Some(key) => {
                let details = "IP and MAC are known; IgnoreUnknown=1 has others ignored";
                Err(wrong(format!("CNI_ARGS: unknown key {key:?}"), details))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(rest: &str, plugin: Plugin, arguments: &str) -> Result<RuntimeRequest, CniError> {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"w","type":"weave-net"{rest}}}"#);
        RuntimeRequest::of(&Config::parse(text.as_bytes(), plugin).unwrap(), plugin, arguments)
    }

    #[test]
    fn every_way_to_ask_is_heard() {
        let rest = r#","capabilities":{"ips":true,"mac":true,"dns":true,"portMappings":false},
            "runtimeConfig":{"ips":["10.32.0.9/12","10.32.0.8"],"mac":"02:00:00:00:00:09",
                "portMappings":[],"dns":{"servers":["10.0.0.1"],"searches":["a.b"]}},
            "args":{"cni":{"ips":["10.32.0.9"],"labels":[{"key":"a","value":"b"}]}},
            "disableCheck":true,"vlan":0,"_comment":"text","example.org/key":1"#;
        let arguments = "IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.32.0.7;MAC=02:00:00:00:00:09";
        let wanted = |last, prefix| AddressRequest { address: [10, 32, 0, last].into(), prefix };
        let mut expected = RuntimeRequest {
            addresses: vec![wanted(9, Some(12)), wanted(8, None), wanted(7, None)],
            mac: Some("02:00:00:00:00:09".parse().unwrap()),
            dns: Some(json!({ "nameservers": ["10.0.0.1"], "search": ["a.b"] })),
        };
        assert_eq!(request(rest, Plugin::Net, arguments).unwrap(), expected);
        (expected.mac, expected.dns) = (None, None);
        assert_eq!(request(rest, Plugin::Ipam, arguments).unwrap(), expected);
        let nothing = RuntimeRequest::default();
        assert_eq!(request("", Plugin::Net, "").unwrap(), nothing);
        // What is of the plugin that asks for addresses, and of one that gives them out.
        let of_bridge = r#","isDefaultGateway":true,"capabilities":{"portMappings":true}"#;
        assert_eq!(request(of_bridge, Plugin::Ipam, "MAC=x").unwrap(), nothing);
        let of_other =
            r#","ipam":{"type":"host-local","ranges":[[]]},"runtimeConfig":{"ips":["x"]}"#;
        assert_eq!(request(of_other, Plugin::Net, "IP=x;GATEWAY=y").unwrap(), nothing);
    }

    #[test]
    fn what_is_not_to_be_had_is_refused() {
        for (rest, arguments, code, text) in [
            (r#","runtimeConfig":{"portMappings":[{}]}"#, "", 2, "runtimeConfig.portMappings"),
            (r#","capabilities":{"bandwidth":true}"#, "", 2, "capabilities.bandwidth: true"),
            (r#","runtimeConfig":{"ips":["fd00::1/64"]}"#, "", 2, "no IPv6 addresses"),
            (r#","isDefaultGateway":true"#, "", 2, "isDefaultGateway: true"),
            (r#","ipam":{"rangeStart":"10.0.0.1"}"#, "", 2, "ipam.rangeStart"),
            (r#","runtimeConfig":{"ips":"10.32.0.9"}"#, "", 7, "runtimeConfig.ips is no list"),
            (r#","args":{"cni":{"ips":[1]}}"#, "", 7, "args.cni.ips is no list"),
            (
                r#","runtimeConfig":{"mac":"01:00:00:00:00:00"}"#,
                "",
                7,
                "runtimeConfig.mac: invalid",
            ),
            (r#","runtimeConfig":{"mac":7}"#, "", 7, "runtimeConfig.mac: invalid"),
            (
                r#","runtimeConfig":{"mac":"02:00:00:00:00:01"}"#,
                "MAC=02:00:00:00:00:02",
                7,
                "two Ethernet addresses are asked for",
            ),
            ("", "IP=10.32.0.0/12", 7, "IP in CNI_ARGS: invalid address"),
            ("", "IP=somewhere", 7, "IP in CNI_ARGS: invalid address"),
            ("", "K8S_POD_NAME=p", 4, "unknown key \"K8S_POD_NAME\""),
            ("", "IgnoreUnknown=0;x=y", 4, "unknown key \"x\""),
            ("", "IgnoreUnknown=perhaps", 4, "neither 0 nor 1"),
            ("", "text", 4, "\"text\" is no KEY=VALUE"),
        ] {
            let error = request(rest, Plugin::Net, arguments).unwrap_err();
            assert_eq!(error.code, code, "{rest} {arguments}: {error:?}");
            assert!(error.msg.contains(text), "{rest} {arguments}: {error:?}");
        }
    }

    #[test]
    fn a_requested_address_is_one_of_the_network() {
        let subnet = Cidr::network("10.32.0.0/12").unwrap();
        let within = |last: [u8; 4], prefix| {
            let wanted = AddressRequest { address: last.into(), prefix };
            wanted.within(subnet).map(|cidr| cidr.to_string())
        };
        assert_eq!(within([10, 32, 0, 9], None).unwrap(), "10.32.0.9/12");
        assert_eq!(within([10, 33, 0, 9], Some(16)).unwrap(), "10.33.0.9/16");
        for address in [[10, 48, 0, 1], [10, 32, 0, 0], [10, 47, 255, 255]] {
            assert_eq!(within(address, None).unwrap_err().code, CniError::CONFIG);
        }
    }
}
