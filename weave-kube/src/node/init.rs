//! `weave kube init`: what a node needs before its router starts. The plugin is installed here; the
//! list that makes the node ready is written by the router once it answers, so that no pod is
//! started for which there is no address yet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use weave_cni::setup::{self, Folders, Wanted};

use super::{modules, tell};
use crate::environment::Environment;
use crate::error::CommandError;
use crate::settings::HOST_ROOT;

/// The plugin, beside this program.
const PLUGIN: &str = "weave-plugin";

/// What pods send to a service by way of the bridge has to pass the rules of kube-proxy.
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// The module that has this setting.
const BRIDGED_MODULE: &str = "br_netfilter";

/// Prepares the node: kernel modules and settings, and the CNI plugin.
#[derive(Debug, Args)]
pub(crate) struct Init {}

impl Init {
    /// Does it. A kernel that lacks something is told of; pods may do without.
    ///
    /// # Errors
    /// The plugin cannot be installed.
    pub(crate) fn run(self) -> Result<(), CommandError> {
        let (root, wanted) = places(&Environment::of_process());
        pass_bridged(Path::new(BRIDGED));
        let folders = Folders::find(&root, &wanted);
        let failed = |error: io::Error| {
            CommandError::Failed(format!("cannot install the CNI plugin: {error}"))
        };
        let plugin = std::env::current_exe().map_err(failed)?.with_file_name(PLUGIN);
        for line in install(&plugin, &folders).map_err(failed)? {
            tell(line);
        }
        Ok(())
    }
}

/// Where the host is, and the folders of its runtime that somebody named.
pub(super) fn places<F: Fn(&str) -> Option<String>>(
    environment: &Environment<F>,
) -> (PathBuf, Wanted) {
    let path = |name: &str| environment.text(name).map(PathBuf::from);
    let wanted = Wanted { bin: path("WEAVE_CNI_PLUGIN_DIR"), conf: path("WEAVE_CNI_CONF_DIR") };
    (environment.or("HOST_ROOT", HOST_ROOT).into(), wanted)
}

/// Installs the plugin, and says what an operator has to know.
fn install(plugin: &Path, folders: &Folders) -> io::Result<Vec<String>> {
    folders.create()?;
    let in_folder = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", folders.bin.display()))
    };
    setup::install(plugin, &folders.bin).map_err(in_folder)?;
    let mut lines = vec![format!(
        "the plugin is in {}; the network will be in {}",
        folders.bin.display(),
        folders.conf.display()
    )];
    if !setup::chained(folders).contains(&setup::CHAINED[0]) {
        lines.push(format!(
            "there is no plugin {} in {}: host ports of pods have no effect",
            setup::CHAINED[0],
            folders.bin.display()
        ));
    }
    for rival in setup::rivals(&folders.conf)? {
        lines.push(format!(
            "pods are not on this network while there is {}: remove it, or the network it is of",
            folders.conf.join(rival).display()
        ));
    }
    Ok(lines)
}

/// Lets bridged packets pass the rules of the host.
fn pass_bridged(setting: &Path) {
    if !setting.exists()
        && let Err(error) = modules::load(BRIDGED_MODULE)
    {
        tell(format_args!(
            "module {BRIDGED_MODULE} is not there, and pods on one node may not reach each other by \
             services; load it on the node: {error}"
        ));
    }
    match fs::read_to_string(setting) {
        Ok(value) if value.trim() == "1" => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => {
            if let Err(error) = fs::write(setting, "1") {
                tell(format_args!("{} cannot be set to 1: {error}", setting.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_is_installed_and_the_network_is_not() {
        let root = tempfile::tempdir().unwrap();
        let plugin = root.path().join("plugin");
        fs::write(&plugin, "program").unwrap();
        let variable =
            |name: &str| (name == "HOST_ROOT").then(|| root.path().display().to_string());
        let (host, wanted) = places(&Environment(variable));
        let folders = Folders::find(&host, &wanted);
        let lines = install(&plugin, &folders).unwrap();
        assert!(setup::is_installed(&root.path().join("opt/cni/bin")));
        assert_eq!(fs::read_dir(root.path().join("etc/cni/net.d")).unwrap().count(), 0);
        assert!(lines[1].contains("no plugin portmap"), "{lines:?}");

        fs::write(root.path().join("opt/cni/bin/portmap"), "").unwrap();
        fs::write(root.path().join("etc/cni/net.d/05-cilium.conflist"), "{}").unwrap();
        let lines = install(&plugin, &folders).unwrap();
        assert!(lines[1].contains("05-cilium.conflist"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn bridged_packets_pass_the_rules() {
        let folder = tempfile::tempdir().unwrap();
        let setting = folder.path().join("setting");
        for before in ["0\n", "1\n"] {
            fs::write(&setting, before).unwrap();
            pass_bridged(&setting);
            assert_eq!(fs::read_to_string(&setting).unwrap().trim(), "1");
        }
    }
}
