//! `weave hide`.

use clap::Args;

use super::failure::Failure;
use super::host_address::{self, HostAddress};
use super::output;
use super::remote::Remote;
use weave_api::HOST_HOLDER;
use weave_api::client::{Client, ClientError};

/// Who has an address that the CNI plugin exposed since those of the user serve no container.
const GATEWAY: &str = "weave:gateway";

/// Arguments of `weave hide`.
#[derive(Debug, Args)]
pub(super) struct Hide {
    /// Addresses to take away, or net:CIDR for those in a subnet; all if none are given.
    #[arg(value_name = "ADDRESS", value_parser = host_address::parse)]
    addresses: Vec<HostAddress>,
    #[command(flatten)]
    remote: Remote,
}

impl Hide {
    pub(super) fn run(self) -> Result<(), Failure> {
        let hidden = self.remote.ask(async |client| {
            let exposed = client.get("/expose", "*/*").await?;
            let meant = |text: &&str| {
                let is = |address: &HostAddress| address.means(text);
                self.addresses.is_empty() || self.addresses.iter().any(is)
            };
            let mut hidden = Vec::new();
            for cidr in exposed.lines().filter(meant) {
                client.delete(&format!("/expose/{cidr}")).await?;
                hidden.push(release(&client, cidr).await?);
            }
            Ok(hidden)
        })?;
        if !hidden.is_empty() {
            output::print(&(hidden.join(" ") + "\n"));
        }
        Ok(())
    }
}

/// Gives the address back, if it was one of those that are given out.
async fn release(client: &Client, cidr: &str) -> Result<String, ClientError> {
    let address = cidr.split('/').next().unwrap_or(cidr);
    for holder in [HOST_HOLDER, GATEWAY] {
        match client.delete(&format!("/ip/{holder}/{address}")).await {
            Ok(_) => break,
            Err(ClientError::NotFound(_) | ClientError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(address.to_owned())
}
