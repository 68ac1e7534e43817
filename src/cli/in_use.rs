//! Addresses that somebody on the switch took by hand, of which the ring knows nothing.

use super::output;
use weave_api::client::{self, Client};

/// How many are passed over for one address that is wanted. Those passed over stay set aside, so
/// that whoever tries again comes further.
pub(super) const MAX_PASSED_OVER: usize = 8;

/// Tells that another address is taken, and gives this one to a holder that stands for whoever uses
/// it.
///
/// That holder has no interface on this host, so that the router takes it for a container that
/// ended: half a minute later the address can be given out again, if nobody answers for it any
/// more.
pub(super) async fn set_aside(client: &Client, holder: &str, cidr: &str, why: &str) {
    // That nothing was changed is told by others.
    let why = why.split(';').next().unwrap_or(why);
    output::complain(&format!("weave: {why}; another address is taken"));
    let address = cidr.split('/').next().unwrap_or(cidr);
    drop(client.delete(&client::path(&["ip", holder, address])).await);
    // Somebody else may be given it at this moment. Then it is held, too, until he finds out.
    let stand_in = client::path(&["ip", &format!("in-use:{address}")]);
    drop(client.put(&format!("{stand_in}/{cidr}?namespace=true")).await);
}
