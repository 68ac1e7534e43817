//! `weave expose`.

use clap::{ArgAction, Args};
use weave_host::Cidr;

use super::failure::Failure;
use super::host_address::{self, HostAddress};
use super::in_use::{MAX_PASSED_OVER, set_aside};
use super::output;
use super::remote::Remote;
use weave_api::HOST_HOLDER;
use weave_api::client::{Client, ClientError};

/// Arguments of `weave expose`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Expose {
    /// Addresses with prefix length, like 10.32.0.1/12; net:CIDR has one chosen in a subnet, and
    /// so has net:default, or nothing at all.
    #[arg(value_name = "ADDRESS", value_parser = host_address::parse)]
    addresses: Vec<HostAddress>,
    /// What passes between the switch and the world keeps the addresses it has.
    #[arg(long)]
    without_masquerade: bool,
    /// Accepted: there is no DNS in this version.
    #[arg(short = 'h', value_name = "FQDN")]
    name: Option<String>,
    /// Tell what a command takes.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    remote: Remote,
}

impl Expose {
    pub(super) fn run(self) -> Result<(), Failure> {
        if let Some(name) = &self.name {
            output::complain(&format!(
                "weave: {name} is not registered: there is no DNS in this version"
            ));
        }
        let addresses = match self.addresses.as_slice() {
            [] => &[HostAddress::Default],
            addresses => addresses,
        };
        let exposed = self.remote.ask(async |client| {
            let mut exposed = Vec::new();
            for address in addresses {
                exposed.push(self.expose(&client, address).await?);
            }
            Ok(exposed)
        })?;
        let shown: Vec<_> = exposed.iter().filter_map(|cidr| cidr.split('/').next()).collect();
        output::print(&(shown.join(" ") + "\n"));
        Ok(())
    }

    /// Gives the host one address; says which.
    async fn expose(&self, client: &Client, address: &HostAddress) -> Result<String, ClientError> {
        let query = if self.without_masquerade { "?skipNAT=true" } else { "" };
        let mut passed_over = 0;
        loop {
            let cidr = take(client, address).await?;
            match client.post(&format!("/expose/{cidr}{query}"), &[]).await {
                Ok(_) => return Ok(cidr),
                Err(ClientError::InUse(why))
                    if passed_over < MAX_PASSED_OVER
                        && !matches!(address, HostAddress::This(_)) =>
                {
                    passed_over += 1;
                    set_aside(client, HOST_HOLDER, &cidr, &why).await;
                }
                Err(error) => {
                    give_back(client, &cidr).await;
                    return Err(error);
                }
            }
        }
    }
}

/// The address itself, once nobody else gets it.
async fn take(client: &Client, address: &HostAddress) -> Result<String, ClientError> {
    let chosen = match address {
        HostAddress::This(cidr) => {
            claim(client, *cidr).await?;
            return Ok(cidr.to_string());
        }
        HostAddress::In(subnet) => client.post(&format!("/ip/{HOST_HOLDER}/{subnet}"), &[]).await,
        HostAddress::Default => client.post(&format!("/ip/{HOST_HOLDER}"), &[]).await,
    };
    chosen.map_err(|error| match error {
        ClientError::NotFound(_) => ClientError::Refused(
            "say which address the host gets, like 10.32.0.1/12: this router runs without address \
             allocation"
                .to_owned(),
        ),
        error => error,
    })
}

/// What the host does not get. It keeps what it has already, whatever became of the rules for it.
async fn give_back(client: &Client, cidr: &str) {
    let exposed = client.get("/expose", "*/*").await.unwrap_or_default();
    if !exposed.lines().any(|other| other == cidr) {
        let address = cidr.split('/').next().unwrap_or(cidr);
        // The first error says more.
        drop(client.delete(&format!("/ip/{HOST_HOLDER}/{address}")).await);
    }
}

/// A router that gives out no addresses has none to keep back.
async fn claim(client: &Client, cidr: Cidr) -> Result<(), ClientError> {
    match client.put(&format!("/ip/{HOST_HOLDER}/{cidr}")).await {
        Ok(_) | Err(ClientError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
