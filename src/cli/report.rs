//! `weave report`.

use clap::Args;

use super::failure::Failure;
use super::output;
use super::remote::Remote;
use weave_api::client::with_query;
use weave_api::template::Template;

/// Arguments of `weave report`.
#[derive(Debug, Args)]
pub(super) struct Report {
    /// Print through a Go template instead of as JSON, e.g. '{{.Router.Name}}' or
    /// '{{range .Router.Targets}}{{.}} {{end}}'.
    #[arg(short = 'f', long, value_name = "TEMPLATE")]
    format: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Report {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (path, accept) = match &self.format {
            Some(template) => {
                Template::parse(template)
                    .map_err(|error| Failure::usage(format!("wrong template: {error}")))?;
                (with_query("/report", "format", template), "*/*")
            }
            None => ("/report".to_owned(), "application/json"),
        };
        let text = self.remote.ask(async |client| client.get(&path, accept).await)?;
        output::print(&(text + "\n"));
        Ok(())
    }
}
