//! The configuration of a network, as the runtime hands it over (spec cni.md, section 2).

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};
use weave_host::{Cidr, Route};

use crate::Plugin;
use crate::environment::{is_interface, is_name};
use crate::error::CniError;
use crate::request_keys::RequestKeys;
use crate::version::CniVersion;

/// The longest configuration, in bytes: GC lists all containers of a host in it.
pub const MAX_INPUT: usize = 4 << 20;
/// The most routes that are taken from a configuration or another plugin.
pub(crate) const MAX_ROUTES: usize = 1024;

/// The configuration, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The version that the answer is in.
    pub version: CniVersion,
    /// The name of the network.
    pub name: String,
    /// The bridge.
    pub bridge: String,
    /// The largest packet, in bytes; that of the bridge if none.
    pub mtu: Option<u32>,
    /// Whether a container reaches itself by an address that is translated on the bridge.
    pub hairpin: bool,
    /// Who gives out the addresses.
    pub ipam: Ipam,
    /// Copied to the result.
    pub dns: Option<Value>,
    /// What ADD answered, for CHECK.
    pub previous: Option<Value>,
    /// What else is in it: requests, and keys that nobody knows.
    pub(crate) request_keys: RequestKeys,
    /// The attachments that there still are, as container and interface, for GC.
    pub valid: Option<Vec<(String, String)>>,
}

/// Who gives out the addresses.
#[derive(Clone, PartialEq, Debug)]
pub enum Ipam {
    /// The router.
    Router {
        /// The network to choose from; that of the router if none.
        subnet: Option<Cidr>,
        /// The gateway to tell.
        gateway: Option<IpAddr>,
        /// The routes to tell.
        routes: Vec<Route>,
    },
    /// Another plugin of this name.
    Other(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    cni_version: Option<String>,
    name: String,
    bridge: String,
    mtu: u32,
    hairpin_mode: Option<bool>,
    is_gateway: bool,
    ip_masq: bool,
    ipam: RawIpam,
    dns: Option<Value>,
    prev_result: Option<Value>,
    args: Value,
    capabilities: Option<Map<String, Value>>,
    runtime_config: Option<Map<String, Value>>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<RawAttachment>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIpam {
    r#type: String,
    subnet: String,
    gateway: String,
    routes: Vec<RawRoute>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A route, in a configuration or a result.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct RawRoute {
    dst: String,
    gw: Option<String>,
}

#[derive(Deserialize)]
struct RawAttachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

impl Config {
    /// Returns the version alone, for whatever may be wrong with the rest.
    ///
    /// # Errors
    /// If the input is too long, no JSON, or of a version that is not spoken.
    pub fn version(input: &[u8]) -> Result<CniVersion, CniError> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "cniVersion")]
            version: Option<String>,
        }
        version_of(decode::<Version>(input)?.version)
    }

    /// Returns all of it, as far as it is for this plugin.
    ///
    /// # Errors
    /// If it cannot be decoded, makes no sense, or asks for what there is not.
    pub fn parse(input: &[u8], plugin: Plugin) -> Result<Self, CniError> {
        let mut raw: Raw = decode(input)?;
        let version = version_of(raw.cni_version)?;
        if !is_name(&raw.name) {
            return Err(CniError::config(format!("invalid network name: {:?}", raw.name)));
        }
        for (asked, what) in [
            (raw.is_gateway, "Gateway functionality not supported"),
            (raw.ip_masq, "IP Masquerading functionality not supported"),
        ] {
            // Of other plugins that take their addresses from us, they are no concern of ours.
            if asked && plugin == Plugin::Net {
                let details = "the router does that: see `weave expose`";
                return Err(CniError::new(CniError::FIELD, what, details));
            }
        }
        let bridge = if raw.bridge.is_empty() { weave_host::BRIDGE_NAME } else { &raw.bridge };
        if !is_interface(bridge) {
            return Err(CniError::config(format!("invalid bridge: {bridge:?}")));
        }
        // 68 is the smallest of IPv4 (RFC 791), 65535 the largest packet.
        if !matches!(raw.mtu, 0 | 68..=65_535) {
            return Err(CniError::config(format!("invalid mtu: {}", raw.mtu)));
        }
        let request_keys = RequestKeys {
            capabilities: raw.capabilities.unwrap_or_default(),
            runtime: raw.runtime_config.unwrap_or_default(),
            args: raw.args,
            rest: raw.rest,
            ipam_rest: std::mem::take(&mut raw.ipam.rest),
        };
        Ok(Self {
            version,
            name: raw.name,
            bridge: bridge.to_owned(),
            mtu: (raw.mtu != 0).then_some(raw.mtu),
            hairpin: raw.hairpin_mode.unwrap_or(true),
            ipam: raw.ipam.check()?,
            dns: raw.dns.filter(|dns| dns.as_object().is_some_and(|dns| !dns.is_empty())),
            previous: raw.prev_result,
            request_keys,
            valid: raw.valid_attachments.map(|list| {
                list.into_iter().map(|entry| (entry.container, entry.ifname)).collect()
            }),
        })
    }
}

