//! Why the host could not be changed, said so that an operator knows what to do.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use weave_core::wire::MacAddress;
use weave_firewall::FirewallError;
use weave_rtnl::Operation;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The kernel refused because of missing rights.
    #[error("cannot {action}: not permitted; run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Privilege {
        /// What was tried.
        action: String,
    },
    /// The running kernel lacks a feature.
    #[error("cannot {action}: this kernel has no support for {feature}")]
    Unsupported {
        /// What was tried.
        action: String,
        /// The missing feature, as its module is called.
        feature: &'static str,
    },
    /// The kernel refused for another reason.
    #[error("cannot {action}: {source}")]
    Kernel {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The devices of another bridge layout are there.
    #[error(
        "the devices of a fast datapath ({devices}) are on this host; `weave reset` removes them"
    )]
    FastDatapath {
        /// Their names.
        devices: String,
    },
    /// The devices do not fit together, or one of our names belongs to somebody else.
    #[error(
        "inconsistent bridge state: interface {name} is {found}; `weave reset` removes what \
         belongs to weave, anything else has to be renamed or removed by hand"
    )]
    Inconsistent {
        /// The interface.
        name: String,
        /// What it is.
        found: String,
    },
    /// Another router uses the bridge.
    #[error("another router is running on bridge {bridge}")]
    Claimed {
        /// The bridge.
        bridge: String,
    },
    /// The kernel did not delete a datapath.
    #[error("cannot delete the datapath {name}: {source}")]
    Datapath {
        /// Its name.
        name: String,
        /// The kernel's reason.
        source: weave_odp::Error,
    },
    /// The kernel did not take an interface into a datapath.
    #[error("cannot make {port} a port of the datapath {name}: {source}")]
    DatapathPort {
        /// The interface.
        port: String,
        /// The datapath.
        name: String,
        /// The kernel's reason.
        source: weave_odp::Error,
    },
    /// There is no such interface.
    #[error("there is no interface {name}{hint}")]
    NoInterface {
        /// The interface.
        name: String,
        /// What to do about it, after a blank; may be empty.
        hint: &'static str,
    },
    /// What the container has under the name of our interface is of somebody else.
    #[error("interface {interface} of {target:?} {found}; nothing was changed")]
    ForeignInterface {
        /// Its name in the container.
        interface: String,
        /// What the user called the container.
        target: String,
        /// Where it leads.
        found: String,
    },
    /// The kernel takes no note of this length on a port.
    #[error("the name of the holder is too long to be noted on its interface: {what}")]
    NoNote {
        /// What was to be noted.
        what: String,
    },
    /// Somebody on the switch has the address.
    #[error(
        "{address} is in use already, by the interface with the Ethernet address {holder}; nothing \
         was changed"
    )]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// Who answers for it.
        holder: MacAddress,
    },
    /// The container cannot be found.
    #[error("there is no network namespace of {target:?}: looked for {}", path.display())]
    NoNamespace {
        /// What the user wrote.
        target: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// The container has no network namespace of its own.
    #[error("{target:?} uses the network namespace of the host, nothing can be attached to it")]
    HostNamespace {
        /// What the user wrote.
        target: String,
    },
    /// A file of the host could not be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The firewall of the host does not have the rules that it should have.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
}

impl HostError {
    /// Sorts an answer of the kernel. `feature` is what lacks if it does not know the request.
    pub(crate) fn kernel(
        action: impl Into<String>,
        feature: &'static str,
        source: io::Error,
    ) -> Self {
        let action = action.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege { action },
            Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => {
                Self::Unsupported { action, feature }
            }
            _ => Self::Kernel { action, source },
        }
    }
}

impl From<weave_rtnl::Error> for HostError {
    fn from(error: weave_rtnl::Error) -> Self {
        let weave_rtnl::Error { operation, cause } = error;
        let feature = match &operation {
            Operation::CreateLink { kind, .. } => kind,
            Operation::CreateVeth { .. } => "veth",
            Operation::DeleteLink(_) | Operation::RemoveAddress(..) => "removing it",
            Operation::AddAddress(address, _) if address.is_ipv6() => "IPv6 (ipv6)",
            Operation::AddAddress(..) => "IPv4",
            Operation::AddRoute { .. } => "routes",
            Operation::FindNamespace => "namespace ids",
            Operation::ChangeLink { .. } | Operation::ChangePort { .. } => "this setting",
            _ => "netlink",
        };
        Self::kernel(operation.to_string(), feature, cause.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_answer_decides_the_advice() {
        let text = |code| {
            let source = io::Error::from_raw_os_error(code);
            HostError::kernel("create bridge weave", "bridge", source).to_string()
        };
        assert!(text(libc::EPERM).contains("run as root"), "{}", text(libc::EPERM));
        assert_eq!(
            text(libc::EOPNOTSUPP),
            "cannot create bridge weave: this kernel has no support for bridge"
        );
        assert!(text(libc::EBUSY).contains("busy"), "{}", text(libc::EBUSY));
    }
}
