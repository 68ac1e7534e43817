//! The ports of the datapath, as they appear and disappear in the kernel.

use std::sync::Arc;

use weave_odp::{Client, Errno, Error, FEATURES, PortNumber, Vport, VportKind};

use super::config::StartError;
use super::setup::{create_vxlan_port, vxlan_name};
use super::shared::Shared;
use crate::error::{SharedError, TunnelError};

impl Shared {
    /// Adds all ports that exist, and removes those that do not.
    pub(super) fn list_vports(&self, client: &mut Client) -> Result<(), Error> {
        let vports = client.vports(self.datapath)?;
        let present: Vec<_> = vports.iter().map(|vport| vport.number).collect();
        let gone: Vec<_> = self.state.local(|local| {
            local.vports().filter(|vport| !present.contains(&vport.number)).cloned().collect()
        });
        for vport in gone {
            self.remove_vport(&vport);
        }
        vports.into_iter().try_for_each(|vport| self.add_vport(client, vport))
    }

    /// Adds a port unless it is known. The kernel announces a port again when it is told where its
    /// misses go.
    pub(super) fn add_vport(&self, client: &mut Client, vport: Vport) -> Result<(), Error> {
        if vport.datapath != self.datapath || self.state.local(|local| local.contains(&vport)) {
            return Ok(());
        }
        let sockets = match vport.kind {
            VportKind::Vxlan { .. } => &self.upcalls.tunnel[..],
            _ => &self.upcalls.local,
        };
        match client.set_upcalls(self.datapath, vport.number, sockets) {
            // It was deleted meanwhile.
            Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(()),
            result => result?,
        }
        let is_own = vport.name == self.config.own_port;
        if self.state.local(|local| local.add(vport, is_own)) {
            self.signals.invalidate();
        }
        Ok(())
    }

    /// Removes a port, and recreates it if tunnels use it.
    pub(super) fn remove_vport(&self, vport: &Vport) {
        if vport.datapath != self.datapath {
            return;
        }
        if self.state.local(|local| local.remove(vport.number)) {
            self.signals.invalidate();
        }
        let tunnel_ports = self.tunnel_ports();
        let users =
            || tunnel_ports.by_neighbour.values().filter(|port| port.vport() == vport.number);
        let Some(first) = users().next() else { return };
        let name = &vport.name;
        match self.vxlan_port(first.params.port) {
            Ok(number) => {
                tracing::warn!(
                    "another program deleted port {name} of the datapath: it is recreated"
                );
                users().for_each(|port| port.use_vport(number));
                self.signals.invalidate();
            }
            Err(error) => {
                let source = Arc::new(error) as SharedError;
                users().for_each(|port| {
                    let (name, source) = (name.clone(), Arc::clone(&source));
                    port.inbox.failed(TunnelError::PortDeleted { name, source });
                });
            }
        }
    }

    /// Restores the features of the datapath if another program changed them: with others its
    /// misses go nowhere. Returns `false` if the datapath was deleted.
    pub(super) fn check_datapath(&self, client: &mut Client) -> Result<bool, Error> {
        let datapath = match client.datapath(&self.config.datapath) {
            Ok(datapath) if datapath.id == self.datapath => datapath,
            // Another datapath has its name.
            Ok(_) => return Ok(false),
            Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(false),
            Err(error) => return Err(error),
        };
        if datapath.features.is_some_and(|features| features != FEATURES) {
            tracing::warn!(
                "another program changed the features of the datapath: they are restored"
            );
            client.set_features(self.datapath, FEATURES)?;
        }
        Ok(true)
    }

    /// Returns the port for VXLAN on this UDP port, and creates it if it does not exist.
    pub(super) fn vxlan_port(&self, udp_port: u16) -> Result<PortNumber, StartError> {
        let name = vxlan_name(udp_port);
        if let Some(number) = self.state.local(|local| local.named(&name)) {
            return Ok(number);
        }
        let mut client = Client::open()?;
        let vport = create_vxlan_port(&mut client, self.datapath, udp_port)?;
        let number = vport.number;
        self.add_vport(&mut client, vport)?;
        Ok(number)
    }
}
