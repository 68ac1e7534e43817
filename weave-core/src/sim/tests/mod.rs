//! Stories.

mod forming;

use std::time::Duration;

use super::Net;

const SECOND: Duration = Duration::from_secs(1);

/// Lets time pass until every router is connected to every other.
#[track_caller]
fn mesh_fully(net: &mut Net, limit: Duration) -> Duration {
    net.run_until(limit, Net::fully_meshed).unwrap_or_else(|error| panic!("{error}"))
}
