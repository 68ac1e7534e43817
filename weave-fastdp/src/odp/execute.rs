//! Having the kernel apply actions to a packet.

use weave_odp::{Action, Client};

use super::shared::Shared;

/// Has the kernel apply actions to a packet. An error is counted.
pub(super) fn execute(shared: &Shared, client: &mut Client, packet: &[u8], actions: &[Action]) {
    if actions.is_empty() {
        return;
    }
    match client.execute(shared.datapath, packet, actions) {
        Ok(()) => shared.counters.executed.increment(),
        Err(error) => {
            tracing::debug!("a packet was not executed: {error}");
            shared.counters.dropped_error.increment();
        }
    }
}
