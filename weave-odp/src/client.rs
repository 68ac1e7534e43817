//! Asking the kernel, and waiting for the answer.

use weave_netlink::{Answer, DecodeError, Errno, Error, Exchange, Protocol, Socket, Transport};

use crate::action::Action;
use crate::datapath::{Datapath, DatapathId};
use crate::family::{FAMILIES, Families, Family, FamilyId, FamilyInfo};
use crate::flow::{DumpedFlow, Flow};
use crate::generic::Generic;
use crate::key::FlowMatch;
use crate::request::{Request, look_up_family};
use crate::vport::{PortNumber, Vport, VportKind};

/// The flows of a datapath.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowDump {
    /// Those this crate understands.
    pub flows: Vec<DumpedFlow>,
    /// Why it left out others.
    pub skipped: Vec<DecodeError>,
}

/// What datapaths can be asked to do. Every call but [`Client::execute`] waits for the kernel's
/// answer, which takes microseconds.
#[derive(Debug)]
pub struct Client<T = Socket> {
    exchange: Exchange<T>,
    families: Families,
}

impl Client {
    /// Opens a socket and looks the families up. If they are missing, the kernel is asked to
    /// load the module.
    ///
    /// # Errors
    /// There is no module, or no socket.
    pub fn open() -> Result<Self, Error> {
        let socket = || {
            let request = "open a socket for generic netlink";
            Socket::open(Protocol::Generic).map_err(|source| Error::Socket { request, source })
        };
        match Self::new(socket()?) {
            Err(Error::NoSupport { .. }) => {
                // Asking for an interface that is missing makes the kernel load the module of
                // its name; that there is none afterwards either is no surprise.
                let _none = nix::net::if_::if_nametoindex("openvswitch");
                Self::new(socket()?)
            }
            opened => opened,
        }
    }
}

impl<T: Transport> Client<T> {
    /// Looks the families up.
    ///
    /// # Errors
    /// One of them is missing, or the transport fails.
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

    /// The numbers of the families.
    pub const fn families(&self) -> &Families {
        &self.families
    }

    /// Errors so far that belong to no request whose answer was waited for: packets that the
    /// kernel did not want to [`execute`](Self::execute).
    pub const fn strays(&self) -> u64 {
        self.exchange.strays()
    }

    /// Creates a datapath.
    ///
    /// # Errors
    /// `EEXIST` if there is an interface of this name.
    pub fn create_datapath(&mut self, name: &str) -> Result<Datapath, Error> {
        self.ask(&Request::CreateDatapath { name }, Datapath::decode)
    }

    /// Looks a datapath up.
    ///
    /// # Errors
    /// `ENODEV` if there is none of this name.
    pub fn datapath(&mut self, name: &str) -> Result<Datapath, Error> {
        self.ask(&Request::Datapath { name }, Datapath::decode)
    }

    /// Changes what a datapath does, e.g. back to [`FEATURES`](crate::FEATURES).
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn set_features(&mut self, datapath: DatapathId, features: u32) -> Result<(), Error> {
        self.tell(&Request::SetFeatures { datapath, features })
    }

