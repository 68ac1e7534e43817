//! The plugin `weave-net` (spec cni.md, section 3): an interface for a container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use weave_api::HOST_HOLDER;
use weave_host::{
    Attachment, Cidr, ContainerInterface, Forwarding, Layout, Namespace, Route, attach,
    bridge_addresses, detect_layout, forwarding, inspect, remove_port_of, remove_unnoted_port,
    routes_beside,
};

use crate::config::{Config, Ipam};
use crate::error::CniError;
use crate::holder::holder_of;
use crate::ipam::{self, Allocation, PendingRecord};
use crate::lease::{Lease, LeasedAddress};
use crate::record::{Record, Records};
use crate::result::CniResult;
use crate::runtime_request::RuntimeRequest;
use crate::{Call, Plugin, note};

/// Who has the one that serves containers as the gateway, where what the user exposed cannot.
const GATEWAY_HOLDER: &str = "weave:gateway";
/// What takes longer than this between an address and its interface may have lost it: the router
/// gives back what a container had of which it sees no interface for 30 s.
const SURE_TO_BE_KEPT: Duration = Duration::from_secs(10);

pub(crate) fn add(call: &Call) -> Result<Value, CniError> {
    let config = Config::parse(&call.input, Plugin::Net)?;
    let request = RuntimeRequest::of(&config, Plugin::Net, &call.environment.arguments)?;
    chained(&config, &call.environment.interface)?;
    let namespace = namespace(call)?;
    find_bridge(&config)?;
    let mut noted = PendingRecord::begin(call, &config)?;
    ipam::pay(call, &config);
    let begun = Instant::now();
    let result = ipam::take(call, &config, &request).and_then(|Allocation { lease, fresh }| {
        noted.record.addresses = lease.cidrs();
        let plugged = plug_in(call, &config, &request, &namespace, lease).and_then(|result| {
            if begun.elapsed() > SURE_TO_BE_KEPT {
                ipam::confirm(call, &config, &noted.record.addresses)?;
            }
            Ok(result)
        });
        if plugged.is_err() {
            ipam::undo(call, &config, &fresh);
        }
        plugged
    });
    let result = noted.unless_failed(result)?;
    // That there is an attachment is noted; its addresses are for those who look.
    if let Err(error) = noted.records.keep(&noted.record) {
        note(error.details);
    }
    Ok(result.object(config.version))
}

fn namespace(call: &Call) -> Result<Namespace, CniError> {
    Namespace::find(&call.environment.netns, Path::new("/proc"))
        .map_err(|error| CniError::host("unable to open the network namespace", &error))
}

/// Checks that the bridge is there: the router makes it when it starts, and an address has no use
/// before.
fn find_bridge(config: &Config) -> Result<(), CniError> {
    const ACTION: &str = "unable to attach the container";
    let layout = detect_layout(&config.bridge).map_err(|error| CniError::host(ACTION, &error))?;
    if layout == Layout::None {
        let details = format!("there is no bridge {}; is the weave router running?", config.bridge);
        return Err(CniError::new(CniError::TRY_AGAIN, ACTION, details));
    }
    Ok(())
}

fn plug_in(
    call: &Call,
    config: &Config,
    request: &RuntimeRequest,
    namespace: &Namespace,
    lease: Lease,
) -> Result<CniResult, CniError> {
    let Lease { mut addresses, mut routes, dns } = lease;
    let interface = &call.environment.interface;
    // What another interface of the container has.
    let beside = routes_beside(namespace, interface)
        .map_err(|error| CniError::host("unable to look at the container", &error))?;
    if let Some(first) = addresses.first_mut()
        && routes.is_empty()
        && first.gateway.is_none()
        && first.cidr.address().is_ipv4()
        && !is_there(&beside, default_route([0, 0, 0, 0].into()))
    {
        first.gateway = Some(host_address(call, config, first.cidr)?);
        look_at_forwarding();
    }
    let ways = ways(&addresses, &mut routes, &beside);
    let attachment = Attachment {
        interface: interface.clone(),
        mac: request.mac,
        holder: Some(holder_of(&call.environment)),
        addresses: addresses.iter().map(|leased| leased.cidr).collect(),
        routes: ways,
        mtu: config.mtu,
        hairpin: config.hairpin,
        ..Attachment::new(config.bridge.clone())
    };
    let attached = attach(namespace, &attachment)
        .map_err(|error| CniError::host("unable to attach the container", &error))?;
    let sandbox = call.environment.netns.clone();
    Ok(CniResult {
        interfaces: Some((attached.host_end, attached.container_end, sandbox)),
        addresses,
        routes,
        dns: request.dns.clone().or_else(|| config.dns.clone()).or(dns),
        previous: config.previous.clone(),
    })
}

