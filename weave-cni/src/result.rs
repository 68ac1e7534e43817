//! The result of ADD, in the form of each version (CNI specification, "Success").

use serde_json::{Map, Value, json};
use weave_host::{End, Route};

use crate::lease::Leased;
use crate::version::CniVersion;

/// Parts of a result. What is empty is left out.
#[derive(Debug, Default)]
pub(crate) struct CniResult {
    /// The end on the host and the one in the container, with its namespace.
    pub(crate) interfaces: Option<(End, End, String)>,
    pub(crate) addresses: Vec<Leased>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Option<Value>,
}

impl CniResult {
    pub(crate) fn object(&self, version: CniVersion) -> Value {
        let mut object = Map::new();
        object.insert("cniVersion".to_owned(), version.text().into());
        if let Some((host, container, sandbox)) = &self.interfaces {
            let interfaces = json!([
                { "name": host.name, "mac": host.mac.to_string() },
                { "name": container.name, "mac": container.mac.to_string(), "sandbox": sandbox },
            ]);
            object.insert("interfaces".to_owned(), interfaces);
        }
        let ips: Vec<_> = self.addresses.iter().map(|leased| self.ip(*leased, version)).collect();
        if !ips.is_empty() {
            object.insert("ips".to_owned(), ips.into());
        }
        let routes: Vec<_> = self.routes.iter().map(route).collect();
        if !routes.is_empty() {
            object.insert("routes".to_owned(), routes.into());
        }
        object.insert("dns".to_owned(), self.dns.clone().unwrap_or_else(|| json!({})));
        object.into()
    }

    fn ip(&self, Leased { cidr, gateway }: Leased, version: CniVersion) -> Value {
        let mut ip = json!({ "address": cidr.to_string() });
        if version < CniVersion::V100 {
            ip["version"] = if cidr.address().is_ipv4() { "4" } else { "6" }.into();
        }
        if self.interfaces.is_some() {
            // The one in the container.
            ip["interface"] = 1.into();
        }
        if let Some(gateway) = gateway {
            ip["gateway"] = gateway.to_string().into();
        }
        ip
    }
}

fn route(route: &Route) -> Value {
    let mut value = json!({ "dst": route.destination.to_string() });
    if let Some(gateway) = route.gateway {
        value["gw"] = gateway.to_string().into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_form() {
        let mut result = CniResult {
            addresses: vec![Leased {
                cidr: "10.32.0.5/12".parse().unwrap(),
                gateway: Some([10, 32, 0, 1].into()),
            }],
            ..CniResult::default()
        };
        assert_eq!(
            result.object(CniVersion::V100),
            json!({
                "cniVersion": "1.0.0",
                "ips": [{ "address": "10.32.0.5/12", "gateway": "10.32.0.1" }],
                "dns": {},
            })
        );
        assert_eq!(result.object(CniVersion::V030)["ips"][0]["version"], "4");
        let end =
            |name: &str| End { name: name.to_owned(), mac: "7a:9f:eb:b6:0c:6e".parse().unwrap() };
        result.interfaces = Some((end("vethwepl1"), end("eth0"), "/run/netns/x".to_owned()));
        let object = result.object(CniVersion::V110);
        assert_eq!(object["ips"][0]["interface"], 1);
        assert_eq!(object["interfaces"][1]["sandbox"], "/run/netns/x");
    }
}
