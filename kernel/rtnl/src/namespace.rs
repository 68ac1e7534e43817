//! Numbers of network namespaces.

use std::os::fd::{AsFd, AsRawFd as _};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use weave_netlink::Transport;

use crate::client::Client;
use crate::error::Error;
use crate::operation::Operation;

impl<T: Transport> Client<T> {
    /// Returns the number that the namespace of this client has for another one, if any. It has
    /// one for each that an interface leads to, from when the interfaces are listed;
    /// [`Link::peer_namespace`](crate::Link::peer_namespace) is one.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn namespace_id(&mut self, namespace: &impl AsFd) -> Result<Option<i32>, Error> {
        let mut question = NsidMessage::default();
        // The kernel takes no negative descriptor, and none is.
        let fd = namespace.as_fd().as_raw_fd().unsigned_abs();
        question.attributes.push(NsidAttribute::Fd(fd));
        let question = RouteNetlinkMessage::GetNsId(question);
        match self.query(|| Operation::FindNamespace, &question, 0)? {
            Some(RouteNetlinkMessage::NewNsId(answer)) => {
                Ok(answer.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(number) if *number >= 0 => Some(*number),
                    _ => None,
                }))
            }
            _ => Ok(None),
        }
    }
}
