//! The CNI plugin in the folders of the node while the router runs, and the list that makes the node
//! ready: see [`Keeper`].

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use weave_cni::setup::{Folders, Keeper, Kept, LIST, Published, Wanted};
use weave_node::Addresses;

use crate::environment::Environment;

/// Between two looks, which cost the reading of a few names: a pod that starts meanwhile is tried
/// again by the runtime.
const INTERVAL: Duration = Duration::from_secs(5);
/// The plugin, beside this program.
const PLUGIN: &str = "weave-plugin";
/// Where the manifest mounts directories of the host.
const HOST_ROOT: &str = "/host";

/// Keeps plugin and list until the future is dropped. The list comes once there are addresses.
pub(crate) async fn keep(addresses: Addresses) -> Infallible {
    let mut upkeep = match Upkeep::of(&Environment::of_process()) {
        Ok(upkeep) => upkeep,
        Err(error) => {
            tracing::warn!("[kube] the CNI plugin is not looked after: {error}");
            return pending().await;
        }
    };
    let mut interval = interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ready = pin!(addresses.ready());
    let mut is_ready = None;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            answer = &mut ready, if is_ready.is_none() => is_ready = Some(answer.is_ok()),
        }
        let looked = spawn_blocking(move || {
            let news = upkeep.look(is_ready == Some(true));
            (upkeep, news)
        });
        let Ok((again, news)) = looked.await else { return pending().await };
        upkeep = again;
        for line in news {
            tracing::info!("[kube] {line}");
        }
    }
}

/// What is kept, and what was said of it last.
struct Upkeep {
    keeper: Keeper,
    trouble: String,
}

impl Upkeep {
    fn of<F: Fn(&str) -> Option<String>>(environment: &Environment<F>) -> io::Result<Self> {
        let plugin = std::env::current_exe()?.with_file_name(PLUGIN);
        if !plugin.is_file() {
            let reason = format!("there is no {}", plugin.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        Ok(Self::with(plugin, environment))
    }

    fn with<F: Fn(&str) -> Option<String>>(plugin: PathBuf, environment: &Environment<F>) -> Self {
        let path = |name: &str| environment.text(name).map(PathBuf::from);
        let wanted = Wanted { bin: path("WEAVE_CNI_PLUGIN_DIR"), conf: path("WEAVE_CNI_CONF_DIR") };
        let root = PathBuf::from(environment.or("HOST_ROOT", HOST_ROOT));
        let hairpin = environment.or("HAIRPIN_MODE", "true") != "false";
        let keeper = Keeper::new(plugin, Folders::find(&root, &wanted), hairpin);
        Self { keeper, trouble: String::new() }
    }

    /// Looks, and returns what an operator should know.
    fn look(&mut self, is_ready: bool) -> Vec<String> {
        let folders = self.keeper.folders().clone();
        let (bin, list) = (folders.bin.display(), folders.conf.join(LIST));
        let list = list.display();
        let kept = folders.create().and_then(|()| self.keeper.look(is_ready));
        let (news, trouble) = match kept {
            Ok(Kept { restored, list: published }) => {
                let mut news = Vec::new();
                if restored {
                    news.push(format!("somebody removed the CNI plugin from {bin}: it is back"));
                }
                let trouble = match published {
                    None => self.trouble.clone(),
                    Some(Published::Written) => {
                        news.push(format!("pods can start: the network is in {list}"));
                        String::new()
                    }
                    Some(Published::Changed) => {
                        format!("{list} was changed by somebody and stays as it is")
                    }
                    Some(Published::Unusable(why)) => {
                        format!("no pod can start: no runtime can use {list}: {why}; remove it")
                    }
                };
                (news, trouble)
            }
            Err(error) => (Vec::new(), format!("the CNI plugin is not kept in {bin}: {error}")),
        };
        let is_new = trouble != self.trouble && !trouble.is_empty();
        self.trouble.clone_from(&trouble);
        news.into_iter().chain(is_new.then_some(trouble)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_node_gets_its_list_and_its_plugin_back() {
        let host = tempfile::tempdir().unwrap();
        let plugin = host.path().join("plugin");
        fs::write(&plugin, "program").unwrap();
        for folder in ["opt/cni/bin", "etc/cni/net.d"] {
            fs::create_dir_all(host.path().join(folder)).unwrap();
        }
        let variable =
            |name: &str| (name == "HOST_ROOT").then(|| host.path().display().to_string());
        let mut upkeep = Upkeep::with(plugin, &Environment(variable));
        let list = host.path().join("etc/cni/net.d").join(LIST);
        assert!(upkeep.look(false).is_empty() && !list.exists(), "there are no addresses yet");
        let news = upkeep.look(true);
        assert!(matches!(&news[..], [line] if line.starts_with("pods can start")), "{news:?}");
        assert!(list.is_file() && upkeep.look(true).is_empty());
        fs::remove_dir_all(host.path().join("opt/cni/bin")).unwrap();
        let news = upkeep.look(true);
        assert!(matches!(&news[..], [line] if line.ends_with("it is back")), "{news:?}");
        assert!(host.path().join("opt/cni/bin/weave-net").is_file());
        // What cannot be used is told of once.
        fs::remove_file(&list).unwrap();
        fs::create_dir(&list).unwrap();
        assert_eq!(upkeep.look(true).len(), 1);
        assert!(upkeep.look(true).is_empty());
    }
}
