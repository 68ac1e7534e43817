//! What the environment of the container says (spec kube.md, section 9), and the arguments of the
//! router that follow from it.

use std::ffi::OsString;
use std::path::PathBuf;

use weave_api::Address;
use weave_ipam::{Cidr, Subnet};
use weave_node::IpamSettings;

use crate::environment::Environment;
use crate::error::CommandError;

/// The range of Weave Net.
const RANGE: &str = "10.32.0.0/12";
/// Where the manifest mounts `/var/lib/weave`; the name of the file before `data.redb`.
pub(crate) const DB_PREFIX: &str = "/weavedb/weave-net";
/// Where the manifest mounts directories of the host.
pub(crate) const HOST_ROOT: &str = "/host";
/// What Weave Net allows in a cluster; a router by itself allows fewer.
const CONNECTION_LIMIT: usize = 200;
/// Prometheus looks there.
const METRICS: &str = "0.0.0.0:6782";
const CONTROL: &str = "127.0.0.1:6784";
/// The mesh of a cluster has this port, whatever else the environment says.
const PORT: &str = "6783";

/// A router on a node of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The name of this node in the cluster.
    pub node: String,
    /// The addresses of pods.
    pub range: Subnet,
    /// Peers that are named by hand: those of the cluster are not asked for.
    pub peers: Option<Vec<String>>,
    /// Most connections of the router; none for no limit.
    pub connection_limit: Option<usize>,
    /// Which address the host gets among the pods.
    pub expose: Vec<Expose>,
    /// Whether the first division of the range is told by hand.
    pub is_origin_given: bool,
    /// Where the state of the router is.
    pub prefix: PathBuf,
    /// What is accepted and changes nothing.
    pub notes: Vec<&'static str>,
    arguments: Vec<OsString>,
}

/// An address of the host among the pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expose {
    /// This one.
    Address(Cidr),
    /// One of this subnet.
    In(Subnet),
    /// One of the default subnet.
    Any,
}

impl Expose {
    /// Reads `10.32.0.1/12`, `net:10.32.0.0/12` or `net:default`.
    fn parse(text: &str) -> Result<Self, String> {
        if text == "net:default" {
            return Ok(Self::Any);
        }
        if let Some(subnet) = text.strip_prefix("net:") {
            return subnet.parse().map(Self::In).map_err(|error| format!("{error}"));
        }
        let address = text.strip_prefix("ip:").unwrap_or(text);
        address.parse().map(Self::Address).map_err(|error| format!("{error}"))
    }
}

impl Settings {
    /// Reads the environment of this process. `more` are arguments for the router besides.
    pub(crate) fn of_process(more: Vec<OsString>) -> Result<Self, CommandError> {
        Self::read(&Environment::of_process(), more)
    }

