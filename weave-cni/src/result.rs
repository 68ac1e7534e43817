//! The result of ADD, in the form of each version (CNI specification, "Success").

use serde_json::{Map, Value, json};
use weave_host::{End, Route};

use crate::lease::LeasedAddress;
use crate::version::CniVersion;

/// Parts of a result. What is empty is left out.
#[derive(Debug, Default)]
pub(crate) struct CniResult {
    /// The end on the host and the one in the container, with its namespace.
    pub(crate) interfaces: Option<(End, End, String)>,
    pub(crate) addresses: Vec<LeasedAddress>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Option<Value>,
    /// What plugins before this one made, which comes first.
    pub(crate) previous: Option<Value>,
}

impl CniResult {
    pub(crate) fn object(&self, version: CniVersion) -> Value {
        let mut object = Map::new();
        object.insert("cniVersion".to_owned(), version.text().into());
        let mut interfaces = self.before("interfaces");
        // The one in the container.
        let number = interfaces.len() + 1;
        if let Some((host, container, sandbox)) = &self.interfaces {
            interfaces.push(json!({ "name": host.name, "mac": host.mac.to_string() }));
            let (name, mac) = (&container.name, container.mac.to_string());
            interfaces.push(json!({ "name": name, "mac": mac, "sandbox": sandbox }));
        }
        let mut ips = self.before("ips");
        ips.extend(self.addresses.iter().map(|leased| self.ip(*leased, number, version)));
        let mut routes = self.before("routes");
        routes.extend(self.routes.iter().map(route));
        for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                object.insert(key.to_owned(), list.into());
            }
        }
        let before = self.previous.as_ref().and_then(|previous| previous.get("dns"));
        let dns = self.dns.as_ref().or(before).cloned();
        object.insert("dns".to_owned(), dns.unwrap_or_else(|| json!({})));
        object.into()
    }

    fn before(&self, key: &str) -> Vec<Value> {
        let list = self.previous.as_ref().and_then(|previous| previous[key].as_array());
        list.cloned().unwrap_or_default()
    }

    fn ip(
        &self,
        LeasedAddress { cidr, gateway }: LeasedAddress,
        interface: usize,
        version: CniVersion,
    ) -> Value {
        let mut ip = json!({ "address": cidr.to_string() });
        if version < CniVersion::V100 {
            ip["version"] = if cidr.address().is_ipv4() { "4" } else { "6" }.into();
        }
        if self.interfaces.is_some() {
            ip["interface"] = interface.into();
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
            addresses: vec![LeasedAddress {
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

        // Behind another plugin.
        result.previous = Some(json!({
            "interfaces": [{ "name": "lo", "sandbox": "/run/netns/x" }],
            "ips": [{ "address": "127.0.0.1/8", "interface": 0 }],
            "routes": [{ "dst": "10.9.0.0/16" }],
            "dns": { "nameservers": ["10.0.0.1"] },
        }));
        let object = result.object(CniVersion::V110);
        assert_eq!(
            (&object["ips"][0]["interface"], &object["ips"][1]["interface"]),
            (&json!(0), &json!(2))
        );
        assert_eq!(object["interfaces"][2]["name"], "eth0");
        assert_eq!(object["routes"], json!([{ "dst": "10.9.0.0/16" }]));
        assert_eq!(object["dns"]["nameservers"][0], "10.0.0.1");
    }
}
