//! Where the router listens for HTTP.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::control::Control;
use crate::settings::Http;
use weave_api::Address;
use weave_api::server::{self, Listener, Names};

use crate::http;

/// The HTTP interfaces that were asked for.
pub(super) struct Listeners {
    /// By which they may be asked.
    names: Names,
    control: Option<Listener>,
    status: Option<Listener>,
    metrics: Option<Listener>,
}

pub(super) async fn listen(settings: &Http, nickname: &str) -> Result<Listeners> {
    let bind = async |what: &str, address: &Option<Address>| -> Result<Option<Listener>> {
        let Some(address) = address else { return Ok(None) };
        let listener = Listener::bind(address)
            .await
            .with_context(|| format!("cannot listen for HTTP {what} on {address}"))?;
        tracing::info!("Listening for HTTP {what} messages on {address}");
        Ok(Some(listener))
    };
    Ok(Listeners {
        names: names(settings, nickname),
        control: bind("control", &settings.control).await?,
        status: bind("status", &settings.status).await?,
        metrics: bind("metrics", &settings.metrics).await?,
    })
}

/// The names of this host, those that it listens on, and those of the operator.
fn names(settings: &Http, nickname: &str) -> Names {
    let addresses = [&settings.control, &settings.status, &settings.metrics];
    let listening = addresses.into_iter().flatten().filter_map(|address| match address {
        Address::Tcp { host, .. } => Some(host.clone()),
        Address::Unix(_) => None,
    });
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let all: Vec<_> = listening
        .chain(host)
        .chain([nickname.to_owned()])
        .chain(settings.allowed_hosts.iter().cloned())
        .filter(|name| !name.is_empty())
        .collect();
    Names::new(all.iter().map(String::as_str))
}

impl Listeners {
    /// Answers requests from now on.
    pub(super) fn serve(self, control: &Arc<Control>) -> Servers {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let names = Arc::new(self.names.clone());
        for (listener, routes) in self.routes(control) {
            let (names, stopped) = (Arc::clone(&names), stopped.clone());
            tasks.spawn(async move { server::serve(listener, &names, routes, stopped).await });
        }
        Servers { stop, tasks }
    }

    fn routes(self, control: &Arc<Control>) -> Vec<(Listener, axum::Router)> {
        let Self { control: all, status, metrics, .. } = self;
        let all = all.map(|listener| (listener, http::control_routes(Arc::clone(control))));
        let status = status.map(|listener| (listener, http::status_routes(Arc::clone(control))));
        let metrics = metrics.map(|listener| (listener, http::metrics_routes(Arc::clone(control))));
        all.into_iter().chain(status).chain(metrics).collect()
    }
}

/// The HTTP interfaces at work.
pub(super) struct Servers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Servers {
    /// No new requests, and the end of those that are being answered.
    pub(super) async fn stop(mut self) {
        // Nobody listens if there is no interface.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}
