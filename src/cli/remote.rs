//! Where the router is that a command speaks to.

use clap::Args;

use super::failure::Failure;
use crate::http::{Address, Client, ClientError};

/// The router that is meant.
#[derive(Clone, Debug, Args)]
pub(super) struct Remote {
    /// Control address of the router: HOST:PORT, or the absolute path of a Unix socket.
    #[arg(long, env = "WEAVE_HTTP_ADDR", default_value = "127.0.0.1:6784", value_name = "ADDRESS")]
    http_addr: Address,
}

impl Remote {
    /// Asks it something.
    pub(super) fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        let client = Client::new(self.http_addr.clone());
        runtime.block_on(question(client)).map_err(Failure::from)
    }
}
