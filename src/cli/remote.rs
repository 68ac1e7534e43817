//! Where the router is that a command speaks to.

use clap::Args;

use super::failure::Failure;
use weave_api::Address;
use weave_api::client::{Client, ClientError};

/// The router that is meant.
#[derive(Clone, Debug, Args)]
pub(super) struct Remote {
    /// Control address of the router: HOST:PORT, or the absolute path of a Unix socket. By
    /// default what WEAVE_HTTP_ADDR says, or 127.0.0.1:6784.
    #[arg(long, value_name = "ADDRESS")]
    http_addr: Option<Address>,
}

/// The control address if none is given. A variable that is set to nothing says nothing.
pub(super) fn default_address() -> Result<Address, Failure> {
    const VARIABLE: &str = "WEAVE_HTTP_ADDR";
    let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let text = text.as_deref().unwrap_or("127.0.0.1:6784");
    text.parse().map_err(|error| Failure::usage(format!("{VARIABLE}: {error}")))
}

impl Remote {
    /// Asks it something.
    pub(super) fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        self.try_ask(question)?.map_err(Failure::from)
    }

    /// The same, for those who look at what it says.
    pub(super) fn try_ask<T>(
        &self,
        question: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    ) -> Result<Result<T, ClientError>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        let address = self.http_addr.clone().map_or_else(default_address, Ok)?;
        let client = Client::new(address);
        Ok(runtime.block_on(question(client)))
    }
}
