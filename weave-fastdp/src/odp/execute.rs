//! Having the kernel apply actions to a packet.

use weave_odp::{Action, Client};

use super::counters::bump;
use super::shared::Shared;

/// Has the kernel apply actions to a packet. An error is counted.
pub(super) fn execute(shared: &Shared, client: &mut Client, packet: &[u8], actions: &[Action]) {
    if actions.is_empty() {
        return;
    }
    match client.execute(shared.datapath, packet, actions) {
        Ok(()) => bump(&shared.counters.executed),
        Err(error) => {
            tracing::debug!("a packet was not executed: {error}");
            bump(&shared.counters.dropped_error);
        }
    }
}