/// Behind another plugin, ours hands on what that made; only the interface must not be there yet.
fn chained(config: &Config, interface: &str) -> Result<(), CniError> {
    let Some(previous) = &config.previous else { return Ok(()) };
    if !previous.is_object() {
        return Err(CniError::config("prevResult is no result"));
    }
    let interfaces = previous["interfaces"].as_array().map_or(&[][..], Vec::as_slice);
    let is_same = |entry: &Value| {
        entry["name"] == interface && entry["sandbox"].as_str().is_some_and(|s| !s.is_empty())
    };
    if interfaces.iter().any(is_same) {
        let msg = format!("a plugin before this one has made the interface {interface} already");
        return Err(CniError::config(msg));
    }
    Ok(())
}

/// Returns the way to everywhere, of the family of this address.
fn default_route(gateway: IpAddr) -> Route {
    let everywhere: IpAddr = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Route { destination: Cidr::whole(everywhere), gateway: Some(gateway) }
}

/// Returns whether the container has a route to the same destination by another interface. The
/// kernel would keep that one, or divide the traffic between both.
fn is_there(beside: &[Route], route: Route) -> bool {
    beside.iter().any(|other| other.destination == route.destination)
}

/// Returns the routes to make; those to tell are given and, without any, the default route is
/// added. One that the container has by another interface is neither made nor told.
fn ways(addresses: &[LeasedAddress], routes: &mut Vec<Route>, beside: &[Route]) -> Vec<Route> {
    let on_switch = |gateway: IpAddr| addresses.iter().any(|leased| leased.cidr.contains(gateway));
    let gateways = || addresses.iter().filter_map(|leased| leased.gateway);
    let mut ways = Vec::new();
    if routes.is_empty() {
        for gateway in gateways() {
            let route = default_route(gateway);
            if is_there(beside, route) || routes.iter().any(|o| o.destination == route.destination)
            {
                continue;
            }
            if !on_switch(gateway) {
                ways.push(Route { destination: Cidr::alone(gateway), gateway: None });
            }
            routes.push(route);
        }
        ways.extend(routes.iter().copied());
        return ways;
    }
    routes.retain(|route| {
        let there = is_there(beside, *route);
        if there {
            let destination = route.destination;
            note(format_args!("a route to {destination} is there already, by another interface"));
        }
        !there
    });
    let usual = |route: &Route| {
        let fits = |gateway: &IpAddr| gateway.is_ipv4() == route.destination.address().is_ipv4();
        gateways().find(fits)
    };
    ways.extend(
        routes
            .iter()
            .map(|route| Route { gateway: route.gateway.or_else(|| usual(route)), ..*route }),
    );
    ways
}

/// Returns the gateway of a container that was told none: an address of the host on the bridge. If
/// none of them serves, the host gets another.
fn host_address(call: &Call, config: &Config, container: Cidr) -> Result<IpAddr, CniError> {
    let present = bridge_addresses(&config.bridge)
        .map_err(|error| CniError::host("unable to look at the bridge", &error))?;
    if let Some(address) = gateway_of(container, &present) {
        return Ok(address);
    }
    let mut cidr = ipam::take_for_host(call, config, HOST_HOLDER)?;
    // It is exposed for a part of the network. With the prefix of all of it, it would be on the
    // bridge twice, and `weave hide` would give it back while it is still there.
    if present.iter().any(|other| other.address() == cidr.address()) {
        cidr = ipam::take_for_host(call, config, GATEWAY_HOLDER)?;
    }
    call.router.expose(cidr)?;
    Ok(cidr.address())
}

/// Says so if the gateway forwards nothing. The router switches that on when it gets an address on
/// the bridge, unless it was told not to or the setting is read-only; then containers reach each
/// other alone.
fn look_at_forwarding() {
    if matches!(forwarding(false), Ok(Forwarding::Off)) {
        note("the container has no way out: net.ipv4.ip_forward is off on this host");
    }
}

