//! Both ways in which kube-proxy leads to a pod.

use anyhow::Result;
use weave_testbed::cluster::ProxyMode;

use crate::network;
use crate::services::reach_a_service;

#[test]
fn services_are_reached_by_rules_of_nftables_as_by_those_of_iptables() -> Result<()> {
    let nodes = network::ready()?;
    let cluster = super::cluster()?;
    for mode in [ProxyMode::Nftables, ProxyMode::Iptables] {
        cluster.set_proxy_mode(mode)?;
        reach_a_service(&nodes)?;
    }
    Ok(())
}
