//! What is asked of the kernel, for errors.

use std::fmt;
use std::net::IpAddr;

/// An operation with the interface it is about; its text follows "cannot".
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Opens a socket.
    Open,
    /// Watches what changes.
    Watch,
    /// Lists the interfaces.
    ListLinks,
    /// Looks for an interface by its name.
    FindLink(String),
    /// Looks for an interface by its index.
    ReadLink(u32),
    /// Creates an interface.
    CreateLink {
        /// The kernel's name for its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Creates a pair of interfaces.
    CreateVeth {
        /// The name of one end.
        name: String,
        /// The name of the other.
        peer: String,
    },
    /// Deletes an interface.
    DeleteLink(String),
    /// Changes an interface.
    ChangeLink {
        /// Its name.
        name: String,
        /// What is to be different.
        change: String,
    },
    /// Changes what a bridge does with a port.
    ChangePort {
        /// The name of the port.
        name: String,
        /// Which settings, and their values.
        settings: String,
    },
    /// Changes a bridge.
    ChangeBridge {
        /// Its index.
        index: u32,
        /// What is to be different.
        change: &'static str,
    },
    /// Lists addresses.
    ListAddresses,
    /// Adds an address.
    AddAddress(IpAddr, u8),
    /// Removes an address.
    RemoveAddress(IpAddr, u8),
    /// Lists routes.
    ListRoutes,
    /// Adds a route.
    AddRoute {
        /// Where to.
        destination: IpAddr,
        /// How many of its bits count.
        prefix: u8,
        /// The next hop.
        gateway: Option<IpAddr>,
    },
    /// Lists a neighbour table.
    ListNeighbours,
    /// Looks for an entry of a forwarding table.
    FindFdbEntry(u32),
    /// Adds an entry to a forwarding table.
    AddFdbEntry(u32),
    /// Removes an entry from the forwarding table of a bridge.
    RemoveFdbEntry(u32),
    /// Looks for the number of a network namespace.
    FindNamespace,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open a routing socket"),
            Self::Watch => f.write_str("watch the routing socket"),
            Self::ListLinks => f.write_str("list the interfaces"),
            Self::FindLink(name) => write!(f, "look for interface {name}"),
            Self::ReadLink(index) => write!(f, "look for the interface with index {index}"),
            Self::CreateLink { kind, name } => write!(f, "create {kind} {name}"),
            Self::CreateVeth { name, peer } => write!(f, "create veth pair {name}, {peer}"),
            Self::DeleteLink(name) => write!(f, "delete {name}"),
            Self::ChangeLink { change, .. } => f.write_str(change),
            Self::ChangePort { name, settings } => write!(f, "set {settings} of port {name}"),
            Self::ChangeBridge { index, change } => {
                write!(f, "{change} of the bridge with index {index}")
            }
            Self::ListAddresses => f.write_str("list the addresses"),
            Self::AddAddress(ip, prefix) => write!(f, "add address {ip}/{prefix}"),
            Self::RemoveAddress(ip, prefix) => write!(f, "remove address {ip}/{prefix}"),
            Self::ListRoutes => f.write_str("list the routes"),
            Self::AddRoute { destination, prefix, gateway: None } => {
                write!(f, "add the route to {destination}/{prefix}")
            }
            Self::AddRoute { destination, prefix, gateway: Some(gateway) } => {
                write!(f, "add the route to {destination}/{prefix} by {gateway}")
            }
            Self::ListNeighbours => f.write_str("list the neighbours"),
            Self::FindFdbEntry(link) => {
                write!(f, "look into the forwarding table of the interface with index {link}")
            }
            Self::RemoveFdbEntry(link) => {
                write!(f, "remove an entry of the port with index {link} from its forwarding table")
            }
            Self::AddFdbEntry(link) => {
                write!(f, "add to the forwarding table of the interface with index {link}")
            }
            Self::FindNamespace => f.write_str("look for a network namespace"),
        }
    }
}
