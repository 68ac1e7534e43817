//! Making or adopting the datapath (spec fastdp.md, section 3).

use std::io;
use std::thread::sleep;
use std::time::Duration;

use weave_odp::{Client, Datapath, DatapathId, Errno, Error, FEATURES, Vport, VportKind};

/// How often and how long to wait for a UDP port: the kernel lets go of one some time after the
/// port of the datapath is deleted.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// What the engine is to use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OdpConfig {
    /// The datapath.
    pub datapath: String,
    /// The UDP port on which this router receives VXLAN.
    pub port: u16,
    /// The largest IP packet of the local bridge, in bytes.
    pub mtu: usize,
    /// How many threads answer misses of local ports; one more answers those of tunnels.
    pub threads: usize,
    /// The interface through which other transports get packets and give them, if somebody plugs
    /// it in: see [`OdpEngine::plug`](super::OdpEngine::plug).
    pub own_port: String,
    /// Whether what a router before this one left may go on for a moment: not if it is to be
    /// sealed, or was.
    pub adopt: bool,
}

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// This kernel has no Open vSwitch datapath.
    #[error("this kernel lacks the module openvswitch")]
    NoDatapaths,
    /// It has one without VXLAN.
    #[error("this kernel lacks VXLAN for openvswitch (module vport-vxlan)")]
    NoVxlan,
    /// The UDP port is taken.
    #[error("UDP port {0}, for VXLAN, is used by somebody else")]
    PortTaken(u16),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// A thread, a socket or a table entry is missing.
    #[error("{0}")]
    Resources(#[from] io::Error),
    /// There are too many data threads.
    #[error(transparent)]
    Workers(#[from] weave_core::switch::TooManyWorkers),
}

/// The name of the port for VXLAN on this UDP port.
pub(super) fn vxlan_name(port: u16) -> String {
    format!("vxlan-{port}")
}

/// A datapath of this name with its VXLAN port, and without others of a predecessor.
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
        None => vxlan(client, datapath.id, config.port),
    });
    let prepared = prepared.and_then(|vport| {
        // Another program may have opened what is adopted here.
        if !created && datapath.features != Some(FEATURES) {
            client.set_features(datapath.id, FEATURES)?;
        }
        Ok(vport)
    });
    match prepared {
        Ok(vport) => Ok((datapath, vport)),
        Err(error) => {
            if created {
                // What matters is the first error.
                let _ = client.delete_datapath(datapath.id);
            }
            Err(error)
        }
    }
}

/// Removes the ports for VXLAN of a predecessor, but for the one that can be used further.
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

/// Makes the port for VXLAN on this UDP port.
pub(super) fn vxlan(
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
