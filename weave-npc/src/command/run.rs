//! The controller itself.

use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::routing::get;
use clap::Args;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use weave_api::metric::Metric;
use weave_api::server::{Listener, Names, serve};
use weave_api::{Address, parse_bool};
use weave_firewall::nftables::{Family, Nftables};

use super::{CommandError, failed};
use crate::blocked::{BlockedCounts, BlockedLog};
use crate::controller::{self, Status};
use crate::nft::{Options, TABLE};

/// What a node knows its name by in a pod that is in its network namespace.
const NAME_VARIABLE: &str = "HOSTNAME";

/// How it runs. All flags are those of Weave Net's `weave-npc`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where metrics are to be had: HOST:PORT, or the absolute path of a Unix socket.
    #[arg(long, value_name = "ADDRESS", default_value = ":6781")]
    metrics_addr: Address,
    /// What is logged: debug, info, warning or error.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: String,
    /// Whether multicast is allowed, whatever policies say.
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1,
          require_equals = true, default_missing_value = "true", value_parser = parse_bool,
          action = clap::ArgAction::Set)]
    pub(super) allow_mcast: bool,
    /// The name of this node in the cluster; by default the variable HOSTNAME.
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    #[arg(long, hide = true)]
    max_list_size: Option<u32>,
    #[arg(long, hide = true)]
    bridge_port_name: Option<String>,
}

impl Run {
    pub(super) async fn run(self, version: &str) -> Result<(), CommandError> {
        let node = self.node_name.or_else(|| std::env::var(NAME_VARIABLE).ok());
        let node = node.filter(|name| !name.is_empty()).ok_or_else(|| {
            CommandError::Usage("which node is this? say --node-name, or set HOSTNAME".to_owned())
        })?;
        let client = client().await?;
        let names = Names::new([]);
        let listener = Listener::bind(&self.metrics_addr).await;
        let listener = listener.map_err(|error| failed("metrics cannot be served", &error))?;
        let mut ends = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let [Ok(terminate), Ok(interrupt)] = &mut ends else {
            return Err(CommandError::Failed("signals cannot be caught".to_owned()));
        };
        tracing::info!(version, node, "network policy controller");
        for (flag, given) in [
            ("--max-list-size", self.max_list_size.is_some()),
            ("--bridge-port-name", self.bridge_port_name.is_some()),
        ] {
            if given {
                tracing::info!("{flag} is for ipset and has no effect: rules are in nftables");
            }
        }
        let status = Arc::new(Status::default());
        let (shown, counts) = (Arc::clone(&status), BlockedCounts::default());
        log_blocked(counts.clone());
        let metrics = move || async move {
            let mut text = shown.metrics();
            counts.print(&mut text);
            text + &spawn_blocking(refused).await.unwrap_or_default()
        };
        let metrics = Router::new().route("/metrics", get(metrics));
        let (_alive, stop) = watch::channel(false);
        let options = Options { multicast: self.allow_mcast };
        tokio::select! {
            ended = controller::run(client, &node, options, status) => {
                ended.map_err(|error| failed("policies cannot be enforced", &error))
            }
            () = serve(listener, &names, metrics, stop) => Ok(()),
            _ = terminate.recv() => farewell(),
            _ = interrupt.recv() => farewell(),
        }
    }
}

/// Logs refused connections in a thread of its own, which ends with the process.
fn log_blocked(counts: BlockedCounts) {
    let work = move || {
        let trouble = match BlockedLog::open() {
            Ok(log) => log.run(&counts).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let trouble = trouble.unwrap_or_default();
        tracing::warn!("refused connections are not logged: {trouble}");
    };
    if let Err(error) = thread::Builder::new().name("nflog".to_owned()).spawn(work) {
        tracing::warn!(%error, "refused connections are not logged");
    }
}

/// Returns how many packets were refused, as the kernel counts them.
fn refused() -> String {
    let help = "Packets that were dropped since the table was replaced last.";
    let mut metric = Metric::new("weavenpc_refused_packets_total", "counter", help);
    let counters = Nftables::open().and_then(|nft| nft.counters(Family::Inet, TABLE));
    for (name, counter) in counters.ok().flatten().unwrap_or_default() {
        let direction = match name.as_str() {
            "refused-in" => "ingress",
            _ => "egress",
        };
        #[expect(clippy::cast_precision_loss, reason = "the format has floats")]
        let packets = counter.packets as f64;
        metric = metric.value(&[("direction", direction)], packets);
    }
    let mut text = String::new();
    metric.print(&mut text);
    text
}

#[expect(clippy::unnecessary_wraps, reason = "an end like others")]
fn farewell() -> Result<(), CommandError> {
    tracing::info!("told to end: the rules stay in force as they are");
    Ok(())
}

/// Returns the way to the API server: that of the pod, or of KUBECONFIG.
pub(super) async fn client() -> Result<Client, CommandError> {
    let config = Config::infer().await;
    let config = config.map_err(|error| failed("no way to an API server is known", &error))?;
    Client::try_from(config).map_err(|error| failed("no way to the API server", &error))
}