    pub(crate) fn read<F: Fn(&str) -> Option<String>>(
        environment: &Environment<F>,
        more: Vec<OsString>,
    ) -> Result<Self, CommandError> {
        let range = environment.or("IPALLOC_RANGE", RANGE);
        let range = IpamSettings::range(&range)
            .map_err(|reason| CommandError::Usage(format!("IPALLOC_RANGE={range}: {reason}")))?;
        let origin = environment
            .read("IPALLOC_INIT", |text| weave_node::origin(text).map(|_| text.to_owned()))?;
        let limit = environment.parse("CONN_LIMIT")?.unwrap_or(CONNECTION_LIMIT);
        let expose = environment.read("WEAVE_EXPOSE_IP", |text| {
            text.split_whitespace().map(Expose::parse).collect::<Result<Vec<_>, _>>()
        })?;
        let peers = Some(environment.words("KUBE_PEERS")).filter(|peers| !peers.is_empty());
        let mtu = environment.read("WEAVE_MTU", mtu)?.filter(|mtu| *mtu != 0);
        let prefix = environment.or("DB_PREFIX", DB_PREFIX);
        let mut notes = Vec::new();
        let firewall = environment.read("IPTABLES_BACKEND", |text| match text {
            "nft" => Ok("iptables-nft"),
            "legacy" => Ok("iptables-legacy"),
            _ => Err("neither nft nor legacy".to_owned()),
        })?;
        let address = |name: &str, default: &str| -> Result<String, CommandError> {
            let address = environment.parse::<Address>(name)?;
            Ok(address.map_or_else(|| default.to_owned(), |address| address.to_string()))
        };
        // Policies are rules of their own, which the router does not have to make room for.
        environment.read("EXPECT_NPC", switch)?;
        if environment.read("NO_MASQ_LOCAL", switch)?.is_some() {
            notes.push(
                "NO_MASQ_LOCAL has no effect: clients of Services keep no address of their own \
                        where kube-proxy hands them over to a pod of this node",
            );
        }
        let node = environment.text("HOSTNAME").unwrap_or_else(weave_node::host_name);

        let mut arguments = environment.words("EXTRA_ARGS");
        let mut say = |option: &str, value: &str| arguments.push(format!("--{option}={value}"));
        say("port", PORT);
        say("nickname", &node);
        say("db-prefix", &prefix);
        say("host-root", &environment.or("HOST_ROOT", HOST_ROOT));
        say("http-addr", &address("WEAVE_HTTP_ADDR", CONTROL)?);
        say("status-addr", &address("WEAVE_STATUS_ADDR", "")?);
        say("metrics-addr", &address("WEAVE_METRICS_ADDR", METRICS)?);
        say("ipalloc-range", &range.to_string());
        say("conn-limit", &limit.to_string());
        for (option, value) in [
            ("mtu", mtu.map(|mtu| mtu.to_string())),
            ("ipalloc-init", origin),
            ("firewall", firewall.map(str::to_owned)),
            ("no-fastdp", environment.text("WEAVE_NO_FASTDP").map(|_| "true".to_owned())),
            ("log-level", environment.text("WEAVE_DEBUG").map(|_| "debug".to_owned())),
        ] {
            if let Some(value) = value {
                say(option, &value);
            }
        }
        let mut arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
        arguments.extend(more);
        arguments.extend(peers.iter().flatten().map(OsString::from));
        let is_origin_given = arguments
            .iter()
            .any(|argument| argument.to_string_lossy().starts_with("--ipalloc-init"));
        Ok(Self {
            node,
            range,
            peers,
            connection_limit: (limit != 0).then_some(limit),
            expose: expose.unwrap_or_else(|| vec![Expose::Any]),
            is_origin_given,
            prefix: prefix.into(),
            notes,
            arguments,
        })
    }

    /// The arguments of the router.
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }
}

/// 0 or 1, as manifests write it.
fn switch(text: &str) -> Result<bool, String> {
    weave_api::parse_bool(text).map_err(|_| "neither 0 nor 1".to_owned())
}

