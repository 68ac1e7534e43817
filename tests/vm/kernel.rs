//! What the machine is for: parts of the kernel that others lack. Each is used, not only loaded.

use anyhow::{Result, ensure};
use weave_testbed::run;

use crate::lab;

/// Runs command lines in a namespace of their own and returns what the last one printed.
fn in_a_namespace(lines: &[&str]) -> Result<String> {
    let lab = lab()?;
    let namespace = lab.namespace("kernel")?;
    let printed = lines.iter().try_fold(String::new(), |_, line| namespace.exec(line))?;
    lab.finish()?;
    Ok(printed)
}

#[test]
fn open_vswitch_answers_generic_netlink() -> Result<()> {
    run("modprobe", &["-a", "openvswitch", "vport_vxlan"])?;
    let families = run("genl", &["ctrl", "list"])?;
    for family in ["ovs_datapath", "ovs_vport", "ovs_flow", "ovs_packet"] {
        ensure!(families.contains(&format!("Name: {family}\n")), "no {family}:\n{families}");
    }
    Ok(())
}

#[test]
fn esp_takes_keys() -> Result<()> {
    let states = in_a_namespace(&[
        "ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x101 mode transport \
         aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128",
        "ip xfrm state",
    ])?;
    ensure!(states.contains("proto esp spi 0x00000101"), "{states}");
    Ok(())
}

#[test]
fn netem_shapes_a_dummy_device() -> Result<()> {
    let disciplines = in_a_namespace(&[
        "ip link add dummy1 type dummy",
        "ip link set dummy1 up",
        "tc qdisc add dev dummy1 root netem loss 1% delay 10ms 2ms",
        "tc qdisc show dev dummy1",
    ])?;
    ensure!(disciplines.contains("netem") && disciplines.contains("loss 1%"), "{disciplines}");
    Ok(())
}

#[test]
fn nf_tables_takes_rules() -> Result<()> {
    let rules = in_a_namespace(&[
        "nft add table inet filter",
        "nft add chain inet filter input { type filter hook input priority 0 ; }",
        "nft add rule inet filter input meta mark 0x20000 counter accept",
        "nft list ruleset",
    ])?;
    ensure!(rules.contains("meta mark 0x00020000 counter"), "{rules}");
    Ok(())
}

#[test]
fn a_vxlan_device_takes_its_tunnel_from_each_frame() -> Result<()> {
    let link = in_a_namespace(&[
        "ip link add vxlan1 type vxlan external dstport 6784",
        "ip -details link show vxlan1",
    ])?;
    ensure!(link.contains("vxlan external"), "{link}");
    Ok(())
}