/// Returns which address of the host answers all containers of this one's network: the route that
/// comes with it has to cover them. Of several, one that the container takes for a neighbour.
fn gateway_of(container: Cidr, exposed: &[Cidr]) -> Option<IpAddr> {
    let covers =
        |cidr: &&Cidr| cidr.prefix() <= container.prefix() && cidr.contains(container.address());
    let mut serving = exposed.iter().filter(covers);
    let near = serving.clone().find(|cidr| container.contains(cidr.address()));
    near.or_else(|| serving.next()).map(|cidr| cidr.address())
}

/// Can be repeated. Of what fails only an address that is not given back is worth a repetition.
pub(crate) fn del(call: &Call) -> Result<(), CniError> {
    let config = match Config::parse(&call.input, Plugin::Net) {
        Ok(config) => config,
        Err(error) => {
            note(format_args!("nothing is deleted: {error}"));
            return Ok(());
        }
    };
    let (container, interface) = (&call.environment.container, &call.environment.interface);
    let records = Records::of(&call.state, &config.name);
    let known = records.get(container, interface);
    let record = known.unwrap_or_else(|| Record::new(container, interface));
    unplug(call, &config, &record)?;
    ipam::give_back(call, &config, &record).inspect_err(|error| {
        note(format_args!("{error}: {}", error.details));
    })?;
    records.forget(container, interface);
    Ok(())
}

/// Removes the interface that was made for this container. `CNI_NETNS` may lead to another
/// container by now, so that it alone says nothing.
fn unplug(call: &Call, config: &Config, record: &Record) -> Result<(), CniError> {
    let holder = holder_of(&call.environment);
    let failed = |error| CniError::host("unable to remove the interface", &error);
    if remove_port_of(&holder).map_err(failed)? || call.environment.netns.is_empty() {
        return Ok(());
    }
    // Earlier versions and Weave Net noted nothing on the interface, but its addresses are known.
    let mut addresses = record.addresses.clone();
    if let Some(previous) = &config.previous
        && let Ok(lease) = Lease::of_result(previous)
    {
        addresses.extend(lease.cidrs());
    }
    if addresses.is_empty() && matches!(config.ipam, Ipam::Router { .. }) {
        let router = call.router.clone().without_patience();
        addresses = router.addresses(&holder, None, "addresses").unwrap_or_default();
    }
    if addresses.is_empty() {
        return Ok(());
    }
    let interface = &call.environment.interface;
    let unplugged = Namespace::find(&call.environment.netns, Path::new("/proc"))
        .and_then(|found| remove_unnoted_port(&found, &config.bridge, interface, &addresses));
    if let Err(error) = unplugged {
        note(format_args!("interface {interface} is not deleted: {error}"));
    }
    Ok(())
}

pub(crate) fn check(call: &Call) -> Result<(), CniError> {
    let config = Config::parse(&call.input, Plugin::Net)?;
    let previous = ipam::previous(&config)?;
    let interface = &call.environment.interface;
    let namespace = namespace(call)?;
    let inspected = inspect(&namespace, interface)
        .map_err(|error| CniError::host("unable to look at the container", &error))?
        .ok_or_else(|| CniError::changed(format!("interface {interface} is missing")))?;
    let holder = holder_of(&call.environment);
    if let Some(other) = inspected.holder.as_ref().filter(|noted| **noted != holder) {
        let what = format!("interface {interface} was made for {other}, not for {holder}");
        return Err(CniError::changed(what));
    }
    let left = PreviousResult::of(previous, interface)?;
    left.compare(&inspected, interface, &config.bridge)?;
    ipam::confirm(call, &config, &left.addresses)
}

/// What ADD left, as far as it is of our interface.
struct PreviousResult {
    mac: Option<String>,
    addresses: Vec<Cidr>,
    routes: Vec<Route>,
}

