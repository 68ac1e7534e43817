//! A patch cable in the kernel: a datapath of Open vSwitch that joins two interfaces, one flow for
//! each pair of addresses.
//!
//! ```text
//!   eth1 ──▶ ┌───────────────┐ ──▶ eth2        packets without a flow come up here once
//!            │ datapath patch│
//!   eth1 ◀── └───────────────┘ ◀── eth2
//! ```
//!
//! Run with `cargo run --example datapath eth1 eth2`, as root, on a kernel with the module
//! openvswitch. What to copy: [`patch`]. The test `examples::a_datapath_joins_two_interfaces` runs
//! it.
#![allow(clippy::print_stderr, reason = "a program speaks to its user")]

use std::error::Error;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use weave_odp::{Action, Client, Ethernet, Flow, FlowMatch, Masked, Upcall, Upcalls, VportKind};

/// Joins two interfaces until `stop` says so.
pub fn patch(
    interfaces: [&str; 2],
    mut stop: impl FnMut() -> bool,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut client = Client::open()?;
    let datapath = client.create_datapath("patch")?.id;
    let mut upcalls = Upcalls::open(client.families())?;
    let mut ports = Vec::new();
    for name in interfaces {
        let port = client.create_vport(datapath, name, VportKind::Netdev)?.number;
        client.set_upcalls(datapath, port, &[upcalls.port_id()])?;
        ports.push(port);
    }
    while !stop() {
        let mut fds = [PollFd::new(upcalls.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(100_u8))?;
        upcalls.drain(64, |upcall| {
            let Ok(Upcall { key, packet, .. }) = upcall else { return };
            let others = ports.iter().filter(|port| **port != key.in_port);
            let flow = Flow {
                matches: FlowMatch::new(key.in_port, Masked::<Ethernet>::exact(key.ethernet)),
                actions: others.copied().map(Action::Output).collect(),
            };
            if let Err(error) = client.put_flow_and_execute(datapath, &flow, packet) {
                eprintln!("{error}");
            }
        })?;
    }
    client.delete_datapath(datapath)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [one, other] = &arguments[..] else {
        return Err("usage: datapath INTERFACE INTERFACE".into());
    };
    patch([one, other], || false)
}
