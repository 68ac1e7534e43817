//! What lies between the two hosts.

use anyhow::{Context, Result};
use weave_testbed::{Host, Lab, Namespace};

/// MTU of an ordinary Ethernet.
const MTU: u32 = 1500;

/// The network between the hosts.
pub struct Underlay {
    addresses: [String; 2],
    devices: [String; 2],
    /// Drops packets, if anything does.
    lossy: Option<Namespace>,
}

impl Underlay {
    /// Joins the hosts; the network loses `loss` per cent of the packets in both directions.
    pub fn new(lab: &Lab, hosts: &[Host; 2], loss: f64) -> Result<Self> {
        let [h1, h2] = hosts;
        if loss <= 0.0 {
            let wire = lab.wire(h1, h2, MTU)?;
            return Ok(Self {
                addresses: [wire.a(), wire.b()].map(str::to_owned),
                devices: [wire.device_a(), wire.device_b()].map(str::to_owned),
                lossy: None,
            });
        }
        let switch = lab.switch(&[h1, h2], MTU)?;
        for host in hosts {
            // A GSO batch is cut before it leaves the host, so that packets are lost one by one,
            // and joined only where it has arrived, as with network cards.
            host.namespace.exec(
                "ethtool -K eth0 tso off tx-udp-segmentation off tx-udp_tnl-segmentation off \
                 tx-udp_tnl-csum-segmentation off gro on",
            )?;
        }
        switch.exec("nft add table netdev loss")?;
        for port in ["p1", "p2"] {
            switch.exec(&format!(
                "nft add chain netdev loss {port} {{ type filter hook ingress device {port} priority 0 ; }}"
            ))?;
            switch.exec(&format!("nft add rule netdev loss {port} {} counter drop", rule(loss)))?;
        }
        Ok(Self {
            addresses: [1, 2].map(|i| format!("192.168.50.{i}")),
            devices: ["eth0", "eth0"].map(str::to_owned),
            lossy: Some(switch),
        })
    }

    /// Of the first and of the second host.
    pub fn addresses(&self) -> [&str; 2] {
        self.addresses.each_ref().map(String::as_str)
    }

    /// On the first and on the second host.
    pub fn devices(&self) -> [&str; 2] {
        self.devices.each_ref().map(String::as_str)
    }

    /// Packets that were dropped on purpose so far; none if there is no loss.
    pub fn dropped(&self) -> Result<Option<u64>> {
        let Some(switch) = &self.lossy else { return Ok(None) };
        Ok(Some(counted(&switch.exec("nft list table netdev loss")?)))
    }

    /// Bytes that a host has received so far.
    pub fn received(&self, host: &Host, index: usize) -> Result<u64> {
        let device = self.devices()[index];
        let table = host.namespace.exec("cat /proc/net/dev")?;
        received_bytes(&table, device).with_context(|| format!("no device {device}"))
    }
}

/// A condition of nft that holds for this share of the packets.
fn rule(loss: f64) -> String {
    format!("numgen random mod 100000 < {:.0}", loss * 1000.0)
}

/// The sum of the counters in a listing of nft.
fn counted(listing: &str) -> u64 {
    let counts = listing.split("counter packets ").skip(1);
    counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// From `/proc/net/dev`.
fn received_bytes(table: &str, device: &str) -> Option<u64> {
    let line =
        table.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_dropped_packets() {
        assert_eq!(rule(0.1), "numgen random mod 100000 < 100");
        assert_eq!(rule(1.0), "numgen random mod 100000 < 1000");
    }

    #[test]
    fn counters_of_nft_are_added() {
        let listing = "table netdev loss {\n chain p1 {\n  numgen random mod 100000 < 100 counter packets 12 \
            bytes 900 drop\n }\n chain p2 {\n  x counter packets 30 bytes 1 drop\n }\n}";
        assert_eq!(counted(listing), 42);
        assert_eq!(counted(""), 0);
    }

    #[test]
    fn received_bytes_of_a_device() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes    packets\n    lo:       0       0 0\n\
              u1b: 123456    99 0 0\n u1:5 6\n";
        assert_eq!(received_bytes(table, "u1b"), Some(123_456));
        assert_eq!(received_bytes(table, "u1"), Some(5));
        assert_eq!(received_bytes(table, "eth0"), None);
    }
}
