//! A client of the kernel's datapaths.

use weave_netlink::{Answer, DecodeError, Errno, Error, Exchange, Protocol, Socket, Transport};

use crate::action::Action;
use crate::datapath::{Datapath, DatapathId};
use crate::family::{FAMILIES, Families, Family, FamilyId, FamilyInfo};
use crate::flow::{DumpedFlow, Flow};
use crate::generic::Generic;
use crate::key::FlowMatch;
use crate::request::{Request, look_up_family};
use crate::vport::{PortNumber, Vport, VportKind};

/// A list of the flows of a datapath.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowDump {
    /// Flows that this crate understands.
    pub flows: Vec<DumpedFlow>,
    /// Reasons why other flows were left out.
    pub skipped: Vec<DecodeError>,
}

/// A client creates, lists and deletes datapaths, their ports and their flows. Every call but
/// [`Client::execute`] waits for the kernel's answer, which takes microseconds.
#[derive(Debug)]
pub struct Client<T = Socket> {
    exchange: Exchange<T>,
    families: Families,
}

impl Client {
    /// Opens a client and looks up the families. If they are missing, the kernel is made to load
    /// the module.
    ///
    /// # Errors
    /// Fails if the module is missing, or if no socket can be opened.
    pub fn open() -> Result<Self, Error> {
        let socket = || {
            let request = "open a socket for generic netlink";
            Socket::open(Protocol::Generic).map_err(|source| Error::Socket { request, source })
        };
        match Self::new(socket()?) {
            Err(Error::NoSupport { .. }) => {
                // Looking up a missing interface makes the kernel load the module of its name.
                // The interface is still missing afterwards.
                let _none = nix::net::if_::if_nametoindex("openvswitch");
                Self::new(socket()?)
            }
            opened => opened,
        }
    }
}

impl<T: Transport> Client<T> {
    /// Creates a client over this transport and looks up the families.
    ///
    /// # Errors
    /// Fails if one of the families is missing, or if the transport fails.
    pub fn new(transport: T) -> Result<Self, Error> {
        let unknown = FamilyId(0);
        let families = Families {
            datapath: unknown,
            vport: unknown,
            flow: unknown,
            packet: unknown,
            vport_group: 0,
        };
        let mut client = Self { exchange: Exchange::new(transport), families };
        for family in FAMILIES {
            client.look_up(family)?;
        }
        Ok(client)
    }

    /// Returns the numbers of the families.
    pub const fn families(&self) -> &Families {
        &self.families
    }

    /// Returns how many packets the kernel has refused to [`execute`](Self::execute) so far.
    pub const fn strays(&self) -> u64 {
        self.exchange.strays()
    }

    /// Creates a datapath.
    ///
    /// # Errors
    /// Fails with `EEXIST` if there is an interface of this name.
    pub fn create_datapath(&mut self, name: &str) -> Result<Datapath, Error> {
        self.query(&Request::CreateDatapath { name }, Datapath::decode)
    }

    /// Looks up a datapath.
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is none of this name.
    pub fn datapath(&mut self, name: &str) -> Result<Datapath, Error> {
        self.query(&Request::Datapath { name }, Datapath::decode)
    }

    /// Sets the features of a datapath, e.g. back to [`FEATURES`](crate::FEATURES).
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is no such datapath.
    pub fn set_features(&mut self, datapath: DatapathId, features: u32) -> Result<(), Error> {
        self.command(&Request::SetFeatures { datapath, features })
    }

    /// Deletes a datapath with its ports and flows.
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is no such datapath.
    pub fn delete_datapath(&mut self, datapath: DatapathId) -> Result<(), Error> {
        self.command(&Request::DeleteDatapath(datapath))
    }

    /// Creates a port.
    ///
    /// # Errors
    /// Fails for the reasons given at [`Request::CreateVport`].
    pub fn create_vport(
        &mut self,
        datapath: DatapathId,
        name: &str,
        kind: VportKind,
    ) -> Result<Vport, Error> {
        self.query(&Request::CreateVport { datapath, name, kind }, Vport::decode)
    }

    /// Looks up a port.
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is none of this number.
    pub fn vport(&mut self, datapath: DatapathId, port: PortNumber) -> Result<Vport, Error> {
        self.query(&Request::Vport { datapath, port }, Vport::decode)
    }

