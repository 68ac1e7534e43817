//! What the router tells about itself: the report, and the texts made from it.

mod detail;
mod gather;
mod go_json;
mod report;
mod text;

pub(crate) use detail::Detail;
pub(crate) use gather::{Now, Surroundings, gather};
pub(crate) use go_json::{compact, indented};
#[cfg(test)]
pub(crate) use report::RouterStatus;
pub(crate) use report::{Connection, IpamStatus, Report};
pub(crate) use text::{connections, ipam, peers, status, targets};
