//! What a cluster is made of, and the addresses in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::read;

/// No cluster on one machine needs more nodes.
pub(super) const MOST_NODES: u8 = 9;
/// Where pods can find a host that is no part of the cluster.
pub(super) const OUTSIDE_ADDRESS: &str = "10.200.0.254";
/// The API server on the first node.
pub(super) const SERVER: &str = "https://10.200.0.1:6443";
/// Addresses of pods: the range that Weave Net takes when it is told none.
pub(super) const PODS: &str = "10.32.0.0/12";
/// Addresses of Services, those of kubeadm.
pub(super) const SERVICES: &str = "10.96.0.0/12";
/// The first of them.
pub(super) const API_SERVICE: &str = "10.96.0.1";
/// Where pods expect the cluster's DNS, as with kubeadm.
pub(super) const DNS_SERVICE: &str = "10.96.0.10";

/// How kube-proxy reaches the pods of a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProxyMode {
    /// By rules of iptables.
    #[default]
    Iptables,
    /// By rules of nftables.
    Nftables,
}

impl ProxyMode {
    /// Its name in the settings of kube-proxy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

/// Size and programs of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many nodes it starts with, 1 to 9.
    pub nodes: u8,
    /// How kube-proxy starts.
    pub proxy: ProxyMode,
    /// Folders whose programs come before those of this machine, in this order.
    pub programs: Vec<PathBuf>,
}

impl Options {
    /// The search path of a node.
    pub(super) fn path(&self) -> String {
        let ours = (0..self.programs.len()).map(|number| format!("/programs/{number}:"));
        ours.collect::<String>() + "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    }

    /// The search path of the host outside.
    pub(super) fn path_outside(&self) -> String {
        let ours = self.programs.iter().map(|folder| format!("{}:", folder.display()));
        ours.collect::<String>() + &std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
    }

    /// A program of the cluster as this machine sees it.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        self.programs.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let programs: Vec<_> = self.programs.iter().map(|path| path.to_string_lossy()).collect();
        let value =
            json!({ "nodes": self.nodes, "proxy": self.proxy.name(), "programs": programs });
        Ok(fs::write(folder.join("cluster.json"), value.to_string())?)
    }

    pub(super) fn read(folder: &Path) -> Result<Self> {
        let value: Value = serde_json::from_str(&read(&folder.join("cluster.json"))?)?;
        let nodes = value["nodes"].as_u64().and_then(|nodes| u8::try_from(nodes).ok());
        let programs = value["programs"].as_array().context("no programs")?;
        Ok(Self {
            nodes: nodes.context("no number of nodes")?,
            proxy: match value["proxy"].as_str() {
                Some("nftables") => ProxyMode::Nftables,
                _ => ProxyMode::Iptables,
            },
            programs: programs.iter().filter_map(Value::as_str).map(PathBuf::from).collect(),
        })
    }
}

/// The address of a node.
pub(super) fn address(number: u8) -> String {
    format!("10.200.0.{number}")
}
