//! Creating or adopting the datapath (spec fastdp.md, section 3).

use std::thread::sleep;
use std::time::Duration;

use weave_odp::{Client, Datapath, DatapathId, Errno, FEATURES, Vport, VportKind};

use super::config::{OdpConfig, StartError};

/// Number of attempts to get a UDP port, and the pause between them: the kernel releases one some
/// time after the port of the datapath is deleted.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Returns the name of the port for VXLAN on this UDP port.
pub(super) fn vxlan_name(port: u16) -> String {
    format!("vxlan-{port}")
}

/// Creates or adopts the datapath with its VXLAN port, and removes other VXLAN ports of an earlier
/// router.
pub(super) fn prepare(
    client: &mut Client,
    config: &OdpConfig,
) -> Result<(Datapath, Vport), StartError> {
    let (datapath, created) = match client.create_datapath(&config.datapath) {
        Ok(datapath) => (datapath, true),
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            (client.datapath(&config.datapath)?, false)
        }
        Err(error) => return Err(error.into()),
    };
    let prepared = adopt_or_clear(client, &datapath, config).and_then(|adopted| match adopted {
        Some(vport) => Ok(vport),
        None => create_vxlan_port(client, datapath.id, config.port),
    });
    let prepared = prepared.and_then(|vport| {
        // Another program may have changed the features of an adopted datapath.
        if !created && datapath.features != Some(FEATURES) {
            client.set_features(datapath.id, FEATURES)?;
        }
        Ok(vport)
    });
    match prepared {
        Ok(vport) => Ok((datapath, vport)),
        Err(error) => {
            if created {
                // The first error is the one that matters.
                let _ = client.delete_datapath(datapath.id);
            }
            Err(error)
        }
    }
}

/// Removes the VXLAN ports of an earlier router, but for one that can be adopted.
fn adopt_or_clear(
    client: &mut Client,
    datapath: &Datapath,
    config: &OdpConfig,
) -> Result<Option<Vport>, StartError> {
    let mut adopted = None;
    for vport in client.vports(datapath.id)? {
        let VportKind::Vxlan { udp_port } = vport.kind else { continue };
        let is_ours = udp_port == Some(config.port) && vport.name == vxlan_name(config.port);
        if config.adopt && is_ours {
            adopted = Some(vport);
        } else {
            client.delete_vport(datapath.id, vport.number)?;
        }
    }
    Ok(adopted)
}

/// Creates the port for VXLAN on this UDP port.
pub(super) fn create_vxlan_port(
    client: &mut Client,
    datapath: DatapathId,
    port: u16,
) -> Result<Vport, StartError> {
    let (name, kind) = (vxlan_name(port), VportKind::Vxlan { udp_port: Some(port) });
    for _ in 0..ATTEMPTS {
        match client.create_vport(datapath, &name, kind) {
            Ok(vport) => return Ok(vport),
            Err(error) => match error.errno() {
                Some(Errno::EADDRINUSE | Errno::EEXIST) => sleep(PAUSE),
                Some(Errno::EAFNOSUPPORT) => return Err(StartError::NoVxlan),
                _ => return Err(error.into()),
            },
        }
    }
    Err(StartError::PortTaken(port))
}
