//! A pair of interfaces whose end for the container is moved there by somebody else, as Docker's
//! libnetwork does. Needs root.

mod common;

use std::fs::{self, File};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use weave_core::wire::MacAddress;
use weave_host::{
    BRIDGE_NAME, BridgeConfig, HostError, Ports, VethPair, attached_ids, create_pair, mend_ports,
    prepare_bridge, remove_port_of,
};
use weave_rtnl::{Client, LinkChange};

use common::isolated;

const MAC: MacAddress = MacAddress([0x7a, 0x9f, 0xeb, 0xb6, 0x0c, 0x6e]);

fn pair() -> VethPair<'static> {
    VethPair {
        bridge: BRIDGE_NAME,
        id: "3f2a9c4",
        holder: Some("3f2a9c41"),
        mac: Some(MacAddress([2, 0, 0, 0, 0, 7])),
        mtu: None,
        hairpin: true,
    }
}

#[test]
fn the_runtime_moves_one_end_and_the_port_stays() {
    isolated(|| {
        let missing = create_pair(&pair()).unwrap_err();
        assert!(matches!(missing, HostError::NoInterface { .. }), "{missing}");
        let config = BridgeConfig { name: BRIDGE_NAME.to_owned(), mac: MAC, mtu: 1376 };
        prepare_bridge(&config).unwrap();
        let (port, movable) = create_pair(&pair()).unwrap();
        assert_eq!(movable.mac, MacAddress([2, 0, 0, 0, 0, 7]));

        let mut host = Client::open().unwrap();
        let found = host.link_by_name(&movable.name).unwrap().unwrap();
        assert_eq!(found.mtu, 1376);
        // A router that starts meanwhile leaves it alone.
        prepare_bridge(&config).unwrap();
        let namespace = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let namespace = namespace.join().unwrap();
        host.change(&found, LinkChange::Namespace(&namespace)).unwrap();

        let found = host.link_by_name(&port.name).unwrap().unwrap();
        assert!(found.up && found.port.hairpin == Some(true) && found.peer_namespace.is_some());
        let Ports { there, mended, .. } = mend_ports(BRIDGE_NAME).unwrap();
        assert_eq!((there.len(), mended.len()), (1, 0));
        assert!(attached_ids().unwrap().contains("3f2a9c41"));
        assert!(create_pair(&pair()).is_err(), "its name is taken");
        assert!(host.link_by_name(&port.name).unwrap().is_some());
        assert!(remove_port_of("3f2a9c41").unwrap());
        assert!(host.link_by_name(&port.name).unwrap().is_none());
    });
}

#[test]
fn a_pair_that_cannot_be_connected_is_removed() {
    isolated(|| {
        let config = BridgeConfig { name: BRIDGE_NAME.to_owned(), mac: MAC, mtu: 1376 };
        prepare_bridge(&config).unwrap();
        // A group address, which no interface can have.
        let mac = Some(MacAddress([3, 0, 0, 0, 0, 7]));
        assert!(create_pair(&VethPair { mac, ..pair() }).is_err());
        let names = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert!(!names.contains("vethwep"), "{names}");
    });
}
