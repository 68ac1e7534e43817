//! A transport that carries nothing.

use std::sync::Arc;

use super::{
    Envelope, Forwarded, Forwarder, Link, LinkEvent, LinkStatus, Overlay, PrepareError, Waker,
    WorkerId,
};
use crate::mesh::LinkRequest;
use crate::time::Instant;

/// For those who want the mesh but not the switch: each link is established at once, and drops
/// every frame. Both sides must use it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullOverlay;

struct NullLink {
    established: bool,
}

impl Overlay for NullOverlay {
    fn name(&self) -> &'static str {
        "null"
    }

    fn prepare(
        &mut self,
        _: Instant,
        _: &LinkRequest,
        _: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        Ok(Box::new(NullLink { established: false }))
    }
}

impl Link for NullLink {
    fn confirm(&mut self, _: Instant) {
        self.established = true;
    }

    fn handle_control(&mut self, _: Instant, _: u8, _: &[u8]) {}

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        std::mem::take(&mut self.established).then_some(LinkEvent::Established)
    }

    fn forwarder(&self) -> Arc<dyn Forwarder> {
        Arc::new(NullOverlay)
    }

    fn status(&self) -> LinkStatus {
        LinkStatus::default()
    }
}

impl Forwarder for NullOverlay {
    fn forward(&self, _: WorkerId, _: Envelope<'_>) -> Forwarded {
        Forwarded::Dropped
    }

    fn flush(&self, _: WorkerId) {}
}
