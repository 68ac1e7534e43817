//! Creating network interfaces.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd as _};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage, VxlanDf,
};
use weave_netlink::Transport;

use crate::client::Client;
use crate::error::Error;
use crate::operation::Operation;

/// One end of a pair of connected interfaces.
#[derive(Clone, Copy)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// The largest packet, in bytes; that of Ethernet if none.
    pub mtu: Option<u32>,
    /// The network namespace that it is created in; that of the client if none.
    pub namespace: Option<&'a dyn AsFd>,
}

impl<'a> VethEnd<'a> {
    /// Returns an end of this name in the namespace of the client.
    pub const fn named(name: &'a str) -> Self {
        Self { name, mtu: None, namespace: None }
    }

    fn message(&self) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(self.name.to_owned()));
        link.attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        let namespace = self.namespace.map(|namespace| namespace.as_fd().as_raw_fd());
        link.attributes.extend(namespace.map(LinkAttribute::NetNsFd));
        link
    }
}

/// A VXLAN device (RFC 7348) without a default destination: see
/// [`FdbTarget`](crate::FdbTarget). Its outer packets must not be fragmented, and carry no UDP
/// checksum, as most kernels send them. It learns no stations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network identifier of the packets that it receives.
    pub vni: u32,
    /// The address of this host that it sends from and receives at.
    pub local: Ipv4Addr,
    /// The UDP port.
    pub port: u16,
    /// The time to live of outer packets.
    pub ttl: u8,
    /// The largest packet inside, in bytes.
    pub mtu: u32,
}

impl<T: Transport> Client<T> {
    /// Creates a bridge that is down.
    ///
    /// # Errors
    /// Fails if there is an interface of that name, or if the kernel refuses.
    pub fn create_bridge(&mut self, name: &str) -> Result<(), Error> {
        let mut link = VethEnd::named(name).message();
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.create(|| Operation::CreateLink { kind: "bridge", name: name.to_owned() }, link)
    }

    /// Creates a pair of connected interfaces that are down. To create an end in another namespace
    /// costs much less than to move it there.
    ///
    /// # Errors
    /// Fails if there is an interface of one of the names, or if the kernel refuses.
    pub fn create_veth(&mut self, end: &VethEnd<'_>, peer: &VethEnd<'_>) -> Result<(), Error> {
        let mut link = end.message();
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer.message()))),
        ]));
        let (name, peer) = (end.name.to_owned(), peer.name.to_owned());
        self.create(|| Operation::CreateVeth { name, peer }, link)
    }

    /// Creates a VXLAN device that is down.
    ///
    /// # Errors
    /// Fails if there is an interface of that name or one with this VNI, address and port, or if
    /// the kernel refuses.
    pub fn create_vxlan(&mut self, vxlan: &Vxlan<'_>) -> Result<(), Error> {
        let Vxlan { name, vni, local, port, ttl, mtu } = *vxlan;
        let data = vec![
            InfoVxlan::Id(vni),
            InfoVxlan::Local(local),
            InfoVxlan::Port(port),
            InfoVxlan::Learning(false),
            InfoVxlan::Ttl(ttl),
            InfoVxlan::Df(VxlanDf::Set),
            InfoVxlan::UDPCsum(false),
        ];
        let mut link = VethEnd { mtu: Some(mtu), ..VethEnd::named(name) }.message();
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]));
        self.create(|| Operation::CreateLink { kind: "vxlan", name: name.to_owned() }, link)
    }

    fn create(
        &mut self,
        operation: impl FnOnce() -> Operation,
        link: LinkMessage,
    ) -> Result<(), Error> {
        self.execute(operation, &RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }
}
