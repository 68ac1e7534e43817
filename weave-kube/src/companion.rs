//! What goes on before and beside the router of a node.

use std::sync::Arc;

use weave_node::{Builder, FileStore, Node};

use crate::settings::Settings;

/// The part of `weave kube` that speaks to the cluster.
#[derive(Debug)]
pub struct Companion {
    settings: Settings,
}

impl Companion {
    pub(crate) const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// What has to be known before the router starts.
    ///
    /// # Errors
    /// The router of this node must not start like this.
    pub async fn prepare(
        &mut self,
        builder: Builder,
        _: &Arc<FileStore>,
    ) -> anyhow::Result<Builder> {
        tracing::info!("[kube] this is the node {}", self.settings.node);
        Ok(builder)
    }

    /// Goes along with the router until the future is dropped. It ends when the router has to be
    /// started anew.
    pub fn accompany(self, _: &Node) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        std::future::pending()
    }
}
