//! From the state of the router to the report.

mod gather;

pub(crate) use gather::{HostStatus, Now, gather};