    /// Deletes a datapath with its ports and flows.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn delete_datapath(&mut self, datapath: DatapathId) -> Result<(), Error> {
        self.tell(&Request::DeleteDatapath(datapath))
    }

    /// Creates a port.
    ///
    /// # Errors
    /// See [`Request::CreateVport`].
    pub fn create_vport(
        &mut self,
        datapath: DatapathId,
        name: &str,
        kind: VportKind,
    ) -> Result<Vport, Error> {
        self.ask(&Request::CreateVport { datapath, name, kind }, Vport::decode)
    }

    /// Looks a port up.
    ///
    /// # Errors
    /// `ENODEV` if there is none of this number.
    pub fn vport(&mut self, datapath: DatapathId, port: PortNumber) -> Result<Vport, Error> {
        self.ask(&Request::Vport { datapath, port }, Vport::decode)
    }

    /// The ports of a datapath.
    ///
    /// # Errors
    /// `ENODEV` if there is no such datapath.
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
    /// `ENODEV` if there is none.
    pub fn delete_vport(&mut self, datapath: DatapathId, port: PortNumber) -> Result<(), Error> {
        self.tell(&Request::DeleteVport { datapath, port })
    }

    /// Shares the misses of a port out to sockets, by their port ids.
    ///
    /// # Errors
    /// `ENODEV` if there is no such port.
    pub fn set_upcalls(
        &mut self,
        datapath: DatapathId,
        port: PortNumber,
        sockets: &[u32],
    ) -> Result<(), Error> {
        self.tell(&Request::SetUpcalls { datapath, port, sockets })
    }

    /// Creates a flow, or replaces the actions of one.
    ///
    /// # Errors
    /// `EINVAL` if it makes no sense, e.g. an output to a port that is not there.
    pub fn put_flow(&mut self, datapath: DatapathId, flow: &Flow) -> Result<(), Error> {
        self.tell(&Request::PutFlow { datapath, flow })
    }

    /// Deletes a flow.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn delete_flow(&mut self, datapath: DatapathId, matches: &FlowMatch) -> Result<(), Error> {
        self.tell(&Request::DeleteFlow { datapath, matches })
    }

    /// Deletes all flows of a datapath.
    ///
    /// # Errors
    /// `ENODEV` if there is no such datapath.
    pub fn delete_flows(&mut self, datapath: DatapathId) -> Result<(), Error> {
        self.tell(&Request::DeleteFlows(datapath))
    }

    /// Sets the counters of a flow to zero and its actions to these.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn clear_flow(&mut self, datapath: DatapathId, flow: &Flow) -> Result<(), Error> {
        self.tell(&Request::ClearFlow { datapath, flow })
    }

    /// The flows of a datapath.
    ///
    /// # Errors
    /// `ENODEV` if there is no such datapath.
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

    /// Does something with a packet. Whether the kernel liked it is not waited for: see
    /// [`Client::strays`].
    ///
    /// # Errors
    /// The packet is too long, or the transport fails.
    pub fn execute(
        &mut self,
        datapath: DatapathId,
        packet: &[u8],
        actions: &[Action],
    ) -> Result<(), Error> {
        self.send(&Request::Execute { datapath, packet, actions })
    }

    /// Creates a flow, or replaces the actions of one, and then does to this packet what the flow
    /// does to the next ones: by one system call. The second is as [`Client::execute`].
    ///
    /// # Errors
    /// As [`Client::put_flow`]; the packet is dealt with all the same, unless it is too long or the
    /// transport fails.
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
            // A number whose answer nobody waits for any more.
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
    fn ask<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl FnOnce(&[u8]) -> Result<A, DecodeError>,
    ) -> Result<A, Error> {
        self.send(request)?;
        let family = self.families.id(request.family());
        let missing = DecodeError::Missing { what: "answer but an acknowledgement" };
        self.single(request.name(), family, decode)?
            .ok_or(Error::Answer { request: request.name(), source: missing })
    }

    /// Sends a request whose answer says nothing new.
    fn tell(&mut self, request: &Request<'_>) -> Result<(), Error> {
        self.send(request)?;
        let family = self.families.id(request.family());
        self.single(request.name(), family, |_| Ok(())).map(drop)
    }

    /// Waits for an answer of one message; `None` is an acknowledgement.
    fn single<A>(
        &mut self,
        request: &'static str,
        expected: FamilyId,
        decode: impl FnOnce(&[u8]) -> Result<A, DecodeError>,
    ) -> Result<Option<A>, Error> {
        let mut decode = Some(decode);
        self.exchange.conclude(request, |answer| match answer {
            Answer::Acknowledged => Ok(Some(None)),
            Answer::Entry { kind, payload } if kind == expected.0 => {
                let payload = Generic::decode(payload)?.payload;
                decode.take().map(|decode| decode(payload).map(Some)).transpose()
            }
            Answer::Entry { .. } => Ok(None),
        })
    }

    /// Sends a request that is answered by a list.
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