impl RawIpam {
    fn check(self) -> Result<Ipam, CniError> {
        if !["", "weave-ipam"].contains(&self.r#type.as_str()) {
            // It is looked for in the folders of CNI_PATH and nowhere else.
            if self.r#type.contains('/') || [".", ".."].contains(&self.r#type.as_str()) {
                return Err(CniError::config(format!("invalid ipam.type: {:?}", self.r#type)));
            }
            return Ok(Ipam::Other(self.r#type));
        }
        let wrong = |what: &str, text: &str| CniError::config(format!("invalid {what}: {text:?}"));
        let subnet = match self.subnet.as_str() {
            "" => None,
            text => {
                let subnet = Cidr::network(text).ok().filter(|subnet| subnet.address().is_ipv4());
                Some(subnet.ok_or_else(|| wrong("ipam.subnet", text))?)
            }
        };
        let gateway = match self.gateway.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| wrong("ipam.gateway", text))?),
        };
        Ok(Ipam::Router { subnet, gateway, routes: routes(self.routes)? })
    }
}

/// Checks routes.
pub(crate) fn routes(list: Vec<RawRoute>) -> Result<Vec<Route>, CniError> {
    if list.len() > MAX_ROUTES {
        return Err(CniError::config(format!("more than {MAX_ROUTES} routes")));
    }
    let route = |raw: RawRoute| {
        let wrong = || CniError::config(format!("invalid route: {:?} {:?}", raw.dst, raw.gw));
        let destination = Cidr::network(&raw.dst).map_err(|_| wrong())?;
        let gateway = match raw.gw.as_deref() {
            None | Some("") => None,
            Some(text) => Some(text.parse::<IpAddr>().map_err(|_| wrong())?),
        };
        let fits = |gateway: IpAddr| gateway.is_ipv4() == destination.address().is_ipv4();
        gateway.is_none_or(fits).then_some(Route { destination, gateway }).ok_or_else(wrong)
    };
    list.into_iter().map(route).collect()
}

/// Without one, it is of the first version, which has another form of result.
fn version_of(text: Option<String>) -> Result<CniVersion, CniError> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or_else(|| "0.1.0".to_owned());
    CniVersion::parse(&text).ok_or_else(|| {
        let known = CniVersion::ALL.map(CniVersion::text).join(", ");
        let details = format!("config is {text:?}, plugin supports {known}");
        CniError::new(CniError::VERSION, "incompatible CNI versions", details)
    })
}

