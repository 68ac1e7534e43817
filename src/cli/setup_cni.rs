//! `weave setup-cni`: the CNI plugin into the folders of the host (spec cni.md, section 1).

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::failure::Failure;
use super::output;
use super::remote::Remote;
use weave_api::client::ClientError;
use weave_cni::setup::{
    CHAINED, Folders, LIST, Published, Wanted, best_list, chained, install, publish,
};

/// Arguments of `weave setup-cni`.
#[derive(Debug, Args)]
pub(super) struct SetupCni {
    /// Where the runtime looks for plugins; /opt/cni/bin, or where the distribution of Kubernetes on
    /// this host has them.
    #[arg(long, value_name = "PATH", env = "WEAVE_CNI_PLUGIN_DIR")]
    bin_dir: Option<PathBuf>,
    /// Where it looks for networks; /etc/cni/net.d, or likewise.
    #[arg(long, value_name = "PATH", env = "WEAVE_CNI_CONF_DIR")]
    conf_dir: Option<PathBuf>,
    /// Where the file system of the host is mounted.
    #[arg(long, value_name = "PATH", env = "HOST_ROOT", default_value = "/")]
    host_root: PathBuf,
    /// The plugin; by default `weave-plugin` beside this program.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Whether a container reaches itself by an address that is translated on the bridge.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(env = "HAIRPIN_MODE", default_value_t = true, value_parser = weave_api::parse_bool)]
    #[arg(action = ArgAction::Set)]
    hairpin_mode: bool,
    #[command(flatten)]
    remote: Remote,
}

impl SetupCni {
    pub(super) fn run(self) -> Result<(), Failure> {
        let plugin = self.plugin.clone().map_or_else(beside, Ok)?;
        let wanted = Wanted { bin: self.bin_dir, conf: self.conf_dir };
        let folders = Folders::find(&self.host_root, &wanted);
        let Folders { bin, conf, .. } = &folders;
        if !conf.is_dir() {
            let conf = conf.display();
            return Err(Failure::failed(format!(
                "there is no folder {conf}: no container runtime on this host looks for networks"
            )));
        }
        install(&plugin, bin).map_err(|error| {
            Failure::failed(format!(
                "cannot install {} in {}: {error}",
                plugin.display(),
                bin.display()
            ))
        })?;
        // Containers that are started once the list is there have to get addresses.
        self.remote.ask(async |client| match client.get("/ipinfo/defaultsubnet", "*/*").await {
            Err(ClientError::NotFound(_)) => Err(ClientError::Refused(
                "this router gives no addresses to containers: see --ipalloc-range".to_owned(),
            )),
            other => other,
        })?;
        let chained = chained(&folders);
        for missing in CHAINED.into_iter().filter(|name| !chained.contains(name)) {
            output::complain(&format!(
                "weave: there is no plugin {missing} in {}: containers do without",
                bin.display()
            ));
        }
        let list = best_list(&folders, self.hairpin_mode);
        let published = publish(conf, &list).map_err(|error| {
            Failure::failed(format!("cannot write {LIST} in {}: {error}", conf.display()))
        })?;
        let file = conf.join(LIST);
        let file = file.display();
        match published {
            Published::Written => Ok(()),
            Published::Changed => {
                output::complain(&format!(
                    "weave: {file} was changed by somebody and stays as it is"
                ));
                Ok(())
            }
            Published::Unusable(why) => Err(Failure::failed(format!(
                "no runtime can use {file}: {why}; mend or remove it, and try again"
            ))),
        }
    }
}

fn beside() -> Result<PathBuf, Failure> {
    let failed = |error| Failure::failed(format!("cannot find myself: {error}"));
    let program = std::env::current_exe().map_err(failed)?.with_file_name("weave-plugin");
    if program.is_file() {
        Ok(program)
    } else {
        let program = program.display();
        Err(Failure::failed(format!("there is no {program}: say where with --plugin")))
    }
}
