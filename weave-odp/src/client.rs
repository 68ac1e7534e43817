//! Asking the kernel, and waiting for the answer.

use std::io;

use nix::errno::Errno;

use crate::action::Action;
use crate::datapath::{Datapath, DatapathId};
use crate::error::{DecodeError, TooLong};
use crate::family::{FAMILIES, Families, Family, FamilyId, FamilyInfo};
use crate::flow::{DumpedFlow, Flow};
use crate::key::FlowMatch;
use crate::message::{Body, Message, Messages};
use crate::request::{Request, look_up_family};
use crate::socket::Socket;
use crate::vport::{PortNumber, Vport, VportKind};

/// How often a dump is begun again because what it lists changed meanwhile. Changes are rare
/// next to the microseconds of a dump.
const DUMP_ATTEMPTS: u32 = 10;

/// Carries datagrams to the kernel and back.
pub trait Transport {
    /// Sends a datagram to the kernel.
    ///
    /// # Errors
    /// As the socket has them.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Waits for the next datagram of the kernel and puts it into `buffer`.
    ///
    /// # Errors
    /// As the socket has them; `ENOBUFS` if datagrams were lost.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()>;
}

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no such family: its module `openvswitch` is not there.
    #[error("this kernel has no {family}: the module openvswitch is missing")]
    NoFamily {
        /// Which family.
        family: &'static str,
    },
    /// The kernel refused the request.
    #[error("{request}: {errno}")]
    Refused {
        /// The request.
        request: &'static str,
        /// Its reason.
        errno: Errno,
    },
    /// The socket failed.
    #[error("{request}: the netlink socket: {source}")]
    Socket {
        /// The request.
        request: &'static str,
        /// How.
        source: io::Error,
    },
    /// The answer could not be understood.
    #[error("{request}: the answer: {source}")]
    Answer {
        /// The request.
        request: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The request does not fit into a message.
    #[error("{request}: {source}")]
    TooLong {
        /// The request.
        request: &'static str,
        /// What does not fit.
        source: TooLong,
    },
    /// A list kept changing while it was read.
    #[error("{request}: still changing after {DUMP_ATTEMPTS} attempts")]
    Unsteady {
        /// The request.
        request: &'static str,
    },
}

impl Error {
    /// The kernel's reason for refusing, if that is what happened.
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

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
    transport: T,
    families: Families,
    sequence: u32,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// See [`Client::strays`].
    strays: u64,
}

impl Client {
    /// Opens a socket and looks the families up. If they are missing, the kernel is asked to
    /// load the module.
    ///
    /// # Errors
    /// There is no module, or no socket.
    pub fn open() -> Result<Self, Error> {
        let socket = || Socket::open().map_err(|source| Error::Socket { request: "open", source });
        match Self::new(socket()?) {
            Err(Error::NoFamily { .. }) => {
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
        let mut client = Self {
            transport,
            families,
            sequence: 0,
            request: Vec::new(),
            answer: Vec::new(),
            strays: 0,
        };
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
        self.strays
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

    fn look_up(&mut self, family: Family) -> Result<(), Error> {
        let request = "look up family";
        self.sequence = self.sequence.wrapping_add(1);
        self.request.clear();
        look_up_family(family.name(), self.sequence, &mut self.request)
            .map_err(|source| Error::TooLong { request, source })?;
        self.transport.send(&self.request).map_err(|source| Error::Socket { request, source })?;
        let info = self
            .single(request, FamilyId::CONTROL, FamilyInfo::decode)
            .map_err(|error| match error.errno() {
                Some(Errno::ENOENT) => Error::NoFamily { family: family.name() },
                _ => error,
            })?
            .ok_or(Error::NoFamily { family: family.name() })?;
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
        let name = request.name();
        // Zero is what the kernel says unasked.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.request.clear();
        request
            .encode(&self.families, self.sequence, &mut self.request)
            .map_err(|source| Error::TooLong { request: name, source })?;
        self.transport.send(&self.request).map_err(|source| Error::Socket { request: name, source })
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
        let Self { transport, sequence, answer, strays, .. } = self;
        loop {
            transport.receive(answer).map_err(|source| Error::Socket { request, source })?;
            for message in Messages::new(answer) {
                let message = message.map_err(|source| Error::Answer { request, source })?;
                if message.sequence != *sequence {
                    stray(&message, strays);
                    continue;
                }
                match message.body {
                    Body::Acknowledged => return Ok(None),
                    Body::Failed(errno) => return Err(Error::Refused { request, errno }),
                    Body::Generic { family, payload, .. } if family == expected => {
                        let decoded = decode(payload);
                        return decoded
                            .map(Some)
                            .map_err(|source| Error::Answer { request, source });
                    }
                    Body::Generic { .. } | Body::Done | Body::Noop | Body::Overrun => {}
                }
            }
        }
    }

    /// Sends a request that is answered by a list, until it did not change while it was read.
    fn dump<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<A, DecodeError>,
    ) -> Result<Vec<Result<A, DecodeError>>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(request)?;
            if let Some(list) = self.list(request, &decode)? {
                return Ok(list);
            }
        }
        Err(Error::Unsteady { request: request.name() })
    }

    /// Reads a list; `None` if it changed meanwhile, or a part of it was lost.
    fn list<A>(
        &mut self,
        request: &Request<'_>,
        decode: impl Fn(&[u8]) -> Result<A, DecodeError>,
    ) -> Result<Option<Vec<Result<A, DecodeError>>>, Error> {
        let expected = self.families.id(request.family());
        let request = request.name();
        let Self { transport, sequence, answer, strays, .. } = self;
        let (mut list, mut whole) = (Vec::new(), true);
        loop {
            match transport.receive(answer) {
                Ok(()) => {}
                // What is left of this dump is told from the next one by its sequence number.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(None);
                }
                Err(source) => return Err(Error::Socket { request, source }),
            }
            for message in Messages::new(answer) {
                let message = message.map_err(|source| Error::Answer { request, source })?;
                if message.sequence != *sequence {
                    stray(&message, strays);
                    continue;
                }
                whole &= !message.interrupted;
                match message.body {
                    Body::Generic { family, payload, .. } if family == expected => {
                        list.push(decode(payload));
                    }
                    Body::Done | Body::Acknowledged => return Ok(whole.then_some(list)),
                    Body::Failed(errno) => return Err(Error::Refused { request, errno }),
                    Body::Overrun => whole = false,
                    Body::Generic { .. } | Body::Noop => {}
                }
            }
        }
    }
}

fn stray(message: &Message<'_>, strays: &mut u64) {
    if matches!(message.body, Body::Failed(_)) {
        *strays += 1;
    }
}

#[cfg(test)]
mod tests;
