//! The network that the stock plugins make: a bridge on each node, and routes between them. Only
//! traffic that leaves the pods' addresses is masqueraded, which the plugin itself cannot tell.

use anyhow::Result;
use serde_json::json;

use super::Node;
use super::options::PODS;

/// Addresses of the pods of a node.
fn subnet(node: &Node<'_>) -> String {
    format!("10.32.{}.0/24", node.number())
}

pub(super) fn apply(node: &Node<'_>, all: &[Node<'_>]) -> Result<()> {
    for other in all.iter().filter(|other| other.number() != node.number()) {
        node.run(&format!("ip route replace {} via {}", subnet(other), other.address()))?;
    }
    let masquerade = format!("POSTROUTING -s {PODS} ! -d {PODS} -j MASQUERADE");
    node.shell(&format!(
        "iptables -t nat -C {masquerade} 2> /dev/null || iptables -t nat -A {masquerade}"
    ))?;
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "bridge",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "ranges": [[{ "subnet": subnet(node) }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    // Kubelet reads the folder at any moment: the file appears whole.
    node.shell(&format!("cd /etc/cni/net.d && echo '{list}' > new && mv new 10-bridge.conflist"))?;
    Ok(())
}