fn decode<'a, T: Deserialize<'a>>(input: &'a [u8]) -> Result<T, CniError> {
    let failed = |details: String| {
        CniError::new(CniError::DECODING, "the configuration cannot be decoded", details)
    };
    if input.len() > MAX_INPUT {
        return Err(failed(format!("longer than {MAX_INPUT} bytes")));
    }
    // A list would be taken for the fields in order.
    if input.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(failed("it is no object".to_owned()));
    }
    serde_json::from_slice(input).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, CniError> {
        Config::parse(text.as_bytes(), Plugin::Net)
    }

    #[test]
    fn the_configuration_of_the_original() {
        let config = parse(r#"{"cniVersion":"0.3.0","name":"weave","type":"weave-net"}"#).unwrap();
        assert_eq!((config.bridge.as_str(), config.mtu, config.hairpin), ("weave", None, true));
        let nothing = Ipam::Router { subnet: None, gateway: None, routes: Vec::new() };
        assert_eq!(config.ipam, nothing);

        let config = parse(
            r#"{"cniVersion":"1.1.0","name":"w","bridge":"other","mtu":1300,"hairpinMode":false,
                "ipam":{"subnet":"10.40.0.0/16","gateway":"10.40.0.1",
                        "routes":[{"dst":"0.0.0.0/0"},{"dst":"10.9.1.0/24","gw":"10.40.0.9"}]},
                "cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],
                "runtimeConfig":{"portMappings":[]},"dns":{"nameservers":["10.40.0.2"]}}"#,
        )
        .unwrap();
        let Ipam::Router { subnet, gateway, routes } = config.ipam else { panic!() };
        assert_eq!(subnet.unwrap().to_string(), "10.40.0.0/16");
        assert_eq!((gateway.unwrap().to_string().as_str(), routes.len()), ("10.40.0.1", 2));
        assert_eq!(config.valid, Some(vec![("a".to_owned(), "eth0".to_owned())]));
        assert_eq!((config.mtu, config.hairpin, config.dns.is_some()), (Some(1300), false, true));

        let other = parse(r#"{"cniVersion":"1.0.0","name":"w","ipam":{"type":"host-local"}}"#);
        assert_eq!(other.unwrap().ipam, Ipam::Other("host-local".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_code() {
        let config = |rest: &str| format!(r#"{{"cniVersion":"1.0.0","name":"w"{rest}}}"#);
        for (text, code, msg) in [
            ("", 6, "cannot be decoded"),
            ("[]", 6, "cannot be decoded"),
            (r#"{"cniVersion":1}"#, 6, "cannot be decoded"),
            (r#"{"name":"w"}"#, 1, "incompatible CNI versions"),
            (r#"{"cniVersion":"2.0.0","name":"w"}"#, 1, "incompatible CNI versions"),
            (r#"{"cniVersion":"1.0.0"}"#, 7, "invalid network name: \"\""),
            (r#"{"cniVersion":"1.0.0","name":"../w"}"#, 7, "invalid network name"),
            (&config(r#","isGateway":true"#), 2, "Gateway functionality not supported"),
            (&config(r#","ipMasq":true"#), 2, "IP Masquerading functionality not supported"),
            (&config(r#","bridge":"a/b""#), 7, "invalid bridge: \"a/b\""),
            (&config(r#","mtu":67"#), 7, "invalid mtu: 67"),
            (&config(r#","mtu":-1"#), 6, "cannot be decoded"),
            (&config(r#","ipam":{"subnet":"10.0.0.0"}"#), 7, "invalid ipam.subnet"),
            (&config(r#","ipam":{"subnet":"fd00::/64"}"#), 7, "invalid ipam.subnet"),
            (&config(r#","ipam":{"gateway":"x"}"#), 7, "invalid ipam.gateway"),
            (&config(r#","ipam":{"routes":[{"dst":"x"}]}"#), 7, "invalid route"),
            (&config(r#","ipam":{"routes":[{"dst":"::/0","gw":"10.0.0.1"}]}"#), 7, "invalid route"),
            (&config(r#","ipam":{"type":"../sh"}"#), 7, "invalid ipam.type"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.code == code && error.msg.contains(msg), "{text}: {error:?}");
        }
        let long = vec![b' '; MAX_INPUT + 1];
        assert_eq!(Config::parse(&long, Plugin::Net).unwrap_err().code, 6);
    }
}
