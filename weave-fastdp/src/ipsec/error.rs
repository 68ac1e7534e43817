//! Reasons why a tunnel cannot be encrypted, by what is to blame.

use std::error::Error;
use std::io;

use weave_xfrm::Path;

use super::announcement::AnnouncementError;

/// The error of a firewall, whose implementation is the caller's.
pub type FirewallError = Box<dyn Error + Send + Sync>;

/// Reasons why a tunnel, or any tunnel of this host, cannot be encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpsecError {
    /// The kernel lacks ESP or AES-GCM.
    #[error("this kernel has no ESP with AES-GCM (esp4, gcm): {0}")]
    NoEsp(weave_xfrm::Error),
    /// The kernel refused a request.
    #[error(transparent)]
    Kernel(#[from] weave_xfrm::Error),
    /// The firewall rules cannot be changed.
    #[error("{0}")]
    Firewall(FirewallError),
    /// A policy of another program is in the way.
    #[error("another program has an IPsec policy from {0}")]
    ForeignPolicy(Path),
    /// The neighbour sent a malformed announcement.
    #[error(transparent)]
    Announcement(#[from] AnnouncementError),
    /// The kernel cannot provide random numbers.
    #[error("the kernel has no random numbers")]
    NoRandomness,
    /// The thread for IPsec cannot be started.
    #[error("cannot start a thread for IPsec: {0}")]
    Thread(io::Error),
    /// The thread for IPsec has ended.
    #[error("the thread for IPsec has ended")]
    ThreadEnded,
}