    /// Lists the ports of a datapath.
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is no such datapath.
    pub fn vports(&mut self, datapath: DatapathId) -> Result<Vec<Vport>, Error> {
        let answers = self.dump(&Request::Vports(datapath), Vport::decode)?;
        let request = Request::Vports(datapath).name();
        answers
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|source| Error::Answer { request, source })
    }

    /// Deletes a port.
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is no such port.
    pub fn delete_vport(&mut self, datapath: DatapathId, port: PortNumber) -> Result<(), Error> {
        self.command(&Request::DeleteVport { datapath, port })
    }

    /// Distributes the misses of a port over sockets, which are given by their port ids.
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is no such port.
    pub fn set_upcalls(
        &mut self,
        datapath: DatapathId,
        port: PortNumber,
        sockets: &[u32],
    ) -> Result<(), Error> {
        self.command(&Request::SetUpcalls { datapath, port, sockets })
    }

    /// Creates a flow, or replaces its actions.
    ///
    /// # Errors
    /// Fails with `EINVAL` if the flow is invalid, e.g. if it has an output to a missing port.
    pub fn put_flow(&mut self, datapath: DatapathId, flow: &Flow) -> Result<(), Error> {
        self.command(&Request::PutFlow { datapath, flow })
    }

    /// Deletes a flow.
    ///
    /// # Errors
    /// Fails with `ENOENT` if there is no such flow.
    pub fn delete_flow(&mut self, datapath: DatapathId, matches: &FlowMatch) -> Result<(), Error> {
        self.command(&Request::DeleteFlow { datapath, matches })
    }

    /// Deletes all flows of a datapath.
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is no such datapath.
    pub fn delete_flows(&mut self, datapath: DatapathId) -> Result<(), Error> {
        self.command(&Request::DeleteFlows(datapath))
    }

    /// Resets the counters of a flow and replaces its actions.
    ///
    /// # Errors
    /// Fails with `ENOENT` if there is no such flow.
    pub fn clear_flow(&mut self, datapath: DatapathId, flow: &Flow) -> Result<(), Error> {
        self.command(&Request::ClearFlow { datapath, flow })
    }

    /// Lists the flows of a datapath.
    ///
    /// # Errors
    /// Fails with `ENODEV` if there is no such datapath.
    pub fn flows(&mut self, datapath: DatapathId) -> Result<FlowDump, Error> {
        let mut dump = FlowDump::default();
        for answer in self.dump(&Request::Flows(datapath), DumpedFlow::decode)? {
            match answer {
                Ok(flow) => dump.flows.push(flow),
                Err(error) => dump.skipped.push(error),
            }
        }
        Ok(dump)
    }

    /// Applies actions to a packet, without waiting for the kernel's answer: see
    /// [`Client::strays`].
    ///
    /// # Errors
    /// Fails if the packet is too long, or if the transport fails.
    pub fn execute(
        &mut self,
        datapath: DatapathId,
        packet: &[u8],
        actions: &[Action],
    ) -> Result<(), Error> {
        self.send(&Request::Execute { datapath, packet, actions })
    }

    /// Creates a flow or replaces its actions, and applies the same actions to this packet, by one
    /// system call. The kernel's answer for the packet is not waited for, as by
    /// [`Client::execute`].
    ///
    /// # Errors
    /// Fails as [`Client::put_flow`] does. The packet is executed all the same, unless it is too
    /// long or the transport fails.
    pub fn put_flow_and_execute(
        &mut self,
        datapath: DatapathId,
        flow: &Flow,
        packet: &[u8],
    ) -> Result<(), Error> {
        let Self { exchange, families } = self;
        let put = Request::PutFlow { datapath, flow };
        let execute = Request::Execute { datapath, packet, actions: &flow.actions };
        exchange.send(put.name(), |sequence, to| {
            put.encode(families, sequence, to)?;
            // A sequence number whose answer is not waited for.
            execute.encode(families, sequence.wrapping_sub(1), to)
        })?;
        let family = families.id(put.family());
        self.single(put.name(), family, |_| Ok(())).map(drop)
    }

    fn look_up(&mut self, family: Family) -> Result<(), Error> {
        let request = "look up a family";
        self.exchange.send(request, |sequence, to| look_up_family(family.name(), sequence, to))?;
        let info = self
            .single(request, FamilyId::CONTROL, FamilyInfo::decode)
            .map_err(|error| match error.errno() {
                Some(Errno::ENOENT) => Error::NoSupport { what: family.missing() },
                _ => error,
            })?
            .ok_or(Error::NoSupport { what: family.missing() })?;
        match family {
            Family::Datapath => self.families.datapath = info.id,
            Family::Vport => {
                self.families.vport = info.id;
                let missing = DecodeError::Missing { what: "multicast group ovs_vport" };
                self.families.vport_group =
                    info.group(family.name()).ok_or(Error::Answer { request, source: missing })?;
            }
            Family::Flow => self.families.flow = info.id,
            Family::Packet => self.families.packet = info.id,
        }
        Ok(())
    }

    fn send(&mut self, request: &Request<'_>) -> Result<(), Error> {
        let Self { exchange, families } = self;
        exchange.send(request.name(), |sequence, to| request.encode(families, sequence, to))
    }

    /// Sends a request that is answered by one message.
    fn query<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl FnOnce(&[u8]) -> Result<A, DecodeError>,
    ) -> Result<A, Error> {
        self.send(request)?;
        let family = self.families.id(request.family());
        let missing = DecodeError::Missing { what: "answer beside the acknowledgement" };
        self.single(request.name(), family, decode)?
            .ok_or(Error::Answer { request: request.name(), source: missing })
    }

    /// Sends a request whose answer has no information.
    fn command(&mut self, request: &Request<'_>) -> Result<(), Error> {
        self.send(request)?;
        let family = self.families.id(request.family());
        self.single(request.name(), family, |_| Ok(())).map(drop)
    }

    /// Waits for an answer of one message; `None` if it is an acknowledgement.
    fn single<A>(
        &mut self,
        request: &'static str,
        expected: FamilyId,
        decode: impl FnOnce(&[u8]) -> Result<A, DecodeError>,
    ) -> Result<Option<A>, Error> {
        let mut decode = Some(decode);
        self.exchange.wait_for(request, |answer| match answer {
            Answer::Acknowledged => Ok(Some(None)),
            Answer::Entry { kind, payload } if kind == expected.0 => {
                let payload = Generic::decode(payload)?.payload;
                decode.take().map(|decode| decode(payload).map(Some)).transpose()
            }
            Answer::Entry { .. } => Ok(None),
        })
    }

    /// Sends a request that is answered by a list of entries.
    fn dump<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<A, DecodeError>,
    ) -> Result<Vec<Result<A, DecodeError>>, Error> {
        let Self { exchange, families } = self;
        let expected = families.id(request.family());
        exchange.list(
            request.name(),
            |sequence, to| request.encode(families, sequence, to),
            |kind, payload| {
                let entry = || Ok(decode(Generic::decode(payload)?.payload));
                (kind == expected.0).then(entry).transpose()
            },
        )
    }
}

#[cfg(test)]
mod tests;
