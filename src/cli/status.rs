//! `weave status`.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::failure::Failure;
use super::output;
use super::remote::Remote;
use weave_api::json::indented;

/// Arguments of `weave status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// What to tell; an overview if nothing is said.
    #[arg(value_enum)]
    page: Option<Page>,
    /// In which form.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Page {
    /// The peers that were asked for.
    Targets,
    /// The connections of this router, and attempts at them.
    Connections,
    /// All peers, and their connections.
    Peers,
    /// The names in DNS.
    Dns,
    /// The address ranges of the peers.
    Ipam,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.output {
            Format::Text => self.text(),
            Format::Json => self.json(),
        }
    }

    fn text(&self) -> Result<(), Failure> {
        let path = match self.page {
            None => "/status",
            Some(Page::Targets) => "/status/targets",
            Some(Page::Connections) => "/status/connections",
            Some(Page::Peers) => "/status/peers",
            Some(Page::Dns) => "/status/dns",
            Some(Page::Ipam) => "/status/ipam",
        };
        let text = self.remote.ask(async |client| client.get(path, "*/*").await)?;
        // The original has an empty line around the overview.
        output::print(&if self.page.is_none() { format!("\n{text}\n") } else { text });
        Ok(())
    }

    fn json(&self) -> Result<(), Failure> {
        let text =
            self.remote.ask(async |client| client.get("/report", "application/json").await)?;
        let broken =
            |error| Failure::failed(format!("the router's report makes no sense: {error}"));
        let report: Value = serde_json::from_str(&text).map_err(broken)?;
        let (path, part) = match self.page {
            None => ("", "the router"),
            Some(Page::Targets) => ("/Router/Targets", "targets"),
            Some(Page::Connections) => ("/Router/Connections", "connections"),
            Some(Page::Peers) => ("/Router/Peers", "peers"),
            Some(Page::Dns) => ("/DNS", "DNS"),
            Some(Page::Ipam) => ("/IPAM", "address allocation"),
        };
        let value = report
            .pointer(path)
            .ok_or_else(|| Failure::failed(format!("this router runs without {part}")))?;
        // A list that is empty is one all the same.
        let list = Value::Array(Vec::new());
        let value = if value.is_null() { &list } else { value };
        output::print(&(indented(value).map_err(broken)? + "\n"));
        Ok(())
    }
}