impl PreviousResult {
    fn of(previous: &Value, interface: &str) -> Result<Self, CniError> {
        let lease = Lease::of_result(previous)?;
        let ours = |entry: &&Value| {
            entry["name"] == interface && entry["sandbox"].as_str().is_some_and(|s| !s.is_empty())
        };
        let interfaces = previous["interfaces"].as_array().map_or(&[][..], Vec::as_slice);
        let number = interfaces.iter().position(|entry| ours(&entry));
        let of_ours = |ip: &Value| match ip["interface"].as_u64() {
            Some(index) => usize::try_from(index).ok() == number,
            None => true,
        };
        let ips = previous["ips"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(Self {
            mac: interfaces.iter().find(ours).and_then(|e| e["mac"].as_str()).map(str::to_owned),
            addresses: lease
                .addresses
                .iter()
                .zip(ips)
                .filter(|(_, ip)| of_ours(ip))
                .map(|(leased, _)| leased.cidr)
                .collect(),
            routes: lease.routes,
        })
    }

    fn compare(&self, now: &ContainerInterface, name: &str, bridge: &str) -> Result<(), CniError> {
        let changed = |what: String| Err(CniError::changed(what));
        if !now.up {
            return changed(format!("interface {name} is down"));
        }
        if let Some(mac) = self.mac.as_ref().filter(|mac| **mac != now.mac.to_string()) {
            return changed(format!("interface {name} has address {}, not {mac}", now.mac));
        }
        match (&now.host_end, &now.bridge) {
            (_, Some(found)) if found == bridge => {}
            (None, _) => return changed(format!("the other end of {name} is not on this host")),
            (Some(end), None) => return changed(format!("{end} is on no bridge, not on {bridge}")),
            (Some(end), Some(found)) => {
                return changed(format!("{end} is on bridge {found}, not on {bridge}"));
            }
        }
        if let Some(cidr) = self.addresses.iter().find(|cidr| !now.addresses.contains(cidr)) {
            return changed(format!("address {cidr} is missing on {name}"));
        }
        let there = |route: &&Route| {
            now.routes.iter().chain(&now.other_routes).any(|found| {
                let gateway = route.gateway.is_none() || route.gateway == found.gateway;
                found.destination == route.destination && gateway
            })
        };
        if let Some(route) = self.routes.iter().find(|route| !there(route)) {
            return changed(format!("the route to {} is missing", route.destination));
        }
        Ok(())
    }
}

pub(crate) fn status(call: &Call) -> Result<(), CniError> {
    let config = Config::parse(&call.input, Plugin::Net)?;
    // What ADD would refuse. The arguments of a container are not known yet.
    RuntimeRequest::of(&config, Plugin::Net, "")?;
    if matches!(config.ipam, Ipam::Other(_)) {
        call.router.ready(false, &config.bridge, &call.state)?;
    }
    ipam::available(call, &config)
}

pub(crate) fn gc(call: &Call) -> Result<(), CniError> {
    ipam::gc(call)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn leased(cidr: &str, gateway: Option<&str>) -> LeasedAddress {
        let gateway = gateway.map(|text| text.parse().unwrap());
        LeasedAddress { cidr: cidr.parse().unwrap(), gateway }
    }

    fn texts(routes: &[Route]) -> Vec<String> {
        let text = |route: &Route| match route.gateway {
            Some(gateway) => format!("{} via {gateway}", route.destination),
            None => route.destination.to_string(),
        };
        routes.iter().map(text).collect()
    }

    #[test]
    fn routes_to_make_and_to_tell() {
        let mut told = Vec::new();
        let made = ways(&[leased("10.32.0.5/12", Some("10.32.0.1"))], &mut told, &[]);
        assert_eq!(texts(&made), ["0.0.0.0/0 via 10.32.0.1"]);
        assert_eq!(texts(&told), texts(&made));

        let mut told = Vec::new();
        let made = ways(&[leased("10.40.0.5/16", Some("10.32.0.1"))], &mut told, &[]);
        assert_eq!(texts(&made), ["10.32.0.1/32", "0.0.0.0/0 via 10.32.0.1"]);
        assert_eq!(texts(&told), ["0.0.0.0/0 via 10.32.0.1"]);

        let network = |text: &str| Cidr::network(text).unwrap();
        let mut told = vec![
            Route { destination: network("10.9.0.0/16"), gateway: None },
            Route { destination: network("fd00::/64"), gateway: None },
        ];
        let made = ways(&[leased("10.32.0.5/12", Some("10.32.0.1"))], &mut told, &[]);
        assert_eq!(texts(&made), ["10.9.0.0/16 via 10.32.0.1", "fd00::/64"]);
        assert_eq!(texts(&told), ["10.9.0.0/16", "fd00::/64"]);

        // What another interface of the container has stays its own.
        let beside = [
            Route { destination: network("0.0.0.0/0"), gateway: Some([10, 1, 0, 1].into()) },
            Route { destination: network("10.9.0.0/16"), gateway: None },
        ];
        let made = ways(&[leased("10.32.0.5/12", Some("10.32.0.1"))], &mut told, &beside);
        assert_eq!(
            (texts(&made), texts(&told)),
            (vec!["fd00::/64".into()], vec!["fd00::/64".into()])
        );
        let mut told = Vec::new();
        let made = ways(&[leased("10.40.0.5/16", Some("10.32.0.1"))], &mut told, &beside);
        assert_eq!((made, told), (Vec::new(), Vec::new()));
    }

    #[test]
    fn an_exposed_address_is_the_gateway_of_networks_that_it_covers() {
        let exposed = |list: &[&str]| {
            let list: Vec<Cidr> = list.iter().map(|text| text.parse().unwrap()).collect();
            gateway_of("10.32.0.5/12".parse().unwrap(), &list).map(|address| address.to_string())
        };
        assert_eq!(exposed(&[]), None);
        assert_eq!(exposed(&["10.32.0.1/12"]).unwrap(), "10.32.0.1");
        // Of a part, the one that the container is not in or even is; of another network.
        assert_eq!(exposed(&["10.32.5.1/24", "10.32.0.1/24", "172.30.1.1/24"]), None);
        assert_eq!(exposed(&["10.32.5.1/24", "10.40.0.1/12"]).unwrap(), "10.40.0.1");
        // Of more than the network, also where the container has no route to it by itself.
        assert_eq!(exposed(&["10.0.0.1/8"]).unwrap(), "10.0.0.1");
        assert_eq!(exposed(&["10.0.0.1/8", "10.32.0.1/12"]).unwrap(), "10.32.0.1");
    }

    #[test]
    fn what_changed_is_told() {
        let previous = json!({
            "interfaces": [
                { "name": "vethwepl1", "mac": "02:00:00:00:00:01" },
                { "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x" },
                { "name": "lo", "sandbox": "/run/netns/x" },
            ],
            "ips": [
                { "address": "10.32.0.5/12", "interface": 1 },
                { "address": "10.99.0.1/24", "interface": 2 },
            ],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "10.32.0.1" }],
        });
        let left = PreviousResult::of(&previous, "eth0").unwrap();
        let whole = ContainerInterface {
            mac: "02:00:00:00:00:02".parse().unwrap(),
            up: true,
            addresses: vec!["10.32.0.5/12".parse().unwrap()],
            routes: vec![Route {
                destination: Cidr::network("0.0.0.0/0").unwrap(),
                gateway: Some([10, 32, 0, 1].into()),
            }],
            holder: Some("c1".to_owned()),
            other_routes: Vec::new(),
            host_end: Some("vethwepl1".to_owned()),
            bridge: Some("weave".to_owned()),
        };
        assert_eq!(left.compare(&whole, "eth0", "weave"), Ok(()));
        let now = || whole.clone();
        for (now, msg) in [
            (ContainerInterface { up: false, ..now() }, "interface eth0 is down"),
            (
                ContainerInterface { mac: "02:00:00:00:00:03".parse().unwrap(), ..now() },
                "interface eth0 has address 02:00:00:00:00:03, not 02:00:00:00:00:02",
            ),
            (
                ContainerInterface { host_end: None, bridge: None, ..now() },
                "the other end of eth0 is not on this host",
            ),
            (
                ContainerInterface { bridge: None, ..now() },
                "vethwepl1 is on no bridge, not on weave",
            ),
            (
                ContainerInterface { bridge: Some("br0".to_owned()), ..now() },
                "vethwepl1 is on bridge br0, not on weave",
            ),
            (
                ContainerInterface { addresses: Vec::new(), ..now() },
                "address 10.32.0.5/12 is missing on eth0",
            ),
            (
                ContainerInterface { routes: Vec::new(), ..now() },
                "the route to 0.0.0.0/0 is missing",
            ),
        ] {
            let error = left.compare(&now, "eth0", "weave").unwrap_err();
            assert_eq!((error.code, error.msg.as_str()), (CniError::CHANGED, msg));
        }
    }
}
