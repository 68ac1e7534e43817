//! The way to local stations, for transports of an embedder's own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use weave_core::switch::{Frame, Inject};

/// Gives frames to the local port of a node. The port may be recreated meanwhile; clones lead to
/// the same one.
#[derive(Clone)]
pub struct LocalInjector(Arc<Mutex<Box<dyn Inject + Send>>>);

impl Default for LocalInjector {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Box::new(Nowhere))))
    }
}

impl LocalInjector {
    pub(super) fn set(&self, injector: Box<dyn Inject + Send>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = injector;
    }
}

impl Inject for LocalInjector {
    fn inject(&mut self, frame: Frame<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).inject(frame);
    }

    fn flush(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }
}

impl fmt::Debug for LocalInjector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalInjector")
    }
}

/// For a router without a bridge: frames for local stations end here.
pub(super) struct Nowhere;

impl Inject for Nowhere {
    fn inject(&mut self, _: Frame<'_>) {}
}