/// As the router takes it: 0 for one that follows from the network below.
fn mtu(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(mtu @ (0 | 552..=65_535)) => Ok(mtu),
        _ => Err("neither 0 nor a number from 552 to 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], more: &[&str]) -> Result<Settings, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let more = more.iter().map(OsString::from).collect();
        Settings::read(&Environment(find), more).map_err(|error| error.to_string())
    }

    fn line(settings: &Settings) -> String {
        let words: Vec<_> =
            settings.arguments().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn an_empty_environment_is_that_of_the_manifest() {
        let settings = read(&[("HOSTNAME", "node-1"), ("IPALLOC_RANGE", "")], &[]).unwrap();
        assert_eq!(
            line(&settings),
            "--port=6783 --nickname=node-1 --db-prefix=/weavedb/weave-net --host-root=/host \
             --http-addr=127.0.0.1:6784 --status-addr= --metrics-addr=0.0.0.0:6782 \
             --ipalloc-range=10.32.0.0/12 --conn-limit=200"
        );
        assert_eq!(settings.expose, [Expose::Any]);
        assert_eq!(settings.connection_limit, Some(200));
        assert!(!settings.is_origin_given && settings.peers.is_none());
    }

    #[test]
    fn every_variable_has_an_effect() {
        let plain = read(&[("HOSTNAME", "n")], &[]).unwrap();
        for (name, value, shown) in [
            ("IPALLOC_RANGE", "10.0.0.0/16", "--ipalloc-range=10.0.0.0/16"),
            ("IPALLOC_INIT", "observer", "--ipalloc-init=observer"),
            ("KUBE_PEERS", "192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2"),
            ("CONN_LIMIT", "0", "--conn-limit=0"),
            ("WEAVE_MTU", "8000", "--mtu=8000"),
            ("WEAVE_NO_FASTDP", "1", "--no-fastdp=true"),
            ("WEAVE_HTTP_ADDR", "127.0.0.1:7784", "--http-addr=127.0.0.1:7784"),
            ("WEAVE_METRICS_ADDR", "127.0.0.1:7782", "--metrics-addr=127.0.0.1:7782"),
            ("WEAVE_STATUS_ADDR", "0.0.0.0:7783", "--status-addr=0.0.0.0:7783"),
            ("DB_PREFIX", "/data/x", "--db-prefix=/data/x"),
            ("HOST_ROOT", "/mnt", "--host-root=/mnt"),
            ("IPTABLES_BACKEND", "legacy", "--firewall=iptables-legacy"),
            ("EXTRA_ARGS", "--log-level debug", "--log-level debug --port"),
            ("WEAVE_DEBUG", "1", "--log-level=debug"),
        ] {
            let settings = read(&[("HOSTNAME", "n"), (name, value)], &[]).unwrap();
            assert!(line(&settings).contains(shown), "{name}: {}", line(&settings));
            assert!(!line(&plain).contains(shown), "{name}");
        }
        let noted = read(&[("NO_MASQ_LOCAL", "1"), ("EXPECT_NPC", "0")], &[]).unwrap().notes;
        assert!(noted.len() == 1 && noted[0].starts_with("NO_MASQ_LOCAL has no effect"));
        let exposed = read(&[("WEAVE_EXPOSE_IP", "10.32.0.9/12 net:default")], &[]).unwrap();
        let address = Expose::Address("10.32.0.9/12".parse().unwrap());
        assert_eq!(exposed.expose, [address, Expose::Any]);
        let last = read(&[("KUBE_PEERS", "a")], &["--ipalloc-init=observer"]).unwrap();
        assert!(line(&last).ends_with("--conn-limit=200 --ipalloc-init=observer a"));
        assert!(last.is_origin_given);
    }

    #[test]
    fn wrong_values_name_their_variable() {
        for (name, value, reason) in [
            ("IPALLOC_RANGE", "10.32.0.1/12", "10.32.0.1/12 is not a subnet"),
            ("IPALLOC_RANGE", "10.32.0.0", "IPALLOC_RANGE=10.32.0.0: "),
            ("IPALLOC_RANGE", "127.0.0.0/16", "no container can have"),
            ("IPALLOC_INIT", "first", "none of consensus, seed and observer"),
            ("CONN_LIMIT", "many", "CONN_LIMIT=many: "),
            ("CONN_LIMIT", "-1", "CONN_LIMIT=-1: "),
            ("WEAVE_MTU", "100", "neither 0 nor a number from 552"),
            ("WEAVE_HTTP_ADDR", "6784", "WEAVE_HTTP_ADDR=6784: \"6784\" is neither HOST:PORT"),
            ("WEAVE_EXPOSE_IP", "10.32.0.1", "WEAVE_EXPOSE_IP=10.32.0.1: "),
            ("IPTABLES_BACKEND", "ufw", "neither nft nor legacy"),
            ("EXPECT_NPC", "maybe", "neither 0 nor 1"),
            ("NO_MASQ_LOCAL", "2", "neither 0 nor 1"),
        ] {
            let error = read(&[(name, value)], &[]).unwrap_err();
            assert!(error.starts_with(name) && error.contains(reason), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
