//! The name of this peer, from what the machine is (spec router.md, section 9).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use weave_core::mesh::PeerName;
use weave_rtnl::Client;

use crate::error::HostError;
use crate::links::mac;
use crate::names::BRIDGE_NAME;

/// So that the name says nothing about the machine's id.
const SALT: &[u8] = b"9oBJ0Jmip-";

/// Returns the name that Weave Net 2.x gives this machine: from the machine id and the id in the
/// firmware. `None` if it has neither. `host_root` is where the file system of the host is
/// mounted, empty or `/` outside of a container. A router with another bridge than the default
/// one is another peer, so that there may be several on a machine.
///
/// # Errors
/// If there is a source that cannot be read.
pub fn derive_peer_name(host_root: &Path, bridge: &str) -> Result<Option<PeerName>, HostError> {
    let in_host = |path: &str| host_root.join(path.trim_start_matches('/'));
    derive(
        &[in_host("/etc/machine-id"), in_host("/var/lib/dbus/machine-id")],
        &["/sys/class/dmi/id/product_uuid".into(), "/sys/hypervisor/uuid".into()],
        if bridge == BRIDGE_NAME { "" } else { bridge },
    )
}

/// Returns the Ethernet address of an interface as a peer name: what a bridge that is there says
/// about the router it belongs to. `None` without such an interface.
///
/// # Errors
/// If the kernel refuses.
pub fn interface_peer_name(interface: &str) -> Result<Option<PeerName>, HostError> {
    let found = Client::open()?.link_by_name(interface)?;
    let name = found.map(|interface| PeerName::from_bytes(mac(&interface).0));
    Ok(name.filter(|name| *name != PeerName::UNKNOWN))
}

fn derive(
    machine: &[PathBuf],
    firmware: &[PathBuf],
    bridge: &str,
) -> Result<Option<PeerName>, HostError> {
    let mut input = read_first(machine)?;
    input.extend(read_first(firmware)?);
    if input.is_empty() {
        return Ok(None);
    }
    input.extend(bridge.bytes());
    let hash = Sha256::new().chain_update(SALT).chain_update(&input).finalize();
    let mut name = [0; 6];
    name.copy_from_slice(&hash[..6]);
    // A unicast address, administered locally (IEEE 802, clause 8).
    name[0] = name[0] & !0x01 | 0x02;
    Ok(Some(PeerName::from_bytes(name)))
}

/// Returns the bytes of the first file that exists, line end included; none is empty.
fn read_first(paths: &[PathBuf]) -> Result<Vec<u8>, HostError> {
    for path in paths {
        match fs::read(path) {
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(HostError::File { path: path.clone(), source }),
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_follows_from_both_ids() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let machine = file("machine-id", "00112233445566778899aabbccddeeff\n");
        let firmware = file("product_uuid", "4c4c4544-0000-1111-2222-333344445555\n");
        let missing = directory.path().join("missing");

        // printf '9oBJ0Jmip-00112233445566778899aabbccddeeff\n4c4c…5555\n' | sha256sum
        let firmware = [firmware];
        let both = derive(&[missing.clone(), machine.clone()], &firmware, "").unwrap();
        assert_eq!(both.unwrap().to_string(), "02:b9:d3:b5:28:97");
        let other = derive(std::slice::from_ref(&machine), &firmware, "other").unwrap();
        assert_ne!(other, both);
        let one = derive(&[machine], std::slice::from_ref(&missing), "").unwrap();
        assert_eq!(one.unwrap().to_string(), "da:28:a6:10:07:b6");
        assert_eq!(derive(std::slice::from_ref(&missing), &[], "other").unwrap(), None);
    }

    #[test]
    fn a_source_that_cannot_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = derive(&[directory.path().to_owned()], &[], "").unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
    }
}
